//! Request bodies reach the upstream byte for byte: traps 32 to 38 and 42 to 47.

#![expect(clippy::unwrap_used, reason = "tests")]
#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use loadtest::{Blob, Fixed, Script};
use support::{Gateway, Reply, tiny, tiny_backend, wait_until};

const CHAT: &str = "/v1/chat/completions";

/// Sends a chat body; what the upstream got of it.
fn forwarded(body: impl AsRef<[u8]>) -> Vec<u8> {
    let (upstream, gateway) = tiny("");
    gateway.client().post(CHAT, body);
    let inferences = upstream.inferences();
    assert_eq!(inferences.len(), 1, "{}", gateway.log());
    inferences[0].body.to_vec()
}

fn assert_untouched(bodies: &[&str]) {
    let (upstream, gateway) = tiny("");
    for body in bodies {
        upstream.clear();
        gateway.client().post(CHAT, body);
        let inferences = upstream.inferences();
        assert_eq!(inferences.len(), 1, "{body}");
        assert_eq!(String::from_utf8_lossy(&inferences[0].body), *body);
        assert_eq!(inferences[0].header("content-length"), Some(&*body.len().to_string()));
    }
}

/// Sends bodies that must go nowhere; the answers.
fn refused(bodies: &[&[u8]]) -> Vec<Reply> {
    let (upstream, gateway) = tiny("");
    let replies = bodies.iter().map(|body| gateway.client().post(CHAT, body)).collect();
    assert_eq!(upstream.stats().inference_requests, 0);
    replies
}

fn assert_invalid(replies: &[Reply]) {
    for reply in replies {
        assert_eq!(
            (reply.status, &*reply.error_code()),
            (400, "invalid_request"),
            "{}",
            reply.text()
        );
        assert_eq!(reply.json()["error"]["type"], "invalid_request_error");
    }
}

/// The members that every chat request has.
const REST: &str = r#""model":"tiny","messages":[{"role":"user","content":"hi"}]"#;

#[test]
fn trap_32_unknown_keys_order_and_whitespace() {
    assert_untouched(&[
        "\r\n { \"zeta\" : 1,\t\"model\" : \"tiny\" ,\"messages\":[{\"x_new\":{\"b\":1,\"a\":2},\
         \"role\":\"user\",\"content\":\"hi\"}] , \"alpha\":null,\"temperature\":0.70,\
         \"temperature\":0.7 ,\"deep\":{\"k\":1,\"k\":2} }\n ",
        r#"{"guided_json":{"b":{},"a":[]},"vllm_xargs":{"z":"1"},"model":"tiny","messages":[]}"#,
    ]);
}

#[test]
fn trap_34_number_spellings() {
    let numbers = [
        "9223372036854775807",
        "18446744073709551615",
        "123456789012345678901234567890",
        "1e400",
        "0.1000000000000000055",
        "-0.0",
        "1E5",
        "1.0",
    ];
    let bodies = numbers.map(|number| format!("{{{REST},\"seed\":{number},\"top_p\":{number}}}"));
    assert_untouched(&bodies.each_ref().map(String::as_str));
}

#[test]
fn trap_35_nan_and_infinity_are_refused() {
    let bodies = ["NaN", "Infinity", "-Infinity", "nan"]
        .map(|word| format!("{{{REST},\"temperature\":{word}}}").into_bytes());
    assert_invalid(&refused(&bodies.each_ref().map(Vec::as_slice)));
}

#[test]
fn trap_36_escapes_stay_as_written() {
    let text = r#"\u0000 \ud800 \udc00\ud83d \/ \u00e9 é 😀 \ud83d\ude00 \" \\ \u2028"#;
    assert_untouched(&[&format!(
        r#"{{"model":"tiny","messages":[{{"role":"user","content":"{text}"}}],"u\u0073er":"{text}"}}"#
    )]);
}

#[test]
fn trap_37_invalid_utf8_is_refused() {
    let with = |bytes: &[u8]| {
        let mut body = br#"{"model":"tiny","messages":[{"role":"user","content":""#.to_vec();
        body.extend_from_slice(bytes);
        body.extend_from_slice(br#""}]}"#);
        body
    };
    // A lone continuation byte, an overlong slash, a raw surrogate, a cut character, Latin-1, UTF-16.
    let mut bodies: Vec<_> =
        [&b"\x80"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"caf\xe9"].map(with).into();
    bodies.push(format!("{{{REST}}}").encode_utf16().flat_map(u16::to_le_bytes).collect());
    let bodies: Vec<_> = bodies.iter().map(Vec::as_slice).collect();
    assert_invalid(&refused(&bodies));
}

#[test]
fn trap_38_a_byte_order_mark_is_refused() {
    let body = format!("\u{feff}{{{REST}}}");
    let replies = refused(&[body.as_bytes()]);
    assert_invalid(&replies);
    assert!(replies[0].text().contains("byte order mark"), "{}", replies[0].text());
}

#[test]
fn trap_42_the_model_far_behind_is_found() {
    let filler = "x".repeat(8 << 20);
    let body = format!(r#"{{"messages":[{{"role":"user","content":"{filler}"}}],"model":"tiny"}}"#);
    let got = forwarded(&body);
    assert!(got == body.as_bytes(), "{} of {} bytes", got.len(), body.len());
}

#[test]
fn trap_43_a_large_body_is_held_once() {
    const SIZE: usize = 32 << 20;
    let (upstream, gateway) = tiny("");
    // The first request pays for everything that is made once.
    gateway.client().chat("tiny", "");
    let before = peak_rss(&gateway);
    let image = "A".repeat(SIZE);
    let body = format!(
        r#"{{{REST},"x":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{image}"}}}}]}}"#
    );
    let reply = gateway.client().post(CHAT, &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(upstream.inferences()[1].body == body.as_bytes());
    let grown = peak_rss(&gateway) - before;
    assert!(grown < SIZE as u64 * 5 / 2, "{grown} bytes for a body of {SIZE}");
}

/// The highest memory use so far, bytes.
fn peak_rss(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn trap_44_only_the_top_level_model_is_rewritten() {
    let (upstream, backend) = tiny_backend();
    let gateway = Gateway::start(&format!(
        "{backend}[[model]]\nname = \"public\"\nregion = \"eu\"\nupstream_model = \"tiny\"\n"
    ));
    gateway.wait_for_backends(1);
    let inner = r#""messages":[{"role":"user","content":"{\"model\":\"public\"}","model":"public"}],"metadata":{"model":"public"},"tools":[{"type":"function","function":{"name":"model","parameters":{"properties":{"model":{"default":"public"}}}}}]"#;
    for (sent, expected) in [
        (r#"{"model":"public",I}"#, r#"{"model":"tiny",I}"#),
        (r#"{I, "model" :	"public" }"#, r#"{I, "model" :	"tiny" }"#),
        (r#"{"mod\u0065l":"public",I}"#, r#"{"mod\u0065l":"tiny",I}"#),
        (r#"{I,"model":"pub\u006cic"}"#, r#"{I,"model":"tiny"}"#),
    ] {
        upstream.clear();
        let reply = gateway.client().post(CHAT, sent.replace('I', inner));
        assert_eq!(reply.status, 200, "{}", reply.text());
        let got = String::from_utf8_lossy(&upstream.inferences()[0].body).into_owned();
        assert_eq!(got, expected.replace('I', inner));
    }
}

#[test]
fn trap_45_an_odd_stream_value_is_left_to_the_upstream() {
    let (upstream, gateway) = tiny("");
    for value in ["\"true\"", "1", "null", "false", "[true]"] {
        let body = format!("{{{REST},\"stream\":{value}}}");
        // What a server does with it is its own affair: a stream, ...
        let stream = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\
             \"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
        upstream.script(Script {
            answer: Some(Fixed {
                headers: vec![("content-type".into(), "text/event-stream".into())],
                ..Fixed::json(200, stream)
            }),
            ..Script::default()
        });
        let reply = gateway.client().post(CHAT, &body);
        assert_eq!((reply.status, &*reply.text()), (200, stream), "{value}");
        assert_eq!(reply.header("content-type"), Some("text/event-stream"));
        // ... or a refusal.
        let refusal = r#"{"error":{"message":"stream: not a boolean","type":"BadRequestError","param":null,"code":400}}"#;
        upstream.script(Script::status(400, refusal));
        let reply = gateway.client().post(CHAT, &body);
        assert_eq!((reply.status, &*reply.text()), (400, refusal), "{value}");
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert!(upstream.inferences().iter().all(|sent| sent.body == body));
        upstream.clear();
    }
}

#[test]
fn trap_46_stream_options_only_on_streams_and_merged() {
    let (upstream, gateway) = tiny("");
    let sent = |extra: &str| {
        upstream.clear();
        let reply = gateway.client().chat("tiny", extra);
        assert_eq!(reply.status, 200, "{}", reply.text());
        upstream.inferences()[0].json()
    };
    for extra in ["", ",\"stream\":false", ",\"stream\":null"] {
        assert!(sent(extra)["stream_options"].is_null(), "{extra}");
    }
    let body =
        sent(",\"stream\":true,\"stream_options\":{\"continuous_usage_stats\":true,\"x\":1}");
    assert_eq!(body["stream_options"]["continuous_usage_stats"], true);
    assert_eq!(body["stream_options"]["x"], 1);
    let body = sent(",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    assert_eq!(body["stream_options"]["include_usage"], true);
}

#[test]
fn trap_47_empty_values_are_not_cleaned_away() {
    let bodies = [
        r#""content":null"#,
        r#""content":[]"#,
        r#""content":"""#,
        r#""content":"x","tool_calls":[],"name":null"#,
    ]
    .map(|content| format!(r#"{{"model":"tiny","messages":[{{"role":"assistant",{content}}}]}}"#));
    assert_untouched(&bodies.each_ref().map(String::as_str));
    let bodies =
        ["\"tools\":null", "\"tools\":[]", "\"stop\":null,\"user\":\"\",\"logit_bias\":{}"]
            .map(|extra| format!("{{{REST},{extra}}}"));
    assert_untouched(&bodies.each_ref().map(String::as_str));
}

#[test]
fn trap_52_another_attempt_sends_the_identical_body() {
    let (first, second) = (tiny_backend(), tiny_backend());
    let toml = format!(
        "{}{}[[head]]\nname = \"one\"\nregion = \"eu\"\nbackends = [\"a\"]\n\
         [[head]]\nname = \"two\"\nregion = \"eu\"\nbackends = [\"b\"]\n\
         [[model]]\nname = \"public\"\nregion = \"eu\"\nupstream_model = \"tiny\"\n\
         priority_head = \"one\"\nheads = [\"two\"]\n",
        first.1,
        second.1.replace("\"tiny-1\"", "\"b\"")
    )
    .replace("\"tiny-1\"", "\"a\"");
    let (first, second) = (first.0, second.0);
    let gateway = Gateway::start(&toml);
    gateway.wait_for_backends(2);
    first.script(Script::broken(loadtest::At::Request, loadtest::How::Reset));
    let body =
        r#"{ "model" :"public","messages":[{"role":"user","content":"é\u00e9"}] ,"seed":1E5}"#;
    let reply = gateway.client().post(CHAT, body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("x-forebay-attempts"), Some("2"));
    let (one, two) = (first.inferences(), second.inferences());
    assert_eq!((one.len(), two.len()), (1, 1));
    assert_eq!(one[0].body, two[0].body);
    assert_eq!(two[0].body, body.replace("public", "tiny"));
    assert_ne!(one[0].header("x-request-id"), two[0].header("x-request-id"));

    // Once the client has seen a part of the answer, it is that server's answer or none.
    for upstream in [&first, &second] {
        upstream.script(Script::broken(loadtest::At::Events(5), loadtest::How::Reset));
    }
    let reply = gateway.client().chat_stream("public", "");
    assert!(!reply.looks_whole() && !reply.content().is_empty(), "{}", reply.text());
    wait_until("the log line", || gateway.request_lines().len() >= 2);
    assert_eq!(first.inferences().len() + second.inferences().len(), 3);
}

#[test]
fn trap_45_a_plain_answer_to_a_stream_request_stays_plain() {
    let (upstream, gateway) = tiny("");
    upstream.script(Script { plain: true, ..Script::default().header("x-odd", Blob::from("1")) });
    let reply = gateway.client().chat("tiny", ",\"stream\":true");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("x-odd"), Some("1"));
    assert_eq!(reply.json()["object"], "chat.completion");
}
