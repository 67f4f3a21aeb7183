//! Whatever is stored, the base holds and the merge ends.
use proptest::prelude::*;

use super::*;
use crate::store::{StoredObject, StoredOverride};

struct None_;

impl Credentials for None_ {
    fn open(&self, _: &str) -> Option<router::spec::Secret> {
        None
    }

    fn shown(&self, _: &str) -> Value {
        Value::Null
    }
}

const BACKENDS: [&str; 5] = ["file-1", "file-2", "b", "c", "gone"];
const HEADS: [&str; 4] = ["h-eu", "h-us", "h", "gone"];
const MODELS: [&str; 4] = ["file-m", "m", "n", "gone"];
const REGIONS: [&str; 3] = ["eu", "us", "br"];

fn object() -> impl Strategy<Value = (ObjectKind, Value)> {
    let name = |names: &'static [&'static str]| prop::sample::select(names);
    prop_oneof![
        (name(&BACKENDS), name(&REGIONS), 0..3_u32).prop_map(|(name, region, weight)| (
            ObjectKind::Backend,
            json!({"name": name, "kind": "vllm", "url": "http://x", "region": region, "weight": weight})
        )),
        (name(&HEADS), name(&REGIONS), name(&BACKENDS)).prop_map(|(name, region, backend)| (
            ObjectKind::Head,
            json!({"name": name, "region": region, "backends": [backend]})
        )),
        (name(&MODELS), name(&REGIONS), name(&HEADS), name(&MODELS), any::<bool>()).prop_map(
            |(name, region, head, other, strict)| {
                let residency = if strict { "strict" } else { "prefer" };
                let body = json!({"name": name, "region": region, "priority_head": head,
                    "fallbacks": [other], "aliases": [format!("{other}-x")], "residency": residency});
                (ObjectKind::Model, body)
            }
        ),
        name(&REGIONS).prop_map(|name| (ObjectKind::Region, json!({"name": name}))),
        (name(&MODELS), name(&REGIONS), name(&HEADS)).prop_map(|(name, region, head)| (
            ObjectKind::Key,
            json!({"over": name, "region": region, "heads": [head]})
        )),
    ]
}

/// Objects and overrides with unique names; "keys" stand for overrides of models.
fn stored(list: Vec<(ObjectKind, Value)>) -> (Vec<StoredObject>, Vec<StoredOverride>) {
    let (mut objects, mut overrides) = (Vec::<StoredObject>::new(), Vec::<StoredOverride>::new());
    for (at, (kind, value)) in list.into_iter().enumerate() {
        let mut body = body(&value);
        let revision = at as u64 + 1;
        if let Some(name) = body.remove("over") {
            let name = name.as_str().unwrap().to_owned();
            if overrides.iter().all(|over| over.name != name) {
                let (kind, author) = (ObjectKind::Model, "p".to_owned());
                overrides.push(StoredOverride {
                    kind,
                    name,
                    body,
                    revision,
                    updated_at: 0,
                    author,
                });
            }
            continue;
        }
        let name = body["name"].as_str().unwrap().to_owned();
        if objects.iter().all(|object| (object.kind, &object.name) != (kind, &name)) {
            let id = format!("id{at}");
            let (created_at, updated_at, disabled) = (0, 0, None);
            objects.push(StoredObject {
                id,
                kind,
                name,
                body,
                revision,
                created_at,
                updated_at,
                disabled,
            });
        }
    }
    (objects, overrides)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_base_holds_and_disabling_only_removes(list in prop::collection::vec(object(), 0..14)) {
        let base = base(FILE);
        let (objects, overrides) = stored(list);
        let merged = merge(&base, &objects, &overrides, &None_, &compile(), 1);
        let again = merge(&base, &objects, &overrides, &None_, &compile(), 1);
        prop_assert_eq!(&merged.spec, &again.spec);
        prop_assert_eq!(&merged.conflicts, &again.conflicts);
        let alone = &base.loaded.config.snapshot;
        // The base's objects come first and are as they were, but for what is overridden.
        prop_assert_eq!(&merged.spec.backends[..2], &alone.backends[..]);
        prop_assert_eq!(&merged.spec.heads[..2], &alone.heads[..]);
        let mut model = merged.spec.models[0].clone();
        model.region.clone_from(&alone.models[0].region);
        model.heads.clone_from(&alone.models[0].heads);
        prop_assert_eq!(&model, &alone.models[0]);
        // Each stored object either takes part or has a reason.
        let out = merged.conflicts.len();
        let sizes = merged.spec.backends.len() + merged.spec.heads.len() + merged.spec.models.len() - 5;
        let counted = |kind| objects.iter().filter(|object| object.kind == kind).count();
        let regions_out = merged.conflicts.iter().filter(|one| one.kind == ObjectKind::Region).count();
        let overs_out = merged.conflicts.iter().filter(|one| one.id.is_none()).count();
        let stored = counted(ObjectKind::Backend) + counted(ObjectKind::Head) + counted(ObjectKind::Model);
        prop_assert_eq!(sizes + out - regions_out - overs_out, stored);
        for conflict in &merged.conflicts {
            prop_assert!(!conflict.problems.is_empty());
        }
        // What takes part takes part without the rest as well.
        let left = |object: &&StoredObject| !merged.conflicts.iter().any(|one| one.id.as_ref() == Some(&object.id));
        let kept: Vec<StoredObject> = objects.iter().filter(left).cloned().collect();
        let over = |over: &&StoredOverride| {
            !merged.conflicts.iter().any(|one| one.id.is_none() && one.name == over.name)
        };
        let overs: Vec<StoredOverride> = overrides.iter().filter(over).cloned().collect();
        let small = merge(&base, &kept, &overs, &None_, &compile(), 1);
        prop_assert_eq!(&small.conflicts, &[]);
        prop_assert_eq!(&small.spec, &merged.spec);
    }
}
