//! Stopping in order: trap 70.

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::net::TcpStream;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use loadtest::Script;
use support::client::{Client, chat_body, request};
use support::streams::one;
use support::{tiny, wait_until};

fn drain(grace: &str, timeout: &str) -> String {
    format!("[server.drain]\ngrace = \"{grace}\"\ntimeout = \"{timeout}\"\n")
}

#[test]
fn trap_70_running_streams_finish_and_readiness_turns_first() {
    let (upstream, mut gateway) = tiny(&drain("1s", "20s"));
    upstream.script(Script::words(300, 10));
    let mut stream = gateway.client().open_chat("tiny", ",\"stream\":true");
    stream.read_until("data: ");
    let mut idle = gateway.client().connect();
    idle.send(request("GET", "/v1/models", "", b""));
    assert_eq!(idle.reply().status, 200);

    let ready = |gateway: &support::Gateway| Client::new(gateway.ops).get("/readyz").status;
    assert_eq!(ready(&gateway), 200);
    gateway.signal("TERM");
    wait_until("readiness to turn", || ready(&gateway) == 503);
    // Within the grace, who has not heard of it yet is still served.
    assert_eq!(gateway.client().get("/v1/models").status, 200);
    wait_until("the listener to close", || TcpStream::connect(gateway.public).is_err());
    assert!(idle.closes_within(support::PATIENCE), "idle connections are closed");
    let reply = stream.reply();
    assert!(reply.looks_whole(), "{}", reply.text());
    assert_eq!(reply.content().split_whitespace().count(), 300);
    assert!(gateway.wait_exit().success());
}

#[test]
fn trap_70_at_the_end_of_the_drain_streams_get_an_error_event() {
    let (upstream, mut gateway) = tiny(&drain("0ms", "300ms"));
    upstream.script(Script::words(100_000, 20));
    let mut stream = gateway.client().open_chat("tiny", ",\"stream\":true");
    stream.read_until("data: ");
    upstream.script(Script { first_ms: 600_000, ..Script::default() });
    let mut waiting = gateway.client().open_chat("tiny", "");
    wait_until("the second request", || upstream.stats().in_flight == 2);
    gateway.signal("TERM");
    let reply = stream.reply();
    assert!(!reply.looks_whole(), "{}", reply.text());
    assert_eq!(reply.error_event().unwrap()["code"], "shutting_down");
    let reply = waiting.reply();
    assert_eq!((reply.status, &*reply.error_code()), (503, "shutting_down"));
    assert!(gateway.wait_exit().success());
}

#[test]
fn trap_70_who_waits_behind_comments_is_told_too() {
    let hold = "head_hold = \"20ms\"\nkeep_alive = \"20ms\"\n";
    let (upstream, mut gateway) = one(hold, &drain("0ms", "100ms"));
    upstream.script(Script { first_ms: 600_000, ..Script::default() });
    let mut waiting = gateway.client().open_chat("tiny", ",\"stream\":true");
    waiting.read_until(": keep-alive");
    gateway.signal("TERM");
    let reply = waiting.reply();
    assert!(reply.complete, "{}", reply.text());
    assert_eq!(reply.error_event().unwrap()["code"], "shutting_down");
    assert!(gateway.wait_exit().success());
}

#[test]
fn trap_70_streams_of_http2_finish_too() {
    let (upstream, mut gateway) = tiny(&drain("0ms", "20s"));
    upstream.script(Script::words(100, 5));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(gateway.public).await.unwrap();
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
        tokio::spawn(connection);
        let body = chat_body("tiny", ",\"stream\":true");
        let request = Request::post("http://gateway/v1/chat/completions");
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let response = sender.send_request(request).await.unwrap();
        gateway.signal("TERM");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body.ends_with(b"data: [DONE]\n\n"), "{body:?}");
        while !sender.is_closed() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    });
    assert!(gateway.wait_exit().success());
}

#[test]
fn trap_70_a_second_signal_ends_at_once() {
    let (upstream, mut gateway) = tiny(&drain("60s", "60s"));
    upstream.script(Script::words(100_000, 20));
    let mut stream = gateway.client().open_chat("tiny", ",\"stream\":true");
    stream.read_until("data: ");
    gateway.signal("INT");
    wait_until("readiness to turn", || Client::new(gateway.ops).get("/readyz").status == 503);
    assert!(gateway.is_alive());
    gateway.signal("TERM");
    gateway.wait_exit();
    assert!(!stream.reply().looks_whole());
}
