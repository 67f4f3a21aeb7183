//! The file always loads; what is stored gives way, says why, and comes back.
use super::*;
use ObjectKind::{Backend, Head, Model};

const SECOND: &str = "[[backend]]\nname = \"b\"\nkind = \"ollama\"\nurl = \"http://of-the-file\"\n";

async fn events(registry: &Registry) -> Vec<String> {
    let store = registry.store().unwrap();
    let read = store.read(|tx| tx.events(0, 100, &Default::default()));
    let events: Vec<crate::store::StoredEvent> = read.await.unwrap();
    let events = events.iter().filter(|event| event.kind != "registry.changed");
    events.map(|event| format!("{} {}", event.kind, event.subject)).collect()
}

#[tokio::test]
async fn a_name_that_the_file_takes_is_the_files() {
    let world = World::new(FILE);
    let registry = &world.registry;
    let made = registry.create(Backend, backend("b"), by()).await.unwrap().object.unwrap();
    let head = body(&json!({"name": "h", "region": "eu", "backends": ["b"]}));
    registry.create(Head, head, by()).await.unwrap();

    let applied = registry.set_base(base(&format!("{FILE}{SECOND}"))).unwrap();
    let names: Vec<&str> = applied.conflicts.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["b"]);
    let spec = world.plane.last();
    let urls: Vec<&str> = spec.backends.iter().map(|backend| backend.url.as_str()).collect();
    assert_eq!(urls, ["http://f1", "http://f2", "http://of-the-file"]);
    // The head means the file's now.
    assert_eq!(spec.heads.len(), 3);
    assert!(world.object(Backend, "b").disabled.is_none());
    let disabled = world.object(Backend, &made.id);
    let why = disabled.disabled.unwrap();
    assert_eq!((why.code, why.pointer.as_str()), ("duplicate-name", "/name"));
    assert!(why.detail.contains("f.toml:"), "{}", why.detail);
    let store = registry.store().unwrap();
    let id = made.id.clone();
    let stored = store.read(move |tx| tx.object(Backend, &id)).await.unwrap();
    let stored: crate::store::StoredObject = stored.unwrap();
    assert!(stored.disabled.unwrap().contains("two backends"));

    let applied = registry.set_base(base(FILE)).unwrap();
    assert_eq!(applied.conflicts, []);
    assert_eq!(world.object(Backend, "b").etag, made.etag);
    assert_eq!(events(registry).await, ["registry.disabled b", "registry.enabled b"]);
}

#[tokio::test]
async fn what_lost_its_ground_gives_way_in_turn() {
    let world = World::new(FILE);
    let registry = &world.registry;
    let head = body(&json!({"name": "h", "region": "us", "backends": ["file-2"]}));
    registry.create(Head, head, by()).await.unwrap();
    let model = body(&json!({"name": "m", "heads": ["h"]}));
    registry.create(Model, model, by()).await.unwrap();
    registry.set_region("file-m", "us", by()).await.unwrap();
    let weight = body(&json!({"weight": 3}));
    registry.set_override(Backend, "file-2", weight, by()).await.unwrap();

    // Without the second backend and its head: the head falls, then the model that names it, and both overrides.
    let end = FILE.find("[[model]]").unwrap();
    let short = format!(
        "{}{}",
        &FILE[..FILE.find("[[backend]]\nname = \"file-2\"").unwrap()],
        FILE[end..].replace("[[model]]\nname = \"file-m\"", "[[model]]\nname = \"other\"")
    )
    .replace("priority_head = \"h-eu\"\n", "")
    .replace("regions = [\"us\"]\n", "");
    let applied = registry.set_base(base(&short)).unwrap();
    let found: Vec<String> = applied
        .conflicts
        .iter()
        .map(|one| format!("{} {} {}", one.kind, one.name, one.id.is_some()))
        .collect();
    assert_eq!(
        found,
        ["backend file-2 false", "model file-m false", "model m true", "head h true"]
    );
    assert_eq!(world.plane.last().backends.len(), 1);
    // A write still goes through, and does not trip over what was wrong before.
    registry.create(Backend, backend("c"), by()).await.unwrap();
    assert_eq!(registry.set_base(base(FILE)).unwrap().conflicts, []);
    assert_eq!(world.plane.last().backends[1].weight, 3);
}

#[tokio::test]
async fn an_override_that_makes_the_file_wrong_is_to_blame() {
    let world = World::new(FILE);
    let registry = &world.registry;
    registry.set_region("file-m", "us", by()).await.unwrap();
    let strict = FILE.replace("regions = [\"us\"]", "residency = \"strict\"");
    let applied = registry.set_base(base(&strict)).unwrap();
    assert_eq!(applied.conflicts.len(), 1);
    assert_eq!((applied.conflicts[0].kind, &applied.conflicts[0].id), (Model, &None));
    assert_eq!(world.plane.last().models[0].region.as_ref().unwrap().as_str(), "eu");
}
