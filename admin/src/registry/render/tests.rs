//! Whatever JSON goes in comes out of TOML again, and every place has its pointer.
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has none", |v| v.is_finite()).prop_map(Value::from),
        ".*".prop_map(Value::from),
        "[$\\{\\}:a-z\u{0}-\u{1f}\"\\\\]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(".{0,8}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn body() -> impl Strategy<Value = Body> {
    prop::collection::btree_map(".{0,8}", json_value(), 0..6)
        .prop_map(|map| map.into_iter().collect())
}

/// What a reader of the file makes of it; `$${` is read as config does.
fn back(value: &toml::Value) -> Value {
    match value {
        toml::Value::String(v) => json!(v.replace("$${", "${")),
        toml::Value::Integer(v) => json!(v),
        toml::Value::Float(v) => json!(v),
        toml::Value::Boolean(v) => json!(v),
        toml::Value::Array(v) => v.iter().map(back).collect(),
        toml::Value::Table(v) => {
            Value::Object(v.iter().map(|(key, value)| (key.clone(), back(value))).collect())
        }
        toml::Value::Datetime(_) => Value::Null,
    }
}

proptest! {
    #[test]
    fn every_value_comes_back(body in body()) {
        let rendered = render(ObjectKind::Model, &body);
        let table: toml::Table = rendered.text.parse().unwrap();
        let object = &table["model"].as_array().unwrap()[0];
        prop_assert_eq!(back(object), Value::Object(body));
    }

    #[test]
    fn a_pointer_leads_to_its_value(body in body()) {
        let rendered = render(ObjectKind::Backend, &body);
        let whole = Value::Object(body);
        for (range, pointer) in &rendered.parts {
            prop_assert!(whole.pointer(pointer).is_some(), "{}", pointer);
            prop_assert_eq!(rendered.pointer(&(range.start..range.start)), pointer);
        }
    }
}

#[test]
fn places_of_keys_and_of_values_lead_to_the_member() {
    let body = json!({"name": "a", "timeouts": {"first_event": "9 parsecs"}, "models": ["x", "y"]});
    let rendered = render(ObjectKind::Backend, body.as_object().unwrap());
    let at = |text: &str| {
        let start = rendered.text.find(text).unwrap();
        rendered.pointer(&(start..start + text.len()))
    };
    assert_eq!(at("\"first_event\""), "/timeouts/first_event");
    assert_eq!(at("\"9 parsecs\""), "/timeouts/first_event");
    assert_eq!(at("\"y\""), "/models/1");
    assert_eq!(at("\"models\""), "/models");
    assert_eq!(at("[[backend]]"), "");
}
