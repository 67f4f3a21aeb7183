//! HTTP/2 clients that ask and do not read, or open a connection and do not ask.

#![expect(clippy::unwrap_used, reason = "tests")]
#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use loadtest::{Blob, Fixed, Script, Upstream};
use support::client::chat_body;
use support::{Gateway, tiny, wait_until};

const WINDOW: u32 = 64 << 10;

async fn connect(gateway: &Gateway, connection_window: u32) -> SendRequest<Full<Bytes>> {
    let socket = tokio::net::TcpStream::connect(gateway.public).await.unwrap();
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(connection_window)
        .handshake(TokioIo::new(socket))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(sender: &mut SendRequest<Full<Bytes>>, extra: &str) -> Response<Incoming> {
    let body = Full::from(chat_body("tiny", extra));
    let request = Request::post("http://gateway/v1/chat/completions").body(body).unwrap();
    sender.ready().await.unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    response
}

async fn released(upstream: &Upstream) {
    while upstream.stats().cancelled == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// More than any window or buffer on the way holds.
fn large() -> Script {
    let body = Blob::Repeat { repeat: "x".into(), times: 64 << 20 };
    Script { answer: Some(Fixed { body, ..Fixed::default() }), ..Script::default() }
}

fn run(gateway: &Gateway, test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(support::PATIENCE, test).await.unwrap() });
    let cut = "forebay_connections_expired_total{deadline=\"write\"}";
    assert!(gateway.metric(cut) >= 1.0);
    let free = || gateway.metric("forebay_backend_in_flight{backend=\"tiny-1\"}") == 0.0;
    wait_until("free slots", free);
    assert_eq!(gateway.client().chat("tiny", "").status, 200);
}

const LIMIT: &str = "[server.limits]\nwrite_timeout = \"400ms\"\n";

#[test]
fn a_stream_that_is_not_read_is_cut_and_its_neighbours_go_on() {
    let (upstream, gateway) = tiny(LIMIT);
    run(&gateway, async {
        let mut sender = connect(&gateway, 16 << 20).await;
        // Longer than the deadline and as slow as models are.
        upstream.script_next(1, Script::words(150, 10));
        let read = ask(&mut sender, ",\"stream\":true").await;
        upstream.script_next(1, large());
        let unread = ask(&mut sender, "").await;
        let (text, ()) = tokio::join!(read.into_body().collect(), released(&upstream));
        let text = String::from_utf8(text.unwrap().to_bytes().to_vec()).unwrap();
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        // Not passed off as a whole answer either.
        assert!(unread.into_body().collect().await.is_err());
        ask(&mut sender, "").await;
    });
}

#[test]
fn a_connection_whose_window_is_used_up_gives_everything_back() {
    let (upstream, gateway) = tiny(LIMIT);
    upstream.script(large());
    run(&gateway, async {
        let mut sender = connect(&gateway, WINDOW).await;
        let unread = [ask(&mut sender, "").await, ask(&mut sender, "").await];
        while upstream.stats().cancelled < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(unread);
        upstream.script(Script::default());
    });
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00";
/// The head of a HEADERS frame of 100 bytes, and one of them.
const HALF_A_HEAD: &[u8] = b"\x00\x00\x64\x01\x05\x00\x00\x00\x01\x82";
/// A whole HEADERS frame that says there is more to come, and no more.
const NO_CONTINUATION: &[u8] = b"\x00\x00\x01\x01\x01\x00\x00\x00\x01\x82";
const PING: &[u8] = b"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678";

/// What comes after the preface buys no time: only a request does.
#[test]
fn a_connection_that_asks_for_nothing_has_the_head_deadline_only() {
    let (_upstream, gateway) =
        tiny("[server.limits]\nheader_timeout = \"300ms\"\nidle_timeout = \"600s\"\n");
    let open = |frames: &[&[u8]]| {
        let mut socket = TcpStream::connect(gateway.public).unwrap();
        socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
        socket.write_all(&[PREFACE, &frames.concat()].concat()).unwrap();
        socket
    };
    let silent: Vec<_> =
        [&[] as &[&[u8]], &[SETTINGS], &[SETTINGS, HALF_A_HEAD], &[SETTINGS, NO_CONTINUATION]]
            .map(open)
            .into();
    let mut pinging = open(&[SETTINGS]);
    wait_until("one that only pings to be closed", || pinging.write_all(PING).is_err());
    for mut socket in silent {
        let mut said = Vec::new();
        // Ends in order or by a reset; anything but "would block".
        let ended = socket.read_to_end(&mut said).map_err(|error| error.kind());
        assert_ne!(ended, Err(std::io::ErrorKind::WouldBlock), "still open");
    }
    wait_until("all to be gone", || gateway.metric("forebay_connections_open") < 1.0);
    let expired = |by: &str| {
        gateway.metric(&format!("forebay_connections_expired_total{{deadline=\"{by}\"}}"))
    };
    assert_eq!((expired("head"), expired("idle")), (5.0, 0.0));
}
