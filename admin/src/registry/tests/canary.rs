//! A credential that came in comes out of nothing but the plane's own spec.
use super::*;

const CANARIES: [&str; 3] =
    ["sk-canary-backend-4711", "sk-canary-deployment-4712", "sk-of-the-file"];

#[tokio::test]
async fn no_text_and_no_file_holds_a_credential() {
    let world = World::new(FILE);
    let registry = &world.registry;
    let mut one = backend("b");
    one.insert("api_key".into(), json!(CANARIES[0]));
    let deployed = json!({"b": {"api_key": CANARIES[1]}});
    let model = body(&json!({"name": "m/1", "region": "eu", "deployments": deployed}));
    let mut said = Vec::new();
    let made = registry.create(ObjectKind::Backend, one.clone(), by()).await.unwrap();
    said.push(format!("{made:?}"));
    said.push(format!("{:?}", registry.create(ObjectKind::Model, model, by()).await.unwrap()));
    let key = body(&json!({"name": "k"}));
    let made = registry.create(ObjectKind::Key, key, by()).await.unwrap();
    said.push(format!("{made:?}"));
    let secret = made.secret.unwrap();
    // Refusals, too.
    one.insert("url".into(), json!(format!("http://{}@x", CANARIES[0])));
    said.push(registry.replace(ObjectKind::Backend, "b", one, by()).await.unwrap_err().to_string());
    let wrong = body(&json!({"api_key": [CANARIES[0]]}));
    said.push(registry.patch(ObjectKind::Backend, "b", wrong, by()).await.unwrap_err().to_string());

    // The plane did get them.
    let spec = world.plane.last();
    let got = spec.backends[2].api_key.as_ref().map(|key| key.expose().to_owned());
    assert_eq!(got.as_deref(), Some(CANARIES[0]));
    let deployed = spec.models[1].deployments[0].api_key.as_ref();
    assert_eq!(deployed.map(|key| key.expose()), Some(CANARIES[1]));

    said.extend([registry.export(), registry.effective(), format!("{:?}", registry.desired())]);
    for kind in ObjectKind::ALL {
        said.push(format!("{:?}", registry.objects(kind, &catalog())));
    }
    let versions = registry.versions(100, None).await.unwrap();
    for version in &versions {
        said.push(format!("{:?}", registry.version(version.number).await.unwrap()));
    }
    said.push(registry.diff(1, versions[0].number).await.unwrap());
    let store = registry.store().unwrap();
    let kept = store.read(|tx| {
        let audit = tx.audit(&Default::default(), 100, None)?;
        let events = tx.events(0, 100, &Default::default())?;
        let version = tx.version(3)?.map(|version| version.state);
        Ok::<_, StoreError>(format!("{audit:?} {events:?} {version:?}"))
    });
    said.push(kept.await.unwrap());
    let canaries = [CANARIES[0], CANARIES[1], CANARIES[2], secret.expose()];
    for text in &said {
        for canary in canaries {
            assert!(!text.contains(canary), "{canary} is in {text}");
        }
    }
    let files = files(world.folder.path());
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        for canary in canaries {
            let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!found, "{canary} is in {}", file.display());
        }
    }
}

#[tokio::test]
async fn a_reference_opens_nowhere_but_in_its_own_field() {
    let world = World::new(FILE);
    let registry = &world.registry;
    let mut one = backend("b");
    one.insert("api_key".into(), json!(CANARIES[0]));
    registry.create(ObjectKind::Backend, one, by()).await.unwrap();
    let version = registry.versions(1, None).await.unwrap()[0].number;
    // Versions name it, for whoever reads them.
    let text = registry.version(version).await.unwrap().1;
    let id = text.split([' ', '}', '"']).find(|word| word.starts_with("sec_")).unwrap().to_owned();
    let stolen = json!({"$sealed": id});
    let mut thief = backend("thief");
    thief.insert("labels".into(), json!({"x": stolen}));
    let made = registry.create(ObjectKind::Backend, thief, by()).await;
    assert!(matches!(made, Err(RegistryError::Invalid(_))), "{made:?}");
    let model = body(&json!({"name": "m", "region": "eu", "upstream_model": stolen}));
    let made = registry.create(ObjectKind::Model, model, by()).await;
    assert!(matches!(made, Err(RegistryError::Invalid(_))), "{made:?}");
    let over = body(&json!({"region": stolen}));
    let made = registry.set_override(ObjectKind::Model, "file-m", over, by()).await;
    assert!(matches!(made, Err(RegistryError::Invalid(_))), "{made:?}");
    let import = format!(
        "[[backend]]\nname = \"b\"\nkind = \"vllm\"\nurl = \"http://b\"\nregion = \"eu\"\n\
         labels = {{ x = \"${{file:secrets/{id}}}\" }}\n"
    );
    let made = registry.import(import, false, by()).await;
    assert!(matches!(made, Err(RegistryError::Invalid(_))), "{made:?}");
    let spec = format!("{:?}", world.plane.last());
    assert!(!spec.contains(CANARIES[0]) && !registry.effective().contains(CANARIES[0]));
}

#[tokio::test]
async fn a_pipe_as_certificate_is_refused_and_not_waited_for() {
    let world = World::new(FILE);
    let pipe = world.folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let mut one = backend("b");
    one.insert("url".into(), json!("https://b"));
    one.insert("ca".into(), json!(pipe));
    let refused = world.registry.create(ObjectKind::Backend, one, by()).await.unwrap_err();
    assert!(refused.to_string().contains("regular file"), "{refused}");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let nested = entries.map(|path| if path.is_dir() { files(&path) } else { vec![path] });
    nested.flatten().collect()
}
