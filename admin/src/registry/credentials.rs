//! Credentials of stored objects: in their bodies stand references, the sealed values are rows of the store.

use serde_json::Value;

/// What the names of variables begin with that stand for sealed credentials.
pub(super) const VARIABLE: &str = "FOREBAY_SEALED_";
/// The only member of a reference.
const MEMBER: &str = "$sealed";

/// The id of the sealed row that a value refers to.
pub(super) fn reference(value: &Value) -> Option<&str> {
    match value {
        Value::Object(map) if map.len() == 1 => map.get(MEMBER)?.as_str(),
        _ => None,
    }
}
