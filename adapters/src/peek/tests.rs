use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

const DEPTH_MAX: u32 = 128;

fn ok(body: &str) -> Peek<'_> {
    match peek(body.as_bytes(), DEPTH_MAX) {
        Ok(peek) => peek,
        Err(error) => panic!("{body}: {error}"),
    }
}

fn err(body: &[u8]) -> PeekError {
    match peek(body, DEPTH_MAX) {
        Ok(peek) => panic!("accepted: {peek:?}"),
        Err(error) => error,
    }
}

#[test]
fn everything_that_routing_needs() {
    let body = r#" {"messages" : [{"role":"user","content":"x"}], "model":"a\/b", "stream":true,
        "stream_options":{"x":1,"include_usage":true},"max_tokens":3,"max_completion_tokens": 4,"n":2,
        "user":"\u00fc","tools":[1] } "#;
    let peek = ok(body);
    assert_eq!(peek.model, "a/b");
    assert_eq!(&body[peek.model_span.clone()], r#""a\/b""#);
    assert!(peek.stream);
    assert_eq!(peek.include_usage, Some(true));
    assert_eq!(peek.include_usage_span.map(|span| &body[span]), Some("true"));
    assert_eq!(peek.max_tokens.map(|span| &body[span]), Some("3"));
    assert_eq!(peek.max_completion_tokens.map(|span| &body[span]), Some("4"));
    assert_eq!(peek.n, 2);
    assert_eq!(peek.user.as_deref(), Some("ü"));
    assert_eq!(peek.prompt.map(|span| &body[span]), Some(r#"[{"role":"user","content":"x"}]"#));
    assert_eq!(peek.tools.map(|span| &body[span]), Some("[1]"));
    assert_eq!(&body[peek.insert_at..], " } ");
}

#[test]
fn plain_values_are_borrowed() {
    let peek = ok(r#"{"model":"m","user":"u"}"#);
    assert!(matches!(peek.model, Cow::Borrowed("m")));
    assert!(matches!(peek.user, Some(Cow::Borrowed("u"))));
}

#[test]
fn only_the_literal_true_streams() {
    for (value, stream) in
        [("true", true), ("false", false), ("null", false), ("1", false), ("\"true\"", false)]
    {
        let body = format!(r#"{{"model":"m","stream":{value}}}"#);
        assert_eq!(ok(&body).stream, stream, "{value}");
    }
}

#[test]
fn choices_count_prompts() {
    for (rest, choices) in [
        ("", 1),
        (r#","n":3"#, 3),
        (r#","n":0"#, 1),
        (r#","n":-1"#, 1),
        (r#","n":2.0"#, 1),
        (r#","n":null"#, 1),
        (r#","prompt":"x""#, 1),
        (r#","prompt":["x","y"],"n":2"#, 4),
        (r#","prompt":[1,2,3]"#, 1),
        (r#","prompt":[[1,2],[3]]"#, 2),
        (r#","prompt":[]"#, 1),
        (r#","n":4294967295,"prompt":["x","y"]"#, u32::MAX),
    ] {
        assert_eq!(ok(&format!(r#"{{"model":"m"{rest}}}"#)).choices(), choices, "{rest}");
    }
}

#[test]
fn one_model_for_every_reader() {
    for (body, param) in [
        (r#"{"model":"a","model":"b"}"#, Some("model")),
        (r#"{"model":"a","model":"a"}"#, Some("model")),
        (r#"{"model":"a","MODEL":"b"}"#, Some("model")),
        (r#"{"model":"a","Model":null}"#, Some("model")),
        (r#"{"model":"a","mod\u0065l":"b"}"#, Some("model")),
        (r#"{"model":"a","mod\u0045l":"b"}"#, Some("model")),
        (r#"{"Model":"a"}"#, Some("model")),
        (r#"{"model":"a","stream":true,"stream":false}"#, None),
        (r#"{"model":"a","Stream":true}"#, None),
        ("{\"model\":\"a\",\"\u{17f}tream\":true}", None),
    ] {
        assert_eq!(err(body.as_bytes()).param, param, "{body}");
    }
    assert_eq!(ok(r#"{"mod\u0065l":"a"}"#).model, "a");
    assert_eq!(ok(r#"{"model":"a","models":"b","metadata":{"model":"c"}}"#).model, "a");
    assert_eq!(ok(r#"{"model":"a","seed":1,"seed":2}"#).model, "a");
}

#[test]
fn an_unusable_model_names_the_parameter() {
    for body in [
        "{}",
        r#"{"x":1}"#,
        r#"{"model":null}"#,
        r#"{"model":5}"#,
        r#"{"model":""}"#,
        r#"{"model":["m"]}"#,
        r#"{"model":"\ud800"}"#,
    ] {
        assert_eq!(err(body.as_bytes()).param, Some("model"), "{body}");
    }
}

#[test]
fn what_is_no_object_is_refused() {
    for body in [
        "",
        " ",
        "null",
        "[]",
        "\"x\"",
        "1",
        "{",
        "{\"model\":\"m\"",
        "{\"model\":\"m\"}}",
        "{\"model\":\"m\"} x",
        "{\"model\":\"m\",}",
        "{,}",
        "{\"model\" \"m\"}",
        "{model:\"m\"}",
        "{\"model\":\"m\",\"a\":NaN}",
        "{\"model\":\"m\",\"a\":01}",
        "{\"model\":\"m\",\"a\":1.}",
        "{\"model\":\"m\",\"a\":\"\n\"}",
        "{\"model\":\"m\",\"a\":\"\u{1f}\"}",
        "{\"model\":\"m\",\"a\":[1}}",
        "{\"model\":\"m\",\"a\":{\"b\":1]}",
        "{\"model\":\"m\",\"a\":\"\\x\"}",
        "{\"model\":\"m\",\"a\":\"\\u12g4\"}",
        "{\"model\":\"m\",\"a\":[1}",
        "\u{feff}{\"model\":\"m\"}",
        "{'model':'m'}",
        "{\"model\":\"m\",\"a\":+1}",
        "{\"model\":\"m\",\"a\":tru}",
    ] {
        assert_eq!(err(body.as_bytes()).param, None, "{body}");
    }
    assert!(err(b"{\"model\":\"\xff\"}").message.contains("UTF-8"));
    assert!(err(b"{\"model\":\"m\"").message.contains("too early"));
}

#[test]
fn depth_is_counted() {
    let nested = |levels: usize| {
        format!(r#"{{"model":"m","a":{}{}}}"#, "[".repeat(levels), "]".repeat(levels))
    };
    assert_eq!(ok(&nested(127)).model, "m");
    assert!(err(nested(128).as_bytes()).message.contains("128 levels"));
    assert!(err("[".repeat(1_000_000).as_bytes()).message.contains("128 levels"));
    let mixed = format!(r#"{{"model":"m","a":{}1{}}}"#, r#"{"b":["#.repeat(60), "]}".repeat(60));
    assert_eq!(ok(&mixed).model, "m");
}

#[test]
fn odd_numbers_and_escapes_pass() {
    let body = r#"{"seed":18446744073709551615,"a":1e400,"b":0.1000000000000000055,"c":-0.0,"d":1E5,
        "e":"\u0000\ud800\/\u00e9","model":"m"}"#;
    assert_eq!(ok(body).model, "m");
}

/// JSON-like text: mostly well-formed, with an occasional odd piece in it.
fn jsonish() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        8 => prop::sample::select(vec![
            "1", "-0.5e+3", "true", "false", "null", r#""a""#, r#""\ud83d\u00e9\\\"""#, "{}", "[]",
            r#"" { } [ ] , : ""#, "1e999",
        ]).prop_map(str::to_owned),
        1 => prop::sample::select(vec![
            "01", "1.", "-", "nul", r#""\q""#, "\"\t\"", r#""\u12""#, "]", "}", ",", "", ".5", "1e",
        ]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        let key =
            prop::sample::select(vec![r#""model""#, r#""k""#, r#""\u006b""#, "k", r#""stream""#]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("[{}]", items.join(" , "))),
            prop::collection::vec((key, inner), 0..4).prop_map(|members| {
                let members: Vec<_> =
                    members.iter().map(|(key, value)| format!("{key} :{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

fn is_syntax(error: &PeekError) -> bool {
    error.message.contains("not valid JSON")
}

proptest! {
    #[test]
    fn accepts_what_serde_json_accepts(text in jsonish(), tail in "[ \n]?x?") {
        let text = text + &tail;
        let theirs = serde_json::from_str::<IgnoredAny>(&text).is_ok();
        let ours = match peek(text.as_bytes(), u32::MAX) {
            Ok(_) => true,
            Err(error) => !is_syntax(&error) && !error.message.contains("no body"),
        };
        prop_assert_eq!(ours, theirs, "{}", text);
    }

    #[test]
    fn sees_the_same_model(value in jsonish(), before in jsonish()) {
        let text = format!(r#"{{"before":{before},"model":{value}}}"#);
        if let Ok(peek) = peek(text.as_bytes(), DEPTH_MAX) {
            let theirs: String = serde_json::from_str(&text[peek.model_span]).unwrap();
            prop_assert_eq!(peek.model, theirs);
        }
    }

    #[test]
    fn never_panics(body in prop::collection::vec(any::<u8>(), 0..200), depth in 0_u32..4) {
        let _any = peek(&body, depth);
    }

    #[test]
    fn a_mutated_body_never_panics(at in 0_usize..90, byte in any::<u8>()) {
        let mut body = br#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"prompt":["a"],"n":2}"#.to_vec();
        if let Some(slot) = body.get_mut(at) {
            *slot = byte;
        }
        let theirs = std::str::from_utf8(&body)
            .is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
        if peek(&body, DEPTH_MAX).is_ok() {
            prop_assert!(theirs);
        }
    }
}
