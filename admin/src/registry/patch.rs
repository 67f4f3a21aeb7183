//! JSON merge patches (RFC 7396).

use serde_json::Value;

use super::object::Body;

/// Applies a patch: null removes, objects are patched, anything else replaces.
pub(super) fn merge_patch(target: &mut Body, patch: &Body) {
    for (key, value) in patch {
        match value {
            Value::Null => drop(target.remove(key)),
            Value::Object(inner) => {
                let old = target.entry(key.clone()).or_insert_with(|| Value::Object(Body::new()));
                if !old.is_object() {
                    *old = Value::Object(Body::new());
                }
                if let Value::Object(old) = old {
                    merge_patch(old, inner);
                }
            }
            other => drop(target.insert(key.clone(), other.clone())),
        }
    }
}

/// Removes members that are null, at any depth: in an object they say that there is nothing.
pub(super) fn without_nulls(body: &mut Body) {
    body.retain(|_, value| !value.is_null());
    for value in body.values_mut() {
        if let Value::Object(inner) = value {
            without_nulls(inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_cases_of_the_rfc() {
        // RFC 7396, appendix A, those whose target and patch are objects.
        for (target, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut target = target.as_object().unwrap().clone();
            merge_patch(&mut target, patch.as_object().unwrap());
            assert_eq!(Value::Object(target), result);
        }
    }
}
