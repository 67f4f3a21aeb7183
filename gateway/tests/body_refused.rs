//! Request bodies that are refused, and how a body may arrive: traps 33, 39 to 42 and 48 to 50.
//!
//! Trap 51 (multipart uploads) belongs to the audio operations.

#![expect(clippy::unwrap_used, reason = "tests")]
#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::time::Duration;

use loadtest::Upstream;
use support::client::{Exchange, request};
use support::{Gateway, Reply, tiny, wait_until};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"tiny","messages":[{"role":"user","content":"hi"}]}"#;

fn assert_refused(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status, &*reply.error_code()), (status, code), "{}", reply.text());
    assert!(reply.header("x-request-id").is_some());
    assert_eq!(reply.header("content-type"), Some("application/json"));
}

/// All of these are 400 and reach nobody.
fn assert_all_invalid(bodies: &[String]) -> Vec<Reply> {
    let (upstream, gateway) = tiny("");
    let replies: Vec<_> = bodies.iter().map(|body| gateway.client().post(CHAT, body)).collect();
    for (reply, body) in replies.iter().zip(bodies) {
        let body: String = body.chars().take(80).collect();
        assert_eq!((reply.status, &*reply.error_code()), (400, "invalid_request"), "{body}");
    }
    assert_eq!(upstream.stats().inference_requests, 0);
    replies
}

#[test]
fn trap_33_two_models_are_refused() {
    let pairs = [
        r#""model":"tiny","model":"tiny""#,
        r#""model":"tiny","model":"other""#,
        r#""model":"tiny","MODEL":"other""#,
        r#""Model":"other","model":"tiny""#,
        r#""model":"tiny","mod\u0065l":"other""#,
        r#""model":"tiny","\u004dodel":"other""#,
        r#""MODEL":"tiny""#,
    ];
    let bodies = pairs.map(|pair| format!("{{{pair},\"messages\":[]}}"));
    for reply in assert_all_invalid(&bodies) {
        assert_eq!(reply.json()["error"]["param"], "model", "{}", reply.text());
    }
    // `stream` decides how the answer is read: two readings of it are as bad.
    assert_all_invalid(&[
        r#"{"model":"tiny","messages":[],"stream":true,"stream":false}"#.to_owned(),
        r#"{"model":"tiny","messages":[],"stream":false,"STREAM":true}"#.to_owned(),
        // U+017F, which Go folds to an s.
        "{\"model\":\"tiny\",\"messages\":[],\"\u{17f}tream\":true}".to_owned(),
    ]);
}

#[test]
fn trap_39_deep_nesting_is_refused_and_128_levels_pass() {
    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels - 1), "]".repeat(levels - 1));
        format!(r#"{{"model":"tiny","messages":[],"x":{open}{close}}}"#)
    };
    let open_ended = format!(r#"{{"model":"tiny","x":{}"#, "{\"a\":".repeat(1_000_000));
    assert_all_invalid(&[nested(129), nested(10_000), nested(1_000_000), open_ended]);
    let (upstream, gateway) = tiny("");
    gateway.client().post(CHAT, nested(128));
    assert_eq!(upstream.inferences()[0].body, nested(128));
}

#[test]
fn trap_40_what_is_no_json_object_is_refused() {
    let bodies = [
        "",
        " ",
        "null",
        "[]",
        "\"x\"",
        "1",
        "true",
        "{",
        "{}}",
        r#"{"model":"tiny","messages":["#,
        r#"{"model":"tiny","messages":[]}x"#,
        r#"{"model":"tiny","messages":[]}{"model":"tiny"}"#,
        r#"{"model":"tiny","messages":[],}"#,
        r#"{"model":"tiny" "messages":[]}"#,
        r#"{'model':'tiny'}"#,
        r#"{"model":"tiny"/**/}"#,
        "{\"model\":\"tiny\",\"x\":\"\n\"}",
        r#"{"model":"tiny","x":01}"#,
        "model=tiny&messages=hi",
    ];
    assert_all_invalid(&bodies.map(str::to_owned));
}

#[test]
fn trap_41_the_model_has_to_be_a_name_that_is_known() {
    let bodies =
        ["", r#","model":null"#, r#","model":7"#, r#","model":"""#, r#","model":["tiny"]"#];
    let bodies = bodies.map(|model| format!(r#"{{"messages":[]{model}}}"#));
    for reply in assert_all_invalid(&bodies) {
        assert_eq!(reply.json()["error"]["param"], "model", "{}", reply.text());
    }
    let (upstream, gateway) = tiny("");
    for name in ["unknown", "Tiny", "tiny ", "../tiny", "\u{0}", "\r\nx: y"] {
        let reply = gateway.client().chat(name, "");
        assert_refused(&reply, 404, "model_not_found");
        assert_eq!(reply.json()["error"]["param"], "model");
    }
    assert_eq!(upstream.stats().inference_requests, 0);
}

/// The connection is over, or carries another request in order.
fn closes_or_goes_on(exchange: &mut Exchange, reply: &Reply) {
    if reply.header("connection") == Some("close") {
        assert!(exchange.closes_within(support::PATIENCE));
    } else {
        exchange.send(request("GET", "/v1/models", "", b""));
        assert_eq!(exchange.reply().status, 200);
    }
}

#[test]
fn trap_42_a_body_beyond_the_limit_is_413() {
    let (upstream, gateway) = tiny("max_body = \"64KiB\"");
    let json = "content-type: application/json\r\n";
    let large = format!(r#"{{"messages":"{}","model":"tiny"}}"#, "x".repeat(4 << 20));
    // Announced; the client sends it all before it looks.
    let mut exchange = gateway.client().connect();
    exchange.send(request("POST", CHAT, json, large.as_bytes()));
    let reply = exchange.reply();
    assert_refused(&reply, 413, "request_too_large");
    closes_or_goes_on(&mut exchange, &reply);
    // Not announced.
    let mut exchange = gateway.client().connect();
    exchange.send(format!(
        "POST {CHAT} HTTP/1.1\r\nhost: g\r\n{json}transfer-encoding: chunked\r\n\r\n"
    ));
    exchange.send(format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len()));
    let reply = exchange.reply();
    assert_refused(&reply, 413, "request_too_large");
    closes_or_goes_on(&mut exchange, &reply);
    // At the limit.
    let frame = r#"{"messages":"","model":"tiny"}"#.len();
    let exact = format!(r#"{{"messages":"{}","model":"tiny"}}"#, "x".repeat((64 << 10) - frame));
    assert_eq!(gateway.client().post(CHAT, &exact).status, 200);
    assert_refused(&gateway.client().post(CHAT, exact + " "), 413, "request_too_large");
    assert_eq!(upstream.stats().inference_requests, 1);
}

fn assert_served(exchange: &mut Exchange, upstream: &Upstream) -> Reply {
    let reply = exchange.reply();
    assert_eq!(reply.status, 200, "{}", reply.text());
    let last = upstream.inferences().pop().unwrap();
    assert_eq!(String::from_utf8_lossy(&last.body), BODY);
    assert_eq!(last.header("content-length"), Some(&*BODY.len().to_string()));
    assert_eq!(last.header("transfer-encoding"), None);
    reply
}

#[test]
fn trap_48_chunked_slow_and_contradicting_bodies() {
    let (upstream, gateway) = tiny("");
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: g\r\ncontent-type: application/json\r\n");
    let (left, right) = BODY.split_at(20);
    let chunks = format!("14\r\n{left}\r\n{:X}\r\n{right}\r\n0\r\n\r\n", right.len());

    let mut exchange = gateway.client().connect();
    exchange.send(format!("{head}transfer-encoding: chunked\r\n\r\n{chunks}"));
    assert_served(&mut exchange, &upstream);
    // The same connection, now with a length, in pieces. Nothing goes upstream before the last one.
    exchange.send(format!("{head}content-length: {}\r\n\r\n{left}", BODY.len()));
    wait_until("the request to be read", || gateway.metrics().contains("forebay_"));
    assert_eq!(upstream.inferences().len(), 1);
    exchange.send(right);
    assert_served(&mut exchange, &upstream);
    // Both: read as chunked, the length dropped, the connection closed.
    exchange.send(format!("{head}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"));
    assert_served(&mut exchange, &upstream);
    assert!(exchange.closes_within(support::PATIENCE));
    assert_eq!(upstream.inferences().len(), 3);
}

#[test]
fn trap_48_a_body_that_breaks_off_reaches_nobody() {
    let (upstream, gateway) = tiny("");
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: g\r\ncontent-type: application/json\r\n");
    for rest in [
        format!("content-length: 1000\r\n\r\n{BODY}"),
        format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{BODY}\r\n", BODY.len()),
    ] {
        let mut exchange = gateway.client().connect();
        exchange.send(format!("{head}{rest}"));
        exchange.socket.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(exchange.closes_within(support::PATIENCE));
        assert!(!exchange.so_far().starts_with("HTTP/1.1 200"), "{}", exchange.so_far());
    }
    assert_eq!(upstream.stats().inference_requests, 0);
}

#[test]
fn trap_49_expect_continue() {
    let (upstream, gateway) = tiny("max_body = \"64KiB\"");
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: g\r\nexpect: 100-continue\r\ncontent-type: application/json\r\n"
    );
    let mut exchange = gateway.client().connect();
    exchange.send(format!("{head}content-length: {}\r\n\r\n", BODY.len()));
    exchange.read_until("HTTP/1.1 100 Continue\r\n\r\n");
    exchange.send(BODY);
    assert_served(&mut exchange, &upstream);
    assert_eq!(upstream.inferences()[0].header("expect"), None);
    // What is refused by its head is refused before the body is asked for.
    for (rest, status) in
        [("content-length: 70000\r\n", 413), ("content-encoding: br\r\ncontent-length: 9\r\n", 415)]
    {
        let mut exchange = gateway.client().connect();
        exchange.send(format!("{head}{rest}\r\n"));
        let seen = exchange.read_until("\r\n\r\n");
        assert!(seen.starts_with(&format!("HTTP/1.1 {status}")), "{seen}");
    }
    assert_eq!(upstream.stats().inference_requests, 1);
}

#[test]
fn trap_50_content_encodings_and_types() {
    let (upstream, gateway) = tiny("");
    let send = |headers: &str| gateway.client().request("POST", CHAT, headers, BODY.as_bytes());
    for encoding in ["gzip", "zstd", "br", "deflate", "x", "identity, gzip", ""] {
        let reply = send(&format!("content-encoding: {encoding}\r\n"));
        assert_refused(&reply, 415, "unsupported_media_type");
    }
    let kinds = [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "application/json-seq",
        "",
        "json",
    ];
    for kind in kinds {
        assert_refused(&send(&format!("content-type: {kind}\r\n")), 415, "unsupported_media_type");
    }
    assert_eq!(upstream.stats().inference_requests, 0);
    for headers in [
        "content-type: application/json; charset=utf-8\r\n",
        "content-type: Application/JSON ;charset=UTF-8\r\n",
        "content-type: application/json\r\ncontent-encoding: identity\r\n",
        "content-encoding: Identity\r\n",
        "",
    ] {
        let reply = send(headers);
        assert_eq!(reply.status, 200, "{headers}: {}", reply.text());
        let sent = upstream.inferences().pop().unwrap();
        // vLLM takes exactly this one.
        assert_eq!(sent.header("content-type"), Some("application/json"));
        assert_eq!(sent.header("content-encoding"), None);
    }
}

#[test]
fn two_content_encodings_are_not_read_as_one() {
    let (upstream, gateway) = tiny("");
    let headers = "content-encoding: identity\r\ncontent-encoding: gzip\r\n";
    let reply = gateway.client().request("POST", CHAT, headers, BODY.as_bytes());
    assert_refused(&reply, 415, "unsupported_media_type");
    let headers = "content-type: application/json\r\ncontent-type: text/plain\r\n";
    let reply = gateway.client().request("POST", CHAT, headers, BODY.as_bytes());
    assert_refused(&reply, 415, "unsupported_media_type");
    assert_eq!(upstream.stats().inference_requests, 0);
}

#[test]
fn a_body_that_trickles_is_ended_and_one_that_flows_is_not() {
    let (upstream, gateway) =
        tiny("[server.limits]\nbody_timeout = \"300ms\"\nbody_rate = \"1KiB\"\n");
    let head = |length: usize| {
        format!(
            "POST {CHAT} HTTP/1.1\r\nhost: g\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n"
        )
    };
    let mut exchange = gateway.client().connect();
    exchange.send(head(1000));
    exchange.send("{");
    let reply = exchange.reply();
    assert_refused(&reply, 408, "request_timeout");
    closes_or_goes_on(&mut exchange, &reply);
    // 4 KiB have earned four seconds more; the rest comes after the first span.
    let filler = "x".repeat(4 << 10);
    let body = format!(r#"{{"model":"tiny","messages":[],"x":"{filler}"}}"#);
    let mut exchange = gateway.client().connect();
    exchange.send(head(body.len()));
    exchange.send(&body[..body.len() - 1]);
    let late = pause(&gateway, Duration::from_millis(400));
    exchange.send("}");
    assert_eq!(exchange.reply().status, 200, "after {late:?}");
    assert_eq!(upstream.stats().inference_requests, 1);
}

/// Lets the gateway's own clock advance, seen by another connection that it ends.
fn pause(gateway: &Gateway, at_least: Duration) -> Duration {
    let begun = std::time::Instant::now();
    wait_until("the clock", || {
        gateway.client().get("/v1/models");
        begun.elapsed() >= at_least
    });
    begun.elapsed()
}
