use proptest::prelude::*;

use super::*;
use crate::peek::peek;

fn encoded(kind: Kind, body: &str, model: &str) -> String {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let peek = peek(&body, 128).unwrap();
    let pieces = encode(kind, &body, &peek, model, Rewrite::default());
    assert_eq!(pieces.len(), pieces.iter().map(Bytes::len).sum::<usize>());
    String::from_utf8(pieces.concat().to_vec()).unwrap()
}

#[test]
fn an_unchanged_body_is_the_body() {
    let body = Bytes::from_static(br#"{"model":"m","mod":1}"#);
    let peek = peek(&body, 128).unwrap();
    let pieces = encode(Kind::Vllm, &body, &peek, "m", Rewrite::default());
    assert_eq!(pieces.concat().as_ptr(), body.as_ptr());
}

#[test]
fn slices_are_not_copied() {
    let body = Bytes::from_static(br#"{"a":1,"model":"m","b":2}"#);
    let peek = peek(&body, 128).unwrap();
    let pieces: Vec<Bytes> =
        encode(Kind::Vllm, &body, &peek, "other", Rewrite::default()).into_iter().collect();
    assert_eq!(pieces, [&br#"{"a":1,"model":"#[..], br#""other""#, br#","b":2}"#]);
    assert_eq!(pieces[0].as_ptr(), body.as_ptr());
    assert_eq!(pieces[2].as_ptr(), body[peek.model_span.end..].as_ptr());
}

#[test]
fn only_the_top_level_model_changes() {
    assert_eq!(
        encoded(
            Kind::Vllm,
            r#"{"metadata":{"model":"m"},"tools":[{"model":"m"}], "mod\u0065l" : "m" ,"seed":1e400,"seed":-0.0}"#,
            "a\"b/\u{1}ü",
        ),
        r#"{"metadata":{"model":"m"},"tools":[{"model":"m"}], "mod\u0065l" : "a\"b/\u0001ü" ,"seed":1e400,"seed":-0.0}"#,
    );
}

#[test]
fn ollama_gets_max_tokens() {
    for (body, expected) in [
        (
            r#"{"model":"m","max_completion_tokens":2 }"#,
            r#"{"model":"m","max_completion_tokens":2,"max_tokens":2 }"#,
        ),
        (
            r#"{"max_tokens":null,"model":"m","max_completion_tokens":2}"#,
            r#"{"max_tokens":2,"model":"m","max_completion_tokens":2}"#,
        ),
        // What the client says itself stands, and nonsense is the upstream's to refuse.
        (
            r#"{"max_tokens":5,"model":"m","max_completion_tokens":2}"#,
            r#"{"max_tokens":5,"model":"m","max_completion_tokens":2}"#,
        ),
        (
            r#"{"model":"m","max_completion_tokens":null}"#,
            r#"{"model":"m","max_completion_tokens":null}"#,
        ),
        (
            r#"{"model":"m","max_completion_tokens":"2"}"#,
            r#"{"model":"m","max_completion_tokens":"2"}"#,
        ),
    ] {
        assert_eq!(encoded(Kind::Ollama, body, "m"), expected);
        assert_eq!(encoded(Kind::Vllm, body, "m"), body);
    }
    assert_eq!(
        encoded(Kind::Ollama, r#"{"max_tokens":null,"model":"m","max_completion_tokens":2}"#, "o"),
        r#"{"max_tokens":2,"model":"o","max_completion_tokens":2}"#,
    );
    assert_eq!(
        encoded(Kind::Ollama, r#"{"max_completion_tokens":2,"model":"m"}"#, "o"),
        r#"{"max_completion_tokens":2,"model":"o","max_tokens":2}"#,
    );
}

#[test]
fn the_mapping_can_be_switched_off() {
    let body = Bytes::from_static(br#"{"model":"m","max_completion_tokens":2}"#);
    let peek = peek(&body, 128).unwrap();
    let rewrite = Rewrite { map_max_completion_tokens: false, ..Rewrite::default() };
    assert_eq!(encode(Kind::Ollama, &body, &peek, "m", rewrite).concat(), body);
}

#[test]
fn a_usage_is_asked_for_in_whatever_form_there_is_room() {
    let rewrite = Rewrite { include_usage: true, ..Rewrite::default() };
    let ask = |kind, body: &str| {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let peek = peek(&body, 128).unwrap();
        String::from_utf8(encode(kind, &body, &peek, "m", rewrite).concat().to_vec()).unwrap()
    };
    let with = |options: &str| format!(r#"{{"model":"m","stream":true{options}}}"#);
    for (options, expected) in [
        ("", r#","stream_options":{"include_usage":true}"#),
        (r#","stream_options":null"#, r#","stream_options":{"include_usage":true}"#),
        (r#","stream_options":{ }"#, r#","stream_options":{"include_usage":true }"#),
        (r#","stream_options":{"x":1}"#, r#","stream_options":{"include_usage":true,"x":1}"#),
        (
            r#","stream_options":{"include_usage":false,"x":1}"#,
            r#","stream_options":{"include_usage":true,"x":1}"#,
        ),
        (
            r#","stream_options":{"x":1,"include_usage":null}"#,
            r#","stream_options":{"x":1,"include_usage":true}"#,
        ),
        // Asked for by the client, or the upstream's to refuse.
        (
            r#","stream_options":{"include_usage":true}"#,
            r#","stream_options":{"include_usage":true}"#,
        ),
        (r#","stream_options":7"#, r#","stream_options":7"#),
    ] {
        for kind in [Kind::Vllm, Kind::Ollama, Kind::OpenAi] {
            assert_eq!(ask(kind, &with(options)), with(expected), "{options}");
        }
        assert_eq!(ask(Kind::Tei, &with(options)), with(options));
    }
    assert_eq!(ask(Kind::Vllm, r#"{"model":"m"}"#), r#"{"model":"m"}"#);
    // Two additions at one place.
    assert_eq!(
        ask(Kind::Ollama, r#"{"model":"m","max_completion_tokens":2,"stream":true}"#).len(),
        r#"{"model":"m","max_completion_tokens":2,"stream":true,"max_tokens":2,"stream_options":{"include_usage":true}}"#.len(),
    );
}

proptest! {
    #[test]
    fn nothing_but_the_edits_changes(
        body in prop::collection::vec(any::<u8>(), 0..60),
        cuts in prop::collection::btree_set(0_usize..60, 0..6),
        with in prop::collection::vec(any::<u8>(), 0..5),
    ) {
        let cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= body.len()).collect();
        let edits: Vec<Edit> = cuts
            .chunks_exact(2)
            .map(|pair| Edit { range: pair[0]..pair[1], with: Bytes::from(with.clone()) })
            .collect();
        let mut expected = body.clone();
        for edit in edits.iter().rev() {
            expected.splice(edit.range.clone(), edit.with.iter().copied());
        }
        let pieces = splice(&Bytes::from(body), &edits);
        prop_assert_eq!(pieces.len(), expected.len());
        prop_assert_eq!(pieces.concat().to_vec(), expected);
    }
}
