//! What of the stored objects refers to an object by its name.

use serde_json::Value;

use super::object::Body;
use super::state::State;
use crate::store::ObjectKind;

/// Every stored object and override that names the object, as `head "eu"`.
pub(super) fn referrers(kind: ObjectKind, name: &str, state: &State) -> Vec<String> {
    let objects = state
        .objects
        .iter()
        .filter(|object| !(object.kind == kind && object.name == name))
        .filter(|object| refers(object.kind, &object.body, kind, name))
        .map(|object| format!("{} {:?}", object.kind.as_str(), object.name));
    let overrides = state
        .overrides
        .iter()
        .filter(|over| refers(over.kind, &over.body, kind, name))
        .map(|over| format!("the override of {} {:?}", over.kind.as_str(), over.name));
    objects.chain(overrides).collect()
}

/// Whether a body of kind `from` names the object `name` of kind `to`.
fn refers(from: ObjectKind, body: &Body, to: ObjectKind, name: &str) -> bool {
    let keys: &[&str] = match (from, to) {
        (ObjectKind::Head, ObjectKind::Backend) => &["backends"],
        (ObjectKind::Model, ObjectKind::Backend) => &["deployments"],
        (ObjectKind::Model, ObjectKind::Head) => &["priority_head", "heads"],
        (ObjectKind::Model, ObjectKind::Model) => &["fallbacks", "context_fallback"],
        (ObjectKind::Model | ObjectKind::Key, ObjectKind::Region) => &["region", "regions"],
        (ObjectKind::Backend | ObjectKind::Head, ObjectKind::Region) => &["region"],
        (ObjectKind::Region, ObjectKind::Region) => &["neighbours"],
        _ => &[],
    };
    keys.iter().filter_map(|key| body.get(*key)).any(|value| match value {
        Value::String(text) => text == name,
        Value::Array(items) => items.iter().any(|item| item == name),
        Value::Object(map) => map.contains_key(name),
        _ => false,
    })
}
