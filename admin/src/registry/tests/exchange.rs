//! Export, import, versions, differences and the way back.
use std::io;

use super::*;
use ObjectKind::{Backend, Key, Model};

/// The files of an export's placeholders.
struct Files;

impl config::Environment for Files {
    fn var(&self, _: &str) -> Option<String> {
        None
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let name = path.display().to_string();
        match name.strip_prefix("secrets/") {
            Some("key-team-secret_sha256") => Ok("ab".repeat(32)),
            Some(_) => Ok("sk-from-a-file-of-its-own".into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn list(&self, _: &Path) -> io::Result<Option<Vec<PathBuf>>> {
        Ok(None)
    }
}

async fn filled() -> World {
    let world = World::new(FILE);
    let registry = &world.registry;
    let mut one = backend("b");
    one.insert("api_key".into(), json!("sk-upstream-credential-1"));
    one.insert("metadata".into(), json!({"note": "costs ${5}, \"quoted\"\n${file:secrets/x}"}));
    one.insert("timeouts".into(), json!({"idle": "90s"}));
    registry.create(Backend, one, by()).await.unwrap();
    let deployments = json!({"b": {"api_key": "sk-deployment-1", "weight": 2}, "file-1": "up"});
    let model = body(&json!({"name": "org/m:1b", "deployments": deployments, "cache": true}));
    registry.create(Model, model, by()).await.unwrap();
    registry.create(Key, body(&json!({"name": "team", "burst": 3})), by()).await.unwrap();
    registry.set_region("file-m", "us", by()).await.unwrap();
    world
}

#[tokio::test]
async fn an_export_is_a_file_that_loads_and_comes_in_again_unchanged() {
    let world = filled().await;
    let text = world.registry.export();
    let loaded = config::load_text("export.toml", &text, Path::new(""), &Files);
    let loaded = loaded.map_err(|report| report.to_json() + &text).unwrap();
    let mut spec = loaded.config.snapshot;
    let mut own = world.plane.last();
    for backend in spec.backends.iter_mut().chain(&mut own.backends) {
        assert_eq!(backend.api_key.is_some(), backend.name.as_str() != "file-2");
        backend.api_key = None;
    }
    for model in spec.models.iter_mut().chain(&mut own.models) {
        model.deployments.iter_mut().for_each(|one| one.api_key = None);
    }
    // An export is in the order of names.
    own.backends.sort_by(|a, b| a.name.cmp(&b.name));
    own.models.sort_by(|a, b| a.name.cmp(&b.name));
    own.heads.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(spec.backends, own.backends);
    assert_eq!(spec.models, own.models);
    assert_eq!(spec.heads, own.heads);
    assert_eq!(spec.regions, own.regions);
    assert_eq!(loaded.config.metadata, world.registry.desired().config().metadata);

    let versions = world.registry.versions(10, None).await.unwrap().len();
    let imported = world.registry.import(text, false, by()).await.unwrap();
    assert_eq!((imported.changes, imported.written.is_none()), (Vec::new(), true));
    assert_eq!(world.registry.versions(10, None).await.unwrap().len(), versions);
}

#[tokio::test]
async fn an_import_is_all_or_nothing_and_can_be_tried() {
    let world = filled().await;
    let text = world.registry.export();
    let text = text
        .replace("idle = \"90s\"", "idle = \"80s\"")
        .replace("\"idle\" = \"90s\"", "idle = \"80s\"");
    let more = format!(
        "{text}\n[[backend]]\nname = \"new\"\nkind = \"vllm\"\nurl = \"http://new\"\nweight = 2\n"
    );
    let tried = world.registry.import(more.clone(), true, by()).await.unwrap();
    assert_eq!(tried.changes, ["change backend \"b\"", "create backend \"new\""]);
    assert!(world.registry.object(Backend, "new", &catalog()).is_none());

    let wrong = more.replace("weight = 2\n\n", "").replace("http://new", "ftp://new");
    let refused = world.registry.import(wrong, false, by()).await.unwrap_err();
    assert!(
        matches!(&refused, RegistryError::Invalid(problems) if problems.iter().any(|p| p.code == "bad-url")),
        "{refused}"
    );
    let of_file = more.replace("http://f1", "http://elsewhere");
    let refused = world.registry.import(of_file, false, by()).await.unwrap_err();
    assert!(matches!(refused, RegistryError::ReadOnly { .. }), "{refused}");
    let unknown = format!("{more}api_key = \"${{file:secrets/backend-new-api_key}}\"\n");
    let refused = world.registry.import(unknown, false, by()).await.unwrap_err();
    let RegistryError::Invalid(problems) = &refused else { unreachable!("{refused}") };
    assert_eq!(problems[0].pointer, "/backend/3/api_key");
    let environment = format!("{more}api_key = \"${{HOME}}\"\n");
    assert!(world.registry.import(environment, false, by()).await.is_err());
    assert!(world.registry.object(Backend, "new", &catalog()).is_none());

    let done = world.registry.import(more, false, by()).await.unwrap();
    assert!(done.written.is_some());
    let spec = world.plane.last();
    let b = spec.backends.iter().find(|backend| backend.name.as_str() == "b").unwrap();
    assert_eq!(b.timeouts.idle, Some(std::time::Duration::from_secs(80)));
    assert_eq!(b.api_key.as_ref().unwrap().expose(), "sk-upstream-credential-1");
    assert_eq!(spec.backends.len(), 4);
}

#[tokio::test]
async fn every_version_can_be_compared_and_restored_exactly() {
    let world = World::new(FILE);
    let registry = &world.registry;
    let mut rng = fastrand::Rng::with_seed(7);
    let mut kept: Vec<(u64, Vec<Body>)> = Vec::new();
    let look = |registry: &Registry| -> Vec<Body> {
        let kinds = ObjectKind::ALL.into_iter();
        kinds.flat_map(|kind| registry.objects(kind, &Catalog::new())).map(|o| o.body).collect()
    };
    for round in 0..60 {
        let name = ["a", "b", "c"][rng.usize(..3)];
        let written = match rng.u8(..6) {
            0 | 1 => registry.create(Backend, backend(name), by()).await,
            2 => {
                let patch =
                    json!({"weight": rng.u32(1..9), "api_key": format!("sk-upstream-{round}")});
                registry.patch(Backend, name, body(&patch), by()).await
            }
            3 => registry.delete(Backend, name, by()).await,
            4 => {
                let over = body(&json!({"weight": rng.u32(1..9)}));
                registry.set_override(Backend, "file-1", over, by()).await
            }
            _ if kept.is_empty() => continue,
            _ => {
                let (number, bodies) = kept[rng.usize(..kept.len())].clone();
                let written = registry.rollback(number, by()).await;
                assert_eq!(look(registry), bodies, "version {number}");
                written
            }
        };
        match written {
            Ok(written) => kept.push((written.version, look(registry))),
            Err(RegistryError::Exists { .. } | RegistryError::NotFound { .. }) => {}
            Err(error) => unreachable!("{error}"),
        }
    }
    assert!(kept.len() > 20, "{}", kept.len());
    let diff = registry.diff(kept[0].0, kept[kept.len() - 1].0).await.unwrap();
    assert!(diff.starts_with("--- version "), "{diff}");
    assert_eq!(registry.diff(3, 3).await.unwrap(), "");
    let missing = registry.rollback(4711, by()).await.unwrap_err();
    assert!(matches!(missing, RegistryError::NotFound { .. }));
    // A second process finds the same.
    let again = open(&world.path(), FILE, &Arc::new(Plane::default()));
    assert_eq!(look(&again), look(registry));
}
