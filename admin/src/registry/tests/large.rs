//! As large as it is promised to be; times are printed and never fail.
use std::time::Instant;

use super::*;
use crate::store::StoredObject;

#[tokio::test]
async fn five_hundred_backends_and_two_thousand_models() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.db");
    let store = Store::open(&path, Role::Writer).unwrap();
    let object = |kind: ObjectKind, name: String, value: Value| StoredObject {
        id: format!("{kind}_{name}"),
        kind,
        name,
        body: body(&value),
        revision: 1,
        created_at: 1,
        updated_at: 1,
        disabled: None,
    };
    let filled = store.write(move |tx| {
        for n in 0..500 {
            let name = format!("b{n}");
            let value =
                json!({"name": name, "kind": "vllm", "url": format!("http://10.0.0.1:{}", n + 1)});
            tx.put_object(&object(ObjectKind::Backend, name, value))?;
        }
        for n in 0..2000 {
            let name = format!("m{n}");
            let value = json!({"name": name, "deployments": {format!("b{}", n % 500): "up"}});
            tx.put_object(&object(ObjectKind::Model, name, value))?;
        }
        tx.next_revision()
    });
    let revision: Result<u64, StoreError> = filled.await;
    assert_eq!(revision, Ok(1));
    let begin = Instant::now();
    let plane: Arc<dyn Publish> = Arc::new(Plane::default());
    let registry =
        Registry::open(Ok(store), &path, vault(), base(FILE), Some(plane), compile()).unwrap();
    println!("opened in {:?}", begin.elapsed());
    let begin = Instant::now();
    let models = registry.objects(ObjectKind::Model, &catalog());
    let backends = registry.objects(ObjectKind::Backend, &catalog());
    println!("listed in {:?}", begin.elapsed());
    assert_eq!((models.len(), backends.len()), (2002, 502));
    let begin = Instant::now();
    let patch = body(&json!({"weight": 3}));
    registry.patch(ObjectKind::Backend, "b7", patch, by()).await.unwrap();
    println!("changed in {:?}", begin.elapsed());
}
