//! Two writers on one file, as two processes have it: each with connections and a registry of its own.
use super::*;

/// Changes that each of the two makes.
const ROUNDS: u64 = 500;

fn writer(registry: &Registry, name: &str) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut done, mut stale, mut seen) = (0, 0, None);
    while done < ROUNDS {
        let object = registry.object(ObjectKind::Backend, "b", &Catalog::new()).unwrap();
        let count = |key: &str| -> u64 {
            object.body["metadata"]
                .get(key)
                .and_then(Value::as_str)
                .map_or(0, |n| n.parse().unwrap())
        };
        let patch = json!({"metadata": {
            "all": (count("all") + 1).to_string(),
            name: (count(name) + 1).to_string(),
        }});
        match runtime.block_on(registry.patch(
            ObjectKind::Backend,
            "b",
            body(&patch),
            when(&object),
        )) {
            Ok(_) => done += 1,
            Err(RegistryError::Stale { .. }) => {
                stale += 1;
                registry.look(&mut seen).unwrap();
            }
            Err(RegistryError::Store(StoreError::Busy)) => {}
            Err(error) => unreachable!("{error}"),
        }
    }
    stale
}

#[test]
fn a_thousand_rounds_lose_nothing() {
    let world = World::new(FILE);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut start = backend("b");
    start.insert("metadata".into(), json!({"all": "0"}));
    runtime.block_on(world.registry.create(ObjectKind::Backend, start, by())).unwrap();
    let other = open(&world.path(), FILE, &Arc::new(Plane::default()));
    let begin = std::time::Instant::now();
    let stale = std::thread::scope(|scope| {
        let one = scope.spawn(|| writer(&world.registry, "one"));
        let two = scope.spawn(|| writer(&other, "two"));
        (one.join().unwrap(), two.join().unwrap())
    });
    println!("{} writes in {:?}, refused as stale: {stale:?}", 2 * ROUNDS, begin.elapsed());
    for registry in [&world.registry, &other] {
        registry.look(&mut None).unwrap();
        let object = registry.object(ObjectKind::Backend, "b", &Catalog::new()).unwrap();
        let all = (2 * ROUNDS).to_string();
        let each = ROUNDS.to_string();
        assert_eq!(object.body["metadata"], json!({"all": all, "one": each, "two": each}));
    }
}
