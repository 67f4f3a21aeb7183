//! HTTP/2 with prior knowledge on the clear-text port: requests, streams, and heads that only HTTP/2 can carry.

#![expect(clippy::unwrap_used, reason = "tests")]
#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::convert::Infallible;
use std::future::Future;
use std::io::{Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use loadtest::{Script, Upstream};
use support::client::chat_body;
use support::{Gateway, tiny, wait_until};

const CHAT: &str = "/v1/chat/completions";

type Sender = SendRequest<Full<Bytes>>;

/// Runs a client of HTTP/2 on a connection of its own.
fn client<B, F>(gateway: &Gateway, run: impl FnOnce(SendRequest<B>) -> F) -> F::Output
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
    F: Future,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(gateway.public).await.unwrap();
        let (sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
        let connection = tokio::spawn(connection);
        let output = tokio::time::timeout(support::PATIENCE, run(sender)).await.unwrap();
        connection.abort();
        output
    })
}

async fn ask(
    sender: &mut Sender,
    method: Method,
    path: &str,
    body: impl Into<Bytes>,
) -> (StatusCode, HeaderMap, Bytes) {
    let request = Request::builder()
        .method(method)
        .uri(format!("http://gateway{path}"))
        .header("content-type", "application/json")
        .body(Full::new(body.into()))
        .unwrap();
    sender.ready().await.unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, head.headers, body)
}

#[test]
fn requests_and_errors() {
    let (upstream, gateway) = tiny("max_body = \"64KiB\"");
    client(&gateway, async |mut sender| {
        let body = chat_body("tiny", "");
        let (status, headers, answer) = ask(&mut sender, Method::POST, CHAT, body.clone()).await;
        assert_eq!(status, 200, "{answer:?}");
        assert_eq!(headers["content-length"], answer.len().to_string());
        assert!(headers.contains_key("x-request-id") && !headers.contains_key("connection"));
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["object"], "chat.completion");
        assert_eq!(upstream.inferences()[0].body, body);
        assert_eq!(upstream.inferences()[0].header("host"), Some(&*upstream.addr().to_string()));

        let (status, _, list) = ask(&mut sender, Method::GET, "/v1/models", "").await;
        assert!(status == 200 && list.starts_with(b"{\"object\":\"list\""));
        let (status, headers, nothing) = ask(&mut sender, Method::HEAD, "/v1/models", "").await;
        assert_eq!((status.as_u16(), nothing.len()), (200, 0));
        assert_eq!(headers["content-length"], list.len().to_string());
        let large = format!("{{\"x\":\"{}\"}}", "x".repeat(1 << 20));
        for (method, path, body, expected) in [
            (Method::POST, CHAT, "{", 400),
            // Together more than the connection's window: what is refused is given back.
            (Method::POST, CHAT, &*large, 413),
            (Method::POST, CHAT, &*large, 413),
            (Method::POST, CHAT, &*large, 413),
            (Method::GET, CHAT, "", 405),
            (Method::GET, "/nothing", "", 404),
            (Method::OPTIONS, CHAT, "", 204),
        ] {
            // The connection outlives every refusal.
            let (status, headers, _) = ask(&mut sender, method, path, body.to_owned()).await;
            assert_eq!(status, expected, "{path}");
            assert!(!headers.contains_key("connection"));
        }
        let (status, ..) = ask(&mut sender, Method::POST, CHAT, body).await;
        assert_eq!(status, 200);
    });
    assert_eq!(upstream.stats().inference_requests, 2);
}

#[test]
fn streams_run_side_by_side() {
    let (upstream, gateway) = tiny("");
    upstream.script(Script::words(50, 2));
    client(&gateway, async |sender| {
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let mut sender = sender.clone();
            running.spawn(async move {
                let body = chat_body("tiny", ",\"stream\":true");
                ask(&mut sender, Method::POST, CHAT, body).await
            });
        }
        while let Some(done) = running.join_next().await {
            let (status, headers, body) = done.unwrap();
            let text = String::from_utf8(body.to_vec()).unwrap();
            assert_eq!(status, 200, "{text}");
            assert_eq!(headers["content-type"], "text/event-stream; charset=utf-8");
            // 50 words, the role, the finish and [DONE].
            assert_eq!(support::client::events(&text).len(), 53);
            assert!(text.ends_with("data: [DONE]\n\n"));
        }
    });
    assert_eq!(upstream.stats().finished, 20);
}

#[test]
fn a_broken_stream_ends_in_an_error_and_a_cut_answer_is_reset() {
    let (upstream, gateway) = tiny("");
    client(&gateway, async |mut sender| {
        upstream.script(Script::broken(loadtest::At::Events(5), loadtest::How::Reset));
        let body = chat_body("tiny", ",\"stream\":true");
        let (status, _, text) = ask(&mut sender, Method::POST, CHAT, body).await;
        let text = String::from_utf8(text.to_vec()).unwrap();
        assert!(status == 200 && text.contains("upstream_stream_broken"), "{text}");

        let large = loadtest::Fixed {
            body: loadtest::Blob::Repeat { repeat: "x".into(), times: 1 << 20 },
            ..loadtest::Fixed::default()
        };
        let script = Script { answer: Some(large), ..Script::default() };
        upstream.script(script.fault(loadtest::At::Bytes(900_000), loadtest::How::Fin));
        let request = Request::post(format!("http://gateway{CHAT}"))
            .body(Full::from(chat_body("tiny", "")))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.into_body().collect().await.is_err(), "passed off as whole");
    });
}

#[test]
fn a_reset_stream_frees_its_backend_and_the_connection_goes_on() {
    let (upstream, gateway) = tiny("");
    upstream.script(Script::words(100_000, 5));
    client(&gateway, async |mut sender| {
        let request = Request::post(format!("http://gateway{CHAT}"))
            .body(Full::from(chat_body("tiny", ",\"stream\":true")))
            .unwrap();
        let mut response = sender.send_request(request).await.unwrap();
        assert!(response.body_mut().frame().await.unwrap().is_ok());
        drop(response);
        while upstream.stats().in_flight > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (status, ..) = ask(&mut sender, Method::GET, "/v1/models", "").await;
        assert_eq!(status, 200);
    });
    assert_eq!(upstream.stats().cancelled, 1);
}

/// One frame (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, stream];
    bytes.extend_from_slice(payload);
    bytes
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A field block of literals, names and values as they are (RFC 7541, 6.2.2).
fn literals(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for text in fields {
        block.push(0);
        for text in [text.0, text.1] {
            assert!(text.len() < 127, "no continued lengths here");
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// Sends one request made by hand and waits until the gateway has dealt with it.
fn send_by_hand(gateway: &Gateway, fields: &[(&str, &str)], body: &[u8]) {
    let mut socket = std::net::TcpStream::connect(gateway.public).unwrap();
    socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, b""));
    bytes.extend(frame(HEADERS, END_HEADERS, 1, &literals(fields)));
    bytes.extend(frame(DATA, END_STREAM, 1, body));
    socket.write_all(&bytes).unwrap();
    let mut read = Vec::new();
    // The stream ends by END_STREAM, by RST_STREAM, or with the connection by GOAWAY.
    loop {
        let mut rest = &read[..];
        while rest.len() >= 9 {
            let length = usize::from(rest[1]) << 8 | usize::from(rest[2]);
            if rest.len() < 9 + length {
                break;
            }
            let (kind, flags) = (rest[3], rest[4]);
            let ended = matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
            if ended || matches!(kind, 3 | 7) {
                return;
            }
            rest = &rest[9 + length..];
        }
        let mut buffer = [0; 4096];
        match socket.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(n) => read.extend_from_slice(&buffer[..n]),
        }
    }
}

const INJECTION: &str = "a\r\nx-evil: 1\r\n\r\nPOST /v1/completions HTTP/1.1\r\nhost: evil\r\n\r\n";

fn inference_after(
    upstream: &Upstream,
    gateway: &Gateway,
    fields: &[(&str, &str)],
    body: &str,
) -> usize {
    upstream.clear();
    send_by_hand(gateway, fields, body.as_bytes());
    // An ordinary request behind it: whatever the first one did upstream has happened.
    assert_eq!(gateway.client().chat("tiny", ",\"user\":\"sentinel\"").status, 200);
    let sent = upstream.inferences();
    for request in &sent {
        let text = String::from_utf8_lossy(&request.raw_head).into_owned();
        assert!(!text.contains("evil"), "{text}");
        assert_eq!(request.target.split('?').next(), Some(CHAT));
        assert!(request.body == body || request.json()["user"] == "sentinel");
    }
    sent.len() - 1
}

#[test]
fn nothing_of_http2_breaks_out_into_an_upstream_head() {
    let (upstream, gateway) = tiny("forward_headers = [\"x-mine\"]");
    let body = chat_body("tiny", "");
    let length = body.len().to_string();
    let good = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "gateway"),
        (":path", CHAT),
        ("content-type", "application/json"),
    ];
    assert_eq!(inference_after(&upstream, &gateway, &good, &body), 1, "the frames are right");

    let with = |field: (&'static str, &'static str)| [&good[..], &[field]].concat();
    let instead = |field: (&'static str, &'static str)| {
        let mut fields = good.to_vec();
        fields.iter_mut().filter(|(name, _)| *name == field.0).for_each(|other| *other = field);
        fields
    };
    let refused = [
        with(("x-mine", INJECTION)),
        with(("x-mine", "a\nx-evil: 1")),
        with(("x-mine", "a\rx-evil: 1")),
        with(("x-mine", "a\0evil")),
        with(("x-mine: a\r\nx-evil", "1")),
        with(("x-mine\nevil", "1")),
        with(("X-Mine", "upper case")),
        with(("x mine", "1")),
        with(("", "1")),
        with(("transfer-encoding", "chunked")),
        with(("connection", "x-mine")),
        with(("upgrade", "h2c")),
        with(("keep-alive", "1")),
        with(("te", "chunked")),
        with((":path", "/twice")),
        with((":evil", "1")),
        with(("content-length", "5")),
        with(("content-length", "+5")),
        with(("content-length", "5\r\nx-evil: 1")),
        instead((":path", "/v1/chat/completions HTTP/1.1\r\nx-evil: 1\r\n\r\n")),
        instead((":path", "/v1/chat/completions x")),
        instead((":path", "")),
        instead((":method", "POST /v1/completions HTTP/1.1\r\nx-evil: 1\r\n\r\nPOST")),
        instead((":authority", "gateway\r\nx-evil: 1")),
        good[1..].to_vec(),
        [&good[4..], &good[..4]].concat(),
    ];
    for fields in refused {
        assert_eq!(inference_after(&upstream, &gateway, &fields, &body), 0, "{fields:?}");
    }
    // What is only odd is served as it is, or refused.
    let length: &'static str = Box::leak(length.into_boxed_str());
    for fields in [
        with(("content-length", length)),
        with(("host", "evil.test")),
        with(("te", "trailers")),
        with(("x_request_id", "evil")),
        with(("x-request-id", "evil")),
        with(("cookie", "evil")),
        instead((":authority", "evil.test")),
        instead((":scheme", "evil")),
    ] {
        assert!(inference_after(&upstream, &gateway, &fields, &body) <= 1, "{fields:?}");
    }
}

/// A body of which nothing comes.
struct Never;

impl Body for Never {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

#[test]
fn a_body_that_never_ends_is_ended_and_the_connection_goes_on() {
    let (upstream, gateway) = tiny("[server.limits]\nbody_timeout = \"300ms\"\n");
    client(&gateway, async |mut sender| {
        for _ in 0..2 {
            let request = Request::post(format!("http://gateway{CHAT}")).body(Never).unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), 408);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert!(body.starts_with(b"{\"error\":"), "{body:?}");
        }
    });
    assert_eq!(upstream.stats().inference_requests, 0);
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let (upstream, gateway) = tiny("");
    client(&gateway, async |mut sender| {
        for (name, value) in [("x-large", "x".repeat(64 << 10)), ("cookie", "a=b; ".repeat(10_000))]
        {
            let request = Request::post(format!("http://gateway{CHAT}"))
                .header(name, value)
                .body(Full::from(chat_body("tiny", "")))
                .unwrap();
            // The client of hyper itself refuses what the peer's settings exclude.
            if let Ok(response) = sender.send_request(request).await {
                assert_eq!(response.status(), 431);
            }
        }
    });
    assert_eq!(upstream.stats().inference_requests, 0);
    wait_until("it to serve on", || gateway.client().chat("tiny", "").status == 200);
}
