//! What each write does, refuses and leaves as it was.
use super::*;
use ObjectKind::{Backend, Head, Key, Model, Region};

#[tokio::test]
async fn an_object_lives_from_post_to_delete() {
    let world = World::new(FILE);
    let registry = &world.registry;
    let made = registry.create(Backend, backend("b"), by()).await.unwrap();
    let object = made.object.unwrap();
    assert_eq!((object.origin.as_str(), made.version, made.applied), ("stored", 1, Some(2)));
    assert_eq!(world.plane.last().backends.len(), 3);
    assert_eq!(world.object(Backend, &object.id), object);

    let patch = body(&json!({"weight": 5, "labels": {"gpu": "h100"}}));
    let patched = registry.patch(Backend, "b", patch, when(&object)).await.unwrap().object.unwrap();
    assert_eq!(patched.body["weight"], 5);
    assert_ne!(patched.etag, object.etag);
    assert_eq!(world.plane.last().backends[2].weight, 5);
    // The tag that was read first is stale now.
    let stale = registry.delete(Backend, "b", when(&object)).await.unwrap_err();
    assert!(matches!(stale, RegistryError::Stale { etag } if etag == patched.etag));

    let replaced = registry.replace(Backend, "b", backend("b"), when(&patched)).await.unwrap();
    assert!(replaced.object.unwrap().body.get("weight").is_none());
    registry.delete(Backend, "b", by()).await.unwrap();
    assert!(registry.object(Backend, "b", &catalog()).is_none());
    assert_eq!(world.plane.last().backends.len(), 2);
    assert_eq!(registry.versions(10, None).await.unwrap().len(), 4);
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_pointers_and_changes_nothing() {
    let world = World::new(FILE);
    let registry = &world.registry;
    let mut wrong = backend("b");
    wrong.insert("timeouts".into(), json!({"first_event": "9 parsecs"}));
    wrong.insert("wieght".into(), json!(3));
    let refused = registry.create(Backend, wrong, by()).await.unwrap_err();
    let RegistryError::Invalid(problems) = refused else { unreachable!("{refused}") };
    let mut found: Vec<(&str, &str)> =
        problems.iter().map(|problem| (problem.pointer.as_str(), problem.code)).collect();
    found.sort_unstable();
    assert_eq!(found, [("/timeouts/first_event", "wrong-value"), ("/wieght", "unknown-key")]);
    let taken = registry.create(Backend, backend("file-1"), by()).await.unwrap_err();
    assert!(matches!(taken, RegistryError::Exists { .. }), "{taken}");
    let alias = body(&json!({"name": "x", "aliases": ["file-m"]}));
    let taken = registry.create(Model, alias, by()).await.unwrap_err().to_string();
    assert!(taken.contains("f.toml:"), "{taken}");
    assert_eq!(registry.versions(10, None).await.unwrap(), []);
    assert_eq!(world.plane.specs.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn file_objects_take_overrides_and_nothing_else() {
    let world = World::new(FILE);
    let registry = &world.registry;
    let model = world.object(Model, "file-m");
    assert!(
        matches!(&model.origin, Origin::File { file, line: 23 } if file == "f.toml"),
        "{model:?}"
    );
    let moved = registry.set_region("file-m", "us", when(&model)).await.unwrap().object.unwrap();
    assert_eq!(moved.overrides, Some(body(&json!({"region": "us"}))));
    assert_eq!(moved.body["region"], "us");
    assert_eq!(world.plane.last().models[0].region.as_ref().unwrap().as_str(), "us");
    assert!(registry.effective().contains("region = \"us\"  # override by ann"));

    let headed = registry.set_priority_head("file-m", "h-us", when(&moved)).await.unwrap();
    assert_eq!(headed.object.unwrap().body["priority_head"], "h-us");
    let refused =
        registry.patch(Model, "file-m", body(&json!({"aliases": ["y"]})), by()).await.unwrap_err();
    assert!(matches!(refused, RegistryError::ReadOnly { line: 23, .. }), "{refused}");
    assert!(matches!(
        registry.delete(Model, "file-m", by()).await.unwrap_err(),
        RegistryError::ReadOnly { .. }
    ));

    let clear = registry.clear_override(Model, "file-m", by()).await.unwrap().object.unwrap();
    assert_eq!((clear.body, clear.overrides, clear.etag), (model.body, None, model.etag));
    let weight = body(&json!({"weight": 9, "draining": true}));
    registry.set_override(Backend, "file-1", weight, by()).await.unwrap();
    let spec = world.plane.last();
    assert_eq!((spec.backends[0].weight, spec.backends[0].draining), (9, true));
}

#[tokio::test]
async fn a_head_outside_of_the_regions_is_refused_with_those_that_would_do() {
    let world = World::new(FILE);
    let registry = &world.registry;
    let model = body(&json!({"name": "m", "region": "eu"}));
    registry.create(Model, model, by()).await.unwrap();
    let refused = registry.set_priority_head("m", "h-us", by()).await.unwrap_err();
    let RegistryError::Invalid(problems) = refused else { unreachable!("{refused}") };
    assert_eq!(problems[0].pointer, "/priority_head");
    assert!(problems[0].detail.ends_with("heads that would do: h-eu"), "{}", problems[0].detail);
    registry.set_priority_head("m", "h-eu", by()).await.unwrap();
}

#[tokio::test]
async fn discovered_models_are_listed_and_declared_by_a_change() {
    let world = World::new(FILE);
    let registry = &world.registry;
    let names: Vec<String> = registry
        .objects(Model, &catalog())
        .into_iter()
        .map(|model| format!("{} {}", model.name, model.origin.as_str()))
        .collect();
    assert_eq!(names, ["file-m file", "found/model:1b discovered"]);
    let found = world.object(Model, "found/model:1b");
    registry.set_region("found/model:1b", "us", when(&found)).await.unwrap();
    let declared = world.object(Model, "found/model:1b");
    assert_eq!((declared.origin, &declared.body["region"]), (Origin::Stored, &json!("us")));
    assert_eq!(registry.objects(Model, &catalog()).len(), 2);
    registry.delete(Model, "found/model:1b", by()).await.unwrap();
    assert_eq!(world.object(Model, "found/model:1b").origin, Origin::Discovered);
}

#[tokio::test]
async fn what_is_referred_to_stays() {
    let world = World::new(FILE);
    let registry = &world.registry;
    registry.create(Region, body(&json!({"name": "eu"})), by()).await.unwrap();
    registry.create(Backend, backend("b"), by()).await.unwrap();
    let head = body(&json!({"name": "h", "region": "eu", "backends": ["b"]}));
    registry.create(Head, head, by()).await.unwrap();
    let refused = registry.delete(Backend, "b", by()).await.unwrap_err();
    assert!(
        matches!(&refused, RegistryError::Referenced { by } if *by == ["head \"h\""]),
        "{refused}"
    );
    let refused = registry.delete(Region, "eu", by()).await.unwrap_err();
    assert!(matches!(&refused, RegistryError::Referenced { by } if by.len() == 2), "{refused}");
    registry.delete(Head, "h", by()).await.unwrap();
    registry.delete(Backend, "b", by()).await.unwrap();
}

#[tokio::test]
async fn credentials_are_kept_by_silence_and_removed_by_null() {
    let world = World::new(FILE);
    let registry = &world.registry;
    let mut with_key = backend("b");
    with_key.insert("api_key".into(), json!("sk-upstream-credential-1"));
    let made = registry.create(Backend, with_key, by()).await.unwrap().object.unwrap();
    assert_eq!(made.body["api_key"]["last4"], "al-1");
    let key = || world.plane.last().backends[2].api_key.clone();
    assert_eq!(key().unwrap().expose(), "sk-upstream-credential-1");
    registry.patch(Backend, "b", body(&json!({"weight": 2})), by()).await.unwrap();
    assert!(key().is_some());
    registry.replace(Backend, "b", backend("b"), by()).await.unwrap();
    assert!(key().is_some());
    // As it is shown it can be sent back.
    registry.replace(Backend, "b", made.body.clone(), by()).await.unwrap();
    assert!(key().is_some());
    registry.patch(Backend, "b", body(&json!({"api_key": null})), by()).await.unwrap();
    assert!(key().is_none());
    // The version before has it still.
    let versions = registry.versions(10, None).await.unwrap();
    registry.rollback(versions[1].number, by()).await.unwrap();
    assert_eq!(key().unwrap().expose(), "sk-upstream-credential-1");
    // Nobody can refer to another's credential.
    let stolen = body(&json!({"api_key": {"$sealed": "sec_x"}}));
    let refused = registry.patch(Backend, "b", stolen, by()).await.unwrap_err();
    assert!(matches!(refused, RegistryError::Invalid(_)), "{refused}");
}

#[tokio::test]
async fn without_a_master_key_no_credential_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.db");
    let store = Store::open(&path, Role::Writer);
    let registry =
        Registry::open(store, &path, Vault::none(), base(FILE), None, compile()).unwrap();
    let mut with_key = backend("b");
    with_key.insert("api_key".into(), json!("sk-upstream"));
    let refused = registry.create(Backend, with_key, by()).await.unwrap_err();
    assert!(matches!(refused, RegistryError::NoMasterKey), "{refused}");
    let made = registry.create(Backend, backend("b"), by()).await.unwrap();
    assert_eq!(made.applied, None);
}

#[tokio::test]
async fn a_key_is_made_once_and_open_access_has_to_be_said_from_then_on() {
    let world = World::new(FILE);
    let registry = &world.registry;
    let key = body(&json!({"name": "team-a"}));
    let made = registry.create(Key, key.clone(), by()).await.unwrap();
    let secret = made.secret.unwrap();
    assert!(secret.expose().starts_with("fb-") && secret.expose().len() > 40);
    let loaded = registry.desired();
    let sha = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret.expose().as_bytes());
    let config::KeySecret::Sha256(kept) = &loaded.config().keys[0].secret else { unreachable!() };
    assert_eq!(kept, sha.as_ref());
    let again = registry.replace(Key, "team-a", key, by()).await.unwrap();
    assert!(again.secret.is_none());
    let rotated = registry.rotate_key("team-a", by()).await.unwrap();
    assert_ne!(rotated.secret.unwrap().expose(), secret.expose());
    registry.delete(Key, "team-a", by()).await.unwrap();
    let unsaid = FILE.replace("[auth]\nmode = \"open\"\n", "");
    let refused = registry.set_base(base(&unsaid)).unwrap_err();
    assert!(matches!(refused, RegistryError::AuthUnsaid), "{refused}");
}

#[tokio::test]
async fn what_no_data_plane_takes_is_taken_back() {
    let world = World::new(FILE);
    let registry = &world.registry;
    registry.create(Backend, backend("a"), by()).await.unwrap();
    world.plane.refuses.store(true, Ordering::Relaxed);
    let refused = registry.create(Backend, backend("b"), by()).await.unwrap_err();
    assert!(matches!(refused, RegistryError::Publish(_)), "{refused}");
    world.plane.refuses.store(false, Ordering::Relaxed);
    assert!(registry.object(Backend, "b", &catalog()).is_none());
    let again = open(&world.path(), FILE, &Arc::new(Plane::default()));
    assert!(again.object(Backend, "b", &catalog()).is_none());
    assert!(again.object(Backend, "a", &catalog()).is_some());
    registry.create(Backend, backend("b"), by()).await.unwrap();
}
