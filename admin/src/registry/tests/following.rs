//! Other processes' writes, a store that is not there, and what is served without one.
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::*;
use ObjectKind::Backend;

fn follower(path: &Path, plane: &Arc<Plane>) -> Registry {
    let store = Store::open(path, Role::Follower);
    let plane = Arc::clone(plane);
    Registry::open(store, path, vault(), base(FILE), Some(plane), compile()).unwrap()
}

#[tokio::test]
async fn a_follower_takes_over_what_a_writer_stores() {
    let world = World::new(FILE);
    let plane = Arc::new(Plane::default());
    let other = follower(&world.path(), &plane);
    other.follow(Duration::from_millis(5), || Err(StoreError::Missing)).unwrap();
    let mut one = backend("b");
    one.insert("api_key".into(), json!("sk-sealed-by-another"));
    world.registry.create(Backend, one, by()).await.unwrap();
    until("the other plane's backend", || plane.last().backends.len() == 3);
    let key = plane.last().backends[2].api_key.clone().unwrap();
    assert_eq!(key.expose(), "sk-sealed-by-another");
    let refused = other.create(Backend, backend("c"), by()).await.unwrap_err();
    assert!(matches!(refused, RegistryError::Follower), "{refused}");
    // What is no change of the registry is not published again.
    let published = plane.specs.lock().unwrap().len();
    let store = world.registry.store().unwrap();
    store.write(|tx| tx.add_event(1, "x", "y", &Value::Null)).await.unwrap_or(0);
    world.registry.delete(Backend, "b", by()).await.unwrap();
    until("its end", || plane.last().backends.len() == 2);
    assert_eq!(plane.specs.lock().unwrap().len(), published + 1);
}

#[tokio::test]
async fn a_plane_waits_for_a_store_that_does_not_exist_yet() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.db");
    let plane = Arc::new(Plane::default());
    let waiting = follower(&path, &plane);
    assert!(waiting.degraded().unwrap().contains("no last good state"));
    let at = path.clone();
    let reopen = move || Store::open(&at, Role::Follower);
    waiting.follow(Duration::from_millis(5), reopen).unwrap();
    let writer = open(&path, FILE, &Arc::new(Plane::default()));
    writer.create(Backend, backend("b"), by()).await.unwrap();
    until("the backend", || plane.last().backends.len() == 3);
    until("the end of the notice", || waiting.degraded().is_none());
}

#[tokio::test]
async fn the_last_good_state_stands_in_for_a_store_that_is_gone() {
    let world = World::new(FILE);
    let mut one = backend("b");
    one.insert("api_key".into(), json!("sk-upstream-1"));
    world.registry.create(Backend, one, by()).await.unwrap();
    let weight = body(&json!({"weight": 4}));
    world.registry.set_override(Backend, "file-1", weight, by()).await.unwrap();
    let kept = world.folder.path().join("f.db.lastgood");
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);

    let plane = Arc::new(Plane::default());
    let publish: Arc<dyn Publish> = Arc::<Plane>::clone(&plane);
    let gone = Err(StoreError::Corrupt("a page".into()));
    let cold =
        Registry::open(gone, &world.path(), vault(), base(FILE), Some(publish), compile()).unwrap();
    assert!(cold.degraded().unwrap().contains("last good"));
    let spec = plane.last();
    assert_eq!(spec.backends[0].weight, 4);
    assert_eq!(spec.backends[2].api_key.as_ref().unwrap().expose(), "sk-upstream-1");
    let refused = cold.create(Backend, backend("c"), by()).await.unwrap_err();
    assert!(matches!(refused, RegistryError::Store(StoreError::Corrupt(_))), "{refused}");
    // A file reloads all the same.
    cold.set_base(base(&FILE.replace("http://f1", "http://new"))).unwrap();
    assert_eq!(plane.last().backends[0].url, "http://new");
    assert_eq!(plane.last().backends.len(), 3);

    // A damaged one is not half believed.
    let text = std::fs::read_to_string(&kept).unwrap().replacen("http://b", "http://evil", 1);
    std::fs::write(&kept, text).unwrap();
    let plane = Arc::new(Plane::default());
    let publish: Arc<dyn Publish> = Arc::<Plane>::clone(&plane);
    let gone = Err(StoreError::Missing);
    let cold =
        Registry::open(gone, &world.path(), vault(), base(FILE), Some(publish), compile()).unwrap();
    assert!(cold.degraded().unwrap().contains("cannot be read"));
    assert_eq!(plane.last().backends.len(), 2);
}

#[tokio::test]
async fn a_follower_sees_that_a_backup_was_put_in_the_store_s_place() {
    let world = World::new(FILE);
    world.registry.create(Backend, backend("b"), by()).await.unwrap();
    let backup = world.registry.store().unwrap().backup().await.unwrap();
    world.registry.create(Backend, backend("c"), by()).await.unwrap();
    let plane = Arc::new(Plane::default());
    let other = follower(&world.path(), &plane);
    let at = world.path();
    other.follow(Duration::from_millis(5), move || Store::open(&at, Role::Follower)).unwrap();
    assert_eq!(plane.last().backends.len(), 4);
    let path = world.path();
    let World { folder, registry, .. } = world;
    drop(registry);
    // As docs/store.md says it.
    for beside in ["f.db-wal", "f.db-shm"] {
        let _ = std::fs::remove_file(folder.path().join(beside));
    }
    let new = folder.path().join("f.db.new");
    std::fs::copy(backup, &new).unwrap();
    std::fs::rename(&new, &path).unwrap();
    let writer = open(&path, FILE, &Arc::new(Plane::default()));
    until("what the backup holds", || plane.last().backends.len() == 3);
    writer.create(Backend, backend("d"), by()).await.unwrap();
    until("what is written after it", || plane.last().backends.len() == 4);
    assert_eq!(plane.last().backends[3].name.as_str(), "d");
    assert_eq!(other.degraded(), None);
}
