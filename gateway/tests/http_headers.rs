//! Which headers cross the gateway, in either direction: traps 59 to 64.

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::collections::BTreeSet;

use loadtest::{At, Blob, Fixed, How, Script};
use support::client::{chat_body, request};
use support::{Gateway, Reply, tiny, tiny_backend, wait_until};

const CHAT: &str = "/v1/chat/completions";

fn chat_with(gateway: &Gateway, headers: &str) -> Reply {
    let headers = format!("content-type: application/json\r\n{headers}");
    gateway.client().request("POST", CHAT, &headers, chat_body("tiny", "").as_bytes())
}

#[test]
fn trap_59_the_host_is_the_upstreams_and_browser_headers_stay_behind() {
    let (upstream, gateway) = tiny("forward_headers = [\"x-mine\"]");
    let reply = chat_with(
        &gateway,
        "origin: http://evil.test\r\ncookie: a=b\r\nreferer: http://evil.test/\r\nx-mine: 1\r\n\
         x-other: 1\r\nopenai-project: p\r\nx-stainless-lang: js\r\nuser-agent: ua/1\r\n\
         accept: text/event-stream\r\nsec-fetch-mode: cors\r\ntraceparent: 00-1-2-01\r\n",
    );
    assert_eq!(reply.status, 200, "{}", reply.text());
    let sent = &upstream.inferences()[0];
    assert_eq!(sent.header("host"), Some(&*upstream.addr().to_string()));
    let names: BTreeSet<_> = sent.headers.iter().map(|(n, _)| n.to_ascii_lowercase()).collect();
    let expected = [
        "accept",
        "accept-encoding",
        "content-length",
        "content-type",
        "host",
        "openai-project",
        "traceparent",
        "user-agent",
        "x-mine",
        "x-request-id",
        "x-stainless-lang",
    ];
    assert_eq!(names, expected.map(str::to_owned).into());
    assert_eq!(sent.headers.len(), names.len(), "none twice");
}

const CLIENT_KEY: &str = "sk-client-0123456789";
const OUR_KEY: &str = "sk-upstream-9876543210";

#[test]
fn trap_60_credentials_do_not_cross() {
    let (upstream, backend) = tiny_backend();
    upstream.vitals(|vitals| vitals.api_key = Some(OUR_KEY.to_owned()));
    let gateway = Gateway::start(&format!("{backend}api_key = \"{OUR_KEY}\"\n"));
    gateway.wait_for_model("tiny");
    let credentials = format!(
        "authorization: Bearer {CLIENT_KEY}\r\nx-api-key: {CLIENT_KEY}\r\napi-key: {CLIENT_KEY}\r\n\
         proxy-authorization: Basic {CLIENT_KEY}\r\ncookie: key={CLIENT_KEY}\r\n"
    );
    assert_eq!(chat_with(&gateway, &credentials).status, 200);
    for request in upstream.requests() {
        let head = String::from_utf8_lossy(&request.raw_head).into_owned();
        assert!(!head.contains(CLIENT_KEY), "{head}");
        let keys = head.matches(OUR_KEY).count();
        assert!(keys == 1 || request.method == "GET", "{head}");
    }
    let sent = upstream.inferences();
    assert_eq!(sent[0].header("authorization"), Some(&*format!("Bearer {OUR_KEY}")));

    // A server that repeats our key in its complaint, by status and by event.
    let words = format!("Incorrect API key provided: {OUR_KEY}");
    let mut seen = vec![gateway.client().get("/v1/models").text()];
    for status in [401, 403] {
        let body = format!(
            r#"{{"error":{{"message":"{words}","type":"x","param":null,"code":{status}}}}}"#
        );
        upstream.script(Script::status(status, body).header("www-authenticate", &*words));
        let reply = chat_with(&gateway, &credentials);
        assert_eq!((reply.status, &*reply.error_code()), (502, "upstream_unauthorized"));
        seen.push(reply.head.clone() + &reply.text());
    }
    upstream
        .script(Script::default().fault(At::Head, How::ErrorEvent { code: 401, message: words }));
    seen.push(gateway.client().chat_stream("tiny", "").text());
    seen.push(gateway.metrics());
    wait_until("the log lines", || gateway.request_lines().len() >= 4);
    seen.push(gateway.log());
    for text in seen {
        assert!(!text.contains(OUR_KEY) && !text.contains(CLIENT_KEY), "{text}");
    }
}

#[test]
fn trap_61_hop_by_hop_headers_end_here() {
    let (upstream, gateway) =
        tiny("forward_headers = [\"x-hop\", \"te\", \"upgrade\", \"keep-alive\"]");
    let reply = chat_with(
        &gateway,
        "connection: keep-alive, x-hop, Openai-Project\r\nconnection: openai-organization\r\n\
         x-hop: 1\r\nopenai-project: p\r\nopenai-organization: o\r\nopenai-beta: b\r\nte: trailers\r\n\
         keep-alive: timeout=5\r\nproxy-connection: keep-alive\r\nupgrade: h2c\r\n\
         trailer: x-sum\r\nexpect: nothing\r\n",
    );
    assert_eq!(reply.status, 200, "{}", reply.text());
    let sent = &upstream.inferences()[0];
    for name in [
        "connection",
        "x-hop",
        "openai-project",
        "openai-organization",
        "te",
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "trailer",
        "expect",
        "transfer-encoding",
    ] {
        assert_eq!(sent.header(name), None, "{name}");
    }
    assert_eq!(sent.header("openai-beta"), Some("b"), "what nobody named is kept");

    for script in [
        Script::default(),
        Script {
            answer: Some(Fixed::json(
                400,
                r#"{"error":{"message":"m","type":"t","param":null,"code":"c"}}"#,
            )),
            ..Script::default()
        },
    ] {
        upstream.script(
            script
                .header("connection", "x-hop")
                .header("x-hop", "1")
                .header("keep-alive", "timeout=5")
                .header("proxy-authenticate", "Basic")
                .header("upgrade", "h2c")
                .header("trailer", "x-sum")
                .header("x-kept", "1"),
        );
        for extra in ["", ",\"stream\":true"] {
            let reply = gateway.client().chat("tiny", extra);
            for name in ["x-hop", "keep-alive", "proxy-authenticate", "upgrade", "trailer"] {
                assert_eq!(reply.header(name), None, "{name}");
            }
            let framings = ["content-length", "transfer-encoding"];
            assert_eq!(framings.iter().filter(|name| reply.header(name).is_some()).count(), 1);
            assert!(reply.complete);
        }
    }
}

#[test]
fn trap_62_what_upstreams_trust_is_not_the_clients_to_say() {
    let trusted = ["x-vllm-priority", "x-data-parallel-rank", "x-request-id", "X-Vllm-Priority"];
    let list = "[\"x-vllm-priority\", \"x-data-parallel-rank\", \"x-request-id\"]";
    let (upstream, gateway) = tiny(&format!("forward_headers = {list}"));
    let mut headers: String = trusted.iter().map(|name| format!("{name}: -100\r\n")).collect();
    for name in ["for", "host", "proto", "port", "prefix", "client-cert"] {
        headers.push_str(&format!("x-forwarded-{name}: evil.test\r\n"));
    }
    headers.push_str(
        "forwarded: for=evil.test\r\nx-real-ip: 10.0.0.1\r\nx-session-id: s\r\n\
         x_vllm_priority: -100\r\nx_request_id: evil.test\r\nx_forwarded_for: evil.test\r\n\
         endpoint-load-metrics-format: TEXT\r\n",
    );
    assert_eq!(chat_with(&gateway, &headers).status, 200);
    let head = String::from_utf8_lossy(&upstream.inferences()[0].raw_head).to_ascii_lowercase();
    for word in ["-100", "evil.test", "10.0.0.1", "forwarded", "priority", "x-session-id", "orca"] {
        assert!(!head.contains(word), "{word}: {head}");
    }
}

#[test]
fn trap_63_request_ids() {
    let (upstream, gateway) = tiny("");
    let reply = chat_with(&gateway, "x-request-id: mine-1\r\n");
    assert_eq!(reply.header("x-request-id"), Some("mine-1"));
    // Invalid ones are replaced, on every kind of answer.
    let long = "x".repeat(129);
    let invalid = ["", "a b", "a\tb", "é", &*long].map(|id| format!("x-request-id: {id}\r\n"));
    for header in invalid.iter().map(String::as_str).chain([""]) {
        let reply = chat_with(&gateway, header);
        assert_eq!(reply.status, 200, "{header}");
        let ids: Vec<_> = reply.headers.iter().filter(|(n, _)| n == "x-request-id").collect();
        assert_eq!(ids.len(), 1);
        assert!(ids[0].1.starts_with("fb-"), "{header}: {ids:?}");
    }
    let header = "x-request-id: mine-2\r\n";
    let stream = chat_body("tiny", ",\"stream\":true");
    for (method, path, body) in [
        ("POST", CHAT, stream.as_bytes()),
        ("POST", CHAT, b"{"),
        ("GET", "/v1/models", b""),
        ("GET", "/nothing", b""),
        ("PUT", CHAT, b""),
        ("OPTIONS", CHAT, b""),
    ] {
        let reply = gateway.client().request(method, path, header, body);
        assert_eq!(reply.header("x-request-id"), Some("mine-2"), "{method} {path}");
    }
    // Upstreams see ids of ours alone, each of them once.
    let sent = upstream.inferences();
    let ids: BTreeSet<_> = sent.iter().filter_map(|r| r.header("x-request-id")).collect();
    assert_eq!(ids.len(), sent.len());
    assert!(ids.iter().all(|id| id.starts_with("fb-") && id.ends_with("-1")), "{ids:?}");
    let mut lines = Vec::new();
    wait_until("the log line", || {
        lines = gateway.request_lines();
        lines.retain(|line| line["request_id"] == "mine-1");
        !lines.is_empty()
    });
    let own = lines[0]["upstream_id"].as_str().unwrap();
    assert!(ids.contains(&*format!("{own}-1")), "{own} {ids:?}");
}

#[test]
fn trap_63_no_line_break_gets_into_a_header() {
    let (upstream, gateway) = tiny("forward_headers = [\"x-mine\"]");
    let body = chat_body("tiny", "");
    for value in ["a\rx-evil: 1", "a\r\r\nx-evil: 1", "a\u{0}b", "a\u{b}b", "a\u{7f}"] {
        let headers = format!("x-mine: {value}\r\nx-request-id: {value}\r\n");
        let reply = gateway.client().raw(request("POST", CHAT, &headers, body.as_bytes()));
        assert_eq!(reply.status, 400, "{value:?}");
        assert!(!reply.head.contains("evil"), "{}", reply.head);
    }
    assert_eq!(upstream.stats().inference_requests, 0);
}

/// Not gzip at all: nobody on the way may look inside.
const COMPRESSED: &[u8] = b"\x1f\x8b\x08\x00not really\x00\xff\xfe";

#[test]
fn trap_64_an_encoded_answer_passes_intact() {
    let (upstream, gateway) = tiny("");
    for (kind, encoding) in [("application/json", "gzip"), ("text/event-stream", "br")] {
        let headers = vec![
            ("content-type".to_owned(), Blob::from(kind)),
            ("content-encoding".to_owned(), Blob::from(encoding)),
        ];
        let fixed = Fixed { headers, body: Blob::raw(COMPRESSED), ..Fixed::default() };
        upstream.script(Script { answer: Some(fixed), ..Script::default() });
        for extra in ["", ",\"stream\":true"] {
            let reply = gateway.client().chat("tiny", extra);
            assert_eq!(reply.status, 200, "{}", reply.text());
            assert_eq!(reply.header("content-encoding"), Some(encoding));
            assert_eq!(reply.header("content-type"), Some(kind));
            assert_eq!(reply.body, COMPRESSED);
        }
    }
    // It was asked for none of this.
    let asked = upstream.inferences();
    assert!(asked.iter().all(|r| r.header("accept-encoding") == Some("identity")));
}
