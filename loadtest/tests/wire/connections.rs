//! Connections: counting, cancelling, freezing, refusing, idling.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use loadtest::{After, Profile, Script, Upstream};

use crate::raw::{CHAT, Ending, PLAIN, Raw, STREAM, chat};

const SOON: Duration = Duration::from_secs(10);

fn vllm(script: Script) -> Upstream {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    upstream.script(script);
    upstream
}

#[test]
fn a_client_that_leaves_is_counted_at_once() {
    let upstream = vllm(Script::words(1000, 60_000));
    let mut raw = Raw::connect(&upstream);
    raw.post(CHAT, STREAM);
    assert!(upstream.wait_for(SOON, |s| s.in_flight == 1));
    let left = Instant::now();
    drop(raw);
    assert!(upstream.wait_for(SOON, |s| s.cancelled == 1 && s.in_flight == 0));
    assert!(left.elapsed() < Duration::from_secs(5));
}

#[test]
fn who_leaves_after_done_has_had_all() {
    let upstream = vllm(Script { linger_ms: 60_000, ..Script::words(1, 0) });
    let mut raw = Raw::connect(&upstream);
    raw.post(CHAT, STREAM);
    assert!(upstream.wait_for(SOON, |s| s.bytes_out > 0 || s.in_flight == 1));
    let mut seen = Vec::new();
    while !seen.ends_with(b"[DONE]\n\n\r\n") {
        use std::io::Read as _;
        let mut byte = [0; 1];
        assert_eq!(raw.stream.read(&mut byte).unwrap(), 1);
        seen.push(byte[0]);
    }
    assert!(raw.is_silent());
    drop(raw);
    assert!(upstream.wait_for(SOON, |s| s.finished == 1));
    assert_eq!(upstream.stats().cancelled, 0);
}

#[test]
fn requests_are_recorded_as_sent() {
    let upstream = vllm(Script::words(1, 0));
    let mut raw = Raw::connect(&upstream);
    let head = "POST /v1/chat/completions?a=%2F HTTP/1.1\r\nhOsT: x\r\nX-B: 2\r\nX-B: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (first, second) = PLAIN.split_at(10);
    raw.send(
        format!(
            "{head}a\r\n{first}\r\n{:x};ext=1\r\n{second}\r\n0\r\ntrailer: t\r\n\r\n",
            second.len()
        )
        .as_bytes(),
    );
    assert_eq!(raw.response().status(), 200);
    let recorded = &upstream.requests()[0];
    assert_eq!(recorded.raw_head, head);
    assert_eq!(recorded.target, "/v1/chat/completions?a=%2F");
    assert_eq!(recorded.headers[0], ("hOsT".to_owned(), "x".to_owned()));
    assert_eq!(recorded.header("x-b"), Some("2"));
    assert_eq!(recorded.body, PLAIN);
    assert_eq!((recorded.connection, recorded.sequence, recorded.complete), (1, 1, true));
    upstream.clear();
    assert!(upstream.requests().is_empty());
    assert_eq!(upstream.stats().requests, 0);
    assert_eq!(upstream.stats().connections_open, 1);
}

#[test]
fn the_record_is_bounded() {
    let upstream = vllm(Script::words(1, 0));
    let mut raw = Raw::connect(&upstream);
    for _ in 0..loadtest::MAX_RECORDED + 5 {
        raw.get("/health");
        assert_eq!(raw.response().status(), 200);
    }
    let requests = upstream.requests();
    assert_eq!(requests.len(), loadtest::MAX_RECORDED);
    assert_eq!(requests[0].sequence, 6);
}

#[test]
fn expect_gets_100_continue_before_the_body() {
    let upstream = vllm(Script::words(1, 0));
    let mut raw = Raw::connect(&upstream);
    let len = PLAIN.len();
    raw.send(
        format!("POST {CHAT} HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {len}\r\n\r\n")
            .as_bytes(),
    );
    assert_eq!(raw.response().status(), 100);
    raw.send(PLAIN.as_bytes());
    assert_eq!(raw.response().status(), 200);
}

#[test]
fn what_is_no_request_is_counted_and_refused() {
    let upstream = vllm(Script::words(1, 0));
    for junk in ["GET / HTTP/2.0\r\n\r\n", "junk\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n"] {
        let mut raw = Raw::connect(&upstream);
        raw.send(junk.as_bytes());
        assert_eq!(raw.response().status(), 400, "{junk}");
        assert_eq!(raw.end(), Ending::Fin);
    }
    assert_eq!(upstream.stats().malformed, 3);
}

#[test]
fn it_refuses_and_takes_again_on_the_same_port() {
    let upstream = vllm(Script::words(1, 0));
    for _ in 0..3 {
        assert_eq!(chat(&upstream, PLAIN).0.status(), 200);
        upstream.refuse(true);
        assert!(TcpStream::connect(upstream.addr()).is_err());
        upstream.refuse(false);
    }
    assert_eq!(chat(&upstream, PLAIN).0.status(), 200);
}

#[test]
fn all_connections_can_be_reset() {
    let upstream = vllm(Script::words(1000, 60_000));
    let mut raw = Raw::connect(&upstream);
    raw.post(CHAT, STREAM);
    assert!(upstream.wait_for(SOON, |s| s.in_flight == 1));
    upstream.kill_connections();
    assert_eq!(raw.response().ending, Ending::Reset);
    assert!(upstream.wait_for(SOON, |s| s.connections_open == 0 && s.broken == 1));
    upstream.script(Script::words(1, 0));
    assert_eq!(chat(&upstream, PLAIN).0.status(), 200);
}

#[test]
fn frozen_it_accepts_and_says_nothing() {
    let upstream = vllm(Script::words(1, 0));
    upstream.freeze(true);
    let mut raw = Raw::connect(&upstream);
    raw.post(CHAT, PLAIN);
    assert!(raw.is_silent());
    upstream.freeze(false);
    assert_eq!(raw.response().status(), 200);
}

#[test]
fn idle_connections_are_closed_after_their_time() {
    let upstream = vllm(Script::words(1, 0));
    upstream.vitals(|v| v.idle_ms = Some(30));
    let (_, mut raw) = chat(&upstream, PLAIN);
    assert_eq!(raw.end(), Ending::Fin);
}

#[test]
fn closes_are_announced_or_not() {
    let upstream = vllm(Script { after: Some(After::Close), ..Script::words(1, 0) });
    let (response, mut raw) = chat(&upstream, PLAIN);
    assert!(response.head.contains("connection: close"));
    assert_eq!(raw.end(), Ending::Fin);
    upstream.script(Script { after: Some(After::SilentClose), ..Script::words(1, 0) });
    let (response, mut raw) = chat(&upstream, STREAM);
    assert!(!response.head.contains("connection:"));
    assert_eq!((response.ending, raw.end()), (Ending::Whole, Ending::Fin));
}

#[test]
fn slots_queue_and_overflow() {
    let upstream = vllm(Script { slots: 1, queue: Some(1), ..Script::words(1000, 60_000) });
    let mut first = Raw::connect(&upstream);
    first.post(CHAT, STREAM);
    assert!(upstream.wait_for(SOON, |s| s.in_flight == 1));
    let mut second = Raw::connect(&upstream);
    second.post(CHAT, PLAIN);
    assert!(upstream.wait_for(SOON, |s| s.waiting == 1));
    // Admission is checked before the head of a stream too.
    let (response, mut raw) = chat(&upstream, STREAM);
    assert_eq!(response.status(), 503);
    raw.get("/metrics");
    let metrics = raw.response().text();
    assert!(metrics.contains("vllm:num_requests_running{engine=\"0\",model_name=\"tiny\"} 1.0"));
    assert!(metrics.contains("vllm:num_requests_waiting{engine=\"0\",model_name=\"tiny\"} 1.0"));
    drop(first);
    assert!(upstream.wait_for(SOON, |s| s.waiting == 0 && s.in_flight == 1));
}

#[test]
fn dropping_the_handle_closes_everything() {
    let upstream = vllm(Script::words(1000, 60_000));
    let addr = upstream.addr();
    let mut raw = Raw::connect(&upstream);
    raw.post(CHAT, STREAM);
    assert!(upstream.wait_for(SOON, |s| s.in_flight == 1));
    drop(upstream);
    assert_ne!(raw.response().ending, Ending::Whole);
    assert!(TcpStream::connect(addr).is_err());
}

#[test]
fn what_a_slow_reader_leaves_is_not_sent() {
    let pad = loadtest::Pad { word: 0, bytes: 50_000_000 };
    let upstream = vllm(Script { pad: Some(pad), ..Script::words(2, 0) });
    let mut raw = Raw::connect(&upstream);
    raw.post(CHAT, STREAM);
    assert!(upstream.wait_for(SOON, |s| s.bytes_out > 0 && s.events_out == 1));
    let before = std::cell::Cell::new(u64::MAX);
    // Kernel buffers fill, then nothing moves.
    assert!(upstream.wait_for(SOON, |s| {
        let still = before.replace(s.bytes_out) == s.bytes_out;
        std::thread::sleep(Duration::from_millis(20));
        still
    }));
    assert!(before.get() < 40_000_000, "{before:?}");
    assert_eq!(upstream.stats().finished, 0);
    assert_eq!(raw.response().content(0), "baba babe");
    assert!(upstream.wait_for(SOON, |s| s.finished == 1 && s.bytes_out > 50_000_000));
}
