use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

fn form(body: &str) -> Vec<u8> {
    let mut out = Vec::new();
    canonical(body.as_bytes(), 128).unwrap().feed(&mut |piece| out.extend_from_slice(piece));
    out
}

fn deterministic(body: &str) -> bool {
    canonical(body.as_bytes(), 128).unwrap().is_deterministic(Operation::ChatCompletions)
}

#[test]
fn space_and_the_order_of_members_do_not_matter() {
    let one = r#"{"model":"m","messages":[{"role":"user","content":"a \" b"}],"temperature":0}"#;
    let other = "{ \"temperature\" :0,\n\t\"messages\": [ {\"role\":\"user\" , \"content\":\"a \\\" b\"} ]\r\n,\"model\":\"x\"}";
    assert_eq!(form(one), form(other));
}

#[test]
fn what_matters_shows() {
    let base = r#"{"messages":[{"content":"a b","role":"user"}],"temperature":0}"#;
    for other in [
        r#"{"messages":[{"content":"a  b","role":"user"}],"temperature":0}"#,
        r#"{"messages":[{"content":"ab","role":"user"}],"temperature":0}"#,
        r#"{"messages":[{"content":"a b","role":"system"}],"temperature":0}"#,
        r#"{"messages":[{"content":"a b","role":"user"}],"temperature":1}"#,
        r#"{"messages":[{"content":"a b","role":"user"}],"temperature":0,"x":null}"#,
        r#"{"messages":[{"content":"a b","role":"user"}],"temperature":0,"temperature":0}"#,
        r#"{"messages":[{"content":"a b","role":"user"}],"Temperature":0}"#,
        r#"{"messages":[[{"content":"a b","role":"user"}]],"temperature":0}"#,
    ] {
        assert_ne!(form(base), form(other), "{other}");
    }
    let schema = |order: &str| format!(r#"{{"response_format":{{{order}}}}}"#);
    assert_ne!(form(&schema(r#""a":1,"b":2"#)), form(&schema(r#""b":2,"a":1"#)));
    let twice = |first: u8, second: u8| format!(r#"{{"seed":{first},"seed":{second}}}"#);
    assert_ne!(form(&twice(1, 2)), form(&twice(2, 1)));
}

#[test]
fn what_is_left_out_does_not_matter() {
    let base = r#"{"temperature":0}"#;
    for other in [
        r#"{"temperature":0,"user":"u","metadata":{"a":"b"},"safety_identifier":"s","prompt_cache_key":"k"}"#,
        r#"{"temperature":0,"stream_options":{"include_obfuscation":false}}"#,
        r#"{"temperature":0,"model":"m","stream":true,"stream_options":{}}"#,
    ] {
        assert_eq!(form(base), form(other), "{other}");
    }
    assert_ne!(form(base), form(r#"{"temperature":0,"stream_options":{"include_usage":true}}"#));
    let inner = r#"{"temperature":0,"stream_options":{"include_usage":true}}"#;
    assert_ne!(form(inner), form(r#"{"temperature":0,"include_usage":true}"#));
    assert_ne!(form(base), form(r#"{"temperature":0,"stream_options":7}"#));
    assert_ne!(form(base), form(r#"{"temperature":0,"User":"u"}"#));
}

#[test]
fn what_would_be_answered_the_same_again() {
    for body in [
        r#"{"temperature":0}"#,
        r#"{"temperature":0.0,"n":1,"tools":[],"functions":null}"#,
        r#"{"temperature":1,"seed":7}"#,
        r#"{"temperature":1,"temperature":0}"#,
    ] {
        assert!(deterministic(body), "{body}");
    }
    for body in [
        "{}",
        r#"{"temperature":0.1}"#,
        r#"{"temperature":null}"#,
        r#"{"temperature":"0"}"#,
        r#"{"temperature":0,"temperature":1}"#,
        r#"{"seed":null}"#,
        r#"{"seed":"x"}"#,
        r#"{"temperature":0,"n":2}"#,
        r#"{"temperature":0,"n":1.5}"#,
        r#"{"temperature":0,"n":"2"}"#,
        r#"{"temperature":0,"best_of":3}"#,
        r#"{"temperature":0,"tools":[{}]}"#,
        r#"{"temperature":0,"functions":[{}]}"#,
    ] {
        assert!(!deterministic(body), "{body}");
    }
    let embedding = canonical(b"{}", 8).unwrap();
    assert!(embedding.is_deterministic(Operation::Embeddings));
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c \\\\\"{}:,\u{e9}\n]{0,6}".prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-c]{1,2}", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

const NAMES: [&str; 6] = ["messages", "temperature", "seed", "n", "top_p", "stop"];

fn body() -> impl Strategy<Value = Vec<(String, Value)>> {
    prop::collection::vec(value(), NAMES.len()).prop_map(|values| {
        NAMES.iter().map(|name| (*name).to_owned()).zip(values).collect::<Vec<_>>()
    })
}

/// An object with this white space around its tokens.
fn write(members: &[(String, Value)], pretty: bool, gap: &str) -> String {
    let members = members.iter().map(|(name, value)| {
        let text = if pretty { format!("{value:#}") } else { value.to_string() };
        format!("{gap}{}{gap}:{gap}{text}{gap}", json!(name))
    });
    format!("{gap}{{{}}}{gap}", members.collect::<Vec<_>>().join(","))
}

proptest! {
    #[test]
    fn equal_requests_share_one_form(
        (members, permuted) in body().prop_flat_map(|m| (Just(m.clone()), Just(m).prop_shuffle())),
        gap in "[ \t\r\n]{0,3}",
    ) {
        prop_assert_eq!(form(&write(&members, false, "")), form(&write(&permuted, true, &gap)));
    }

    #[test]
    fn different_requests_never_do(one in body(), other in body()) {
        let (first, second) = (form(&write(&one, false, "")), form(&write(&other, true, " ")));
        prop_assert_eq!(one == other, first == second);
    }

    #[test]
    fn one_changed_member_shows(members in body(), at in 0..NAMES.len(), changed in value()) {
        let mut other = members.clone();
        other[at].1 = changed;
        let (first, second) = (form(&write(&members, false, "")), form(&write(&other, false, "")));
        prop_assert_eq!(members == other, first == second);
        other.remove(at);
        prop_assert_ne!(first, form(&write(&other, false, "")));
    }
}
