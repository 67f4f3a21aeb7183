//! Odd answers and dead upstreams: traps 65 to 69.

#![expect(clippy::unwrap_used, reason = "tests")]
#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use loadtest::{After, At, Blob, Fixed, Framing, How, Profile, Script, Upstream};
use support::{Gateway, Reply, backend, backend_at, tiny, tiny_backend, wait_until};

/// A plain answer as small as it may be.
const ANSWER: &str = r#"{"id":"1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"whole"},"finish_reason":"stop"}]}"#;

/// An upstream, and a gateway that gives it up as late as it may.
fn patient() -> (Upstream, Gateway) {
    let (upstream, table) = tiny_backend();
    let breaker = "[breaker]\nconsecutive_failures = 100000\nmin_requests = 100000\n";
    let gateway = Gateway::start(&format!("{breaker}{table}"));
    gateway.wait_for_model("tiny");
    upstream.clear();
    (upstream, gateway)
}

fn fixed(answer: Fixed) -> Script {
    Script { answer: Some(answer), ..Script::default() }
}

/// The canonical error of an upstream's fault.
fn assert_upstream_error(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status, &*reply.error_code()), (status, code), "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(reply.complete && reply.header("x-request-id").is_some());
}

#[test]
fn trap_65_bodies_that_end_with_the_connection() {
    let (upstream, gateway) = patient();
    let close = |body: &str| {
        fixed(Fixed { framing: Framing::Close, ..Fixed::json(200, body) })
            .header("content-type", "application/json")
    };
    upstream.script(close(ANSWER));
    let reply = gateway.client().chat("tiny", "");
    assert_eq!((reply.status, &*reply.text()), (200, ANSWER));
    // Cut short, its end proves nothing; what it says does.
    upstream.script(close(&ANSWER[..ANSWER.len() - 1]));
    assert_upstream_error(&gateway.client().chat("tiny", ""), 502, "upstream_bad_response");
    upstream.script(close(""));
    assert_upstream_error(&gateway.client().chat("tiny", ""), 502, "upstream_bad_response");

    let stream = Script { framing: Some(Framing::Close), ..Script::default() };
    upstream.script(stream.clone());
    let reply = gateway.client().chat_stream("tiny", "");
    assert!(reply.looks_whole() && reply.text().ends_with("data: [DONE]\n\n"), "{}", reply.text());
    upstream.script(stream.fault(At::Events(5), How::Fin));
    let reply = gateway.client().chat_stream("tiny", "");
    assert!(!reply.content().is_empty() && !reply.looks_whole(), "{}", reply.text());
    assert!(reply.error_event().is_some(), "{}", reply.text());
}

#[test]
fn trap_65_a_large_unframed_answer_cut_short_does_not_look_whole() {
    let (upstream, gateway) = patient();
    let large = ANSWER.replace("whole", &"x".repeat(1 << 20));
    let close = |body: &str| {
        fixed(Fixed { framing: Framing::Close, ..Fixed::json(200, body) })
            .header("content-type", "application/json")
    };
    upstream.script(close(&large));
    let reply = gateway.client().chat("tiny", "");
    assert!(reply.complete && reply.text() == large);
    upstream.script(close(&large[..large.len() - 1]));
    let reply = gateway.client().chat("tiny", "");
    let cut = !reply.complete || reply.status != 200;
    assert!(
        cut,
        "a cut answer was passed off as whole: {}, {} bytes",
        reply.head,
        reply.body.len()
    );
}

#[test]
fn trap_66_interim_answers_are_swallowed() {
    let (upstream, gateway) = tiny("");
    upstream.script(Script { interim: vec![100, 103, 102], ..Script::default() });
    for extra in ["", ",\"stream\":true"] {
        let mut exchange = gateway.client().open_chat("tiny", extra);
        let head = exchange.read_until("\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let reply = exchange.reply();
        assert!(reply.looks_whole(), "{}", reply.text());
    }
}

#[test]
fn trap_66_redirects_are_not_followed_and_empty_answers_are_no_answers() {
    let (upstream, gateway) = patient();
    let elsewhere = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let location = format!("{}/v1/chat/completions", elsewhere.url());
    for status in [301, 302, 303, 307, 308, 304, 204, 205, 206] {
        for extra in ["", ",\"stream\":true"] {
            upstream.script(Script::status(status, "").header("location", &*location));
            let reply = gateway.client().chat("tiny", extra);
            assert_upstream_error(&reply, 502, "upstream_bad_response");
            assert_eq!(reply.header("location"), None);
        }
    }
    assert_eq!(elsewhere.stats().requests, 0);
}

/// An answer as bytes.
fn raw(bytes: impl Into<Vec<u8>>) -> Script {
    Script { raw: Some(Blob::raw(&bytes.into())), ..Script::default() }
}

fn raw_with(headers: &str) -> Script {
    raw(format!("HTTP/1.1 200 OK\r\n{headers}content-length: {}\r\n\r\n{ANSWER}", ANSWER.len()))
}

#[test]
fn trap_67_odd_answers_are_an_answer_or_502() {
    let (upstream, gateway) = patient();
    let trailers = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n{:x};ext=\"a\"\r\n{ANSWER}\r\n0\r\nx-sum: 1\r\nx-other: 2\r\n\r\n",
        ANSWER.len()
    );
    let many: String = (0..1000).map(|i| format!("x-h{i}: {i}\r\n")).collect();
    let some: String = (0..200).map(|i| format!("x-h{i}: {i}\r\n")).collect();
    let huge = format!("x-huge: {}\r\n", "h".repeat(70 << 10));
    let large = format!("x-large: {}\r\n", "h".repeat(48 << 10));
    let mut latin = b"HTTP/1.1 200 OK\r\nx-name: caf\xe9 \xff\xfe\r\ncontent-length: ".to_vec();
    latin.extend_from_slice(format!("{}\r\n\r\n{ANSWER}", ANSWER.len()).as_bytes());
    let no_answer: [(&str, Script); 12] = [
        ("1,000 headers", raw_with(&many)),
        ("garbage", raw("\u{0}\u{1}\u{2}garbage\r\n\r\n")),
        ("SSH", raw("SSH-2.0-OpenSSH_9.9\r\n")),
        ("HTTP/2", raw(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00".to_vec())),
        ("HTTP/3.0", raw("HTTP/3.0 200 OK\r\n\r\n")),
        ("NUL in a header", raw_with("x-nul: a\u{0}b\r\n")),
        ("CR in a header", raw_with("x-cr: a\rb\r\n")),
        ("space before the colon", raw_with("x-space : 1\r\n")),
        ("two lengths", raw_with("content-length: 3\r\n")),
        ("signed length", raw("HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nhello")),
        ("negative length", raw("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n")),
        ("half a head", raw("HTTP/1.1 200 OK\r\ncontent-")),
    ];
    for (what, script) in no_answer {
        upstream.script(script);
        let reply = gateway.client().chat("tiny", "");
        assert_eq!(reply.status, 502, "{what}: {}", reply.text());
        assert!(reply.error_code().starts_with("upstream_"), "{what}: {}", reply.text());
    }
    let answers = [
        ("trailers", raw(trailers)),
        ("200 headers", raw_with(&some)),
        ("a large header", raw_with(&large)),
        ("a huge header", raw_with(&huge)),
        ("bytes beyond ASCII", raw(latin)),
        ("an obs-fold", raw_with("x-folded: a\r\n b\r\n")),
        (
            "an empty reason",
            raw(format!("HTTP/1.1 200\r\ncontent-length: {}\r\n\r\n{ANSWER}", ANSWER.len())),
        ),
    ];
    for (what, script) in answers {
        upstream.script(script);
        let reply = gateway.client().chat("tiny", "");
        let fine = (reply.status == 200 && reply.text() == ANSWER)
            || (reply.status == 502 && reply.error_code().starts_with("upstream_"));
        assert!(fine, "{what}: {} {}", reply.status, reply.text());
        assert!(!reply.head.contains("x-sum"), "{}", reply.head);
    }
    upstream.script(Script::default());
    assert_eq!(gateway.client().chat("tiny", "").status, 200);
}

#[test]
fn trap_68_a_connection_closed_while_idle_costs_nothing() {
    let (upstream, gateway) = tiny("");
    // Closed right behind the answer, unannounced: a race that every request enters anew.
    upstream.script(Script { after: Some(After::SilentClose), ..Script::default() });
    for i in 0..100 {
        let reply = gateway.client().chat("tiny", if i % 2 == 0 { "" } else { ",\"stream\":true" });
        assert!(reply.status == 200 && reply.looks_whole(), "{i}: {}", reply.text());
    }
    assert_eq!(upstream.stats().inference_requests, 100, "each asked once");
    // Closed by the server's timer, seen by the gateway or not.
    upstream.vitals(|vitals| vitals.idle_ms = Some(1));
    upstream.script(Script::default());
    for i in 0..100 {
        assert_eq!(gateway.client().chat("tiny", "").status, 200, "{i}");
        if i % 10 == 0 {
            wait_until("the server to close", || upstream.stats().connections_open == 0);
        }
    }
    assert_eq!(upstream.stats().inference_requests, 200);
}

/// A backend that declares the model `m`, so that it is tried without having been discovered.
fn declared(name: &str, url: &str) -> String {
    format!("{}models = [\"m\"]\n", backend_at(name, "vllm", url))
}

const SHORT: &str = "[timeouts]\nconnect = \"300ms\"\nfirst_event = \"300ms\"\nresponse = \"300ms\"\n\
    [health]\ninterval = \"1h\"\ntimeout = \"100ms\"\n";

/// A listener whose queue is full: a connect to it gets no reply at all.
struct Deaf {
    addr: SocketAddr,
    _listener: tokio::net::TcpListener,
    _waiting: Vec<std::net::TcpStream>,
    _runtime: tokio::runtime::Runtime,
}

impl Deaf {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let guard = runtime.enter();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let listener = socket.listen(1).unwrap();
        let addr = listener.local_addr().unwrap();
        drop(guard);
        let mut waiting = Vec::new();
        while let Ok(stream) =
            std::net::TcpStream::connect_timeout(&addr, Duration::from_millis(100))
        {
            waiting.push(stream);
        }
        Self { addr, _listener: listener, _waiting: waiting, _runtime: runtime }
    }
}

/// A server that knows no TLS and says so to whoever connects.
fn plain_spoken() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let _ = socket.and_then(|mut s| s.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        }
    });
    url
}

/// A port that refuses: nobody serves tcpmux. One that a listener has just left may still be held by a process that is
/// being started.
fn refusing() -> String {
    "http://127.0.0.1:1".to_owned()
}

#[test]
fn trap_69_each_way_to_be_dead_has_its_code_and_fails_over() {
    let good = Upstream::start(Profile::vllm(&["m"])).unwrap();
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let deaf = Deaf::new();
    let hasty = Upstream::start(Profile::vllm(&["m"])).unwrap();
    hasty.script(Script::broken(At::Request, How::Reset));
    let cases = [
        (refusing(), 502, "upstream_unreachable", "connection refused"),
        (
            "http://does-not-exist.invalid:8000".to_owned(),
            502,
            "upstream_unreachable",
            "name cannot be resolved",
        ),
        (format!("http://{}", deaf.addr), 504, "upstream_connect_timeout", "no connection in time"),
        (plain_spoken(), 502, "upstream_tls_failed", "TLS handshake"),
        (format!("http://{}", silent.local_addr().unwrap()), 504, "upstream_timeout", "in time"),
        (hasty.url(), 502, "upstream_connection_lost", "lost the connection"),
    ];
    for (url, status, code, words) in cases {
        let alone = Gateway::start(&format!("{SHORT}{}", declared("bad", &url)));
        let begun = std::time::Instant::now();
        let reply = alone.client().chat("m", ",\"stream\":true");
        assert_upstream_error(&reply, status, code);
        assert!(begun.elapsed() < support::PATIENCE / 4, "{code} took {:?}", begun.elapsed());
        assert!(!reply.text().contains(&url), "{}", reply.text());
        assert!(reply.text().contains(words), "{}", reply.text());

        let toml = format!(
            "{SHORT}{}{}[[head]]\nname = \"one\"\nregion = \"eu\"\nbackends = [\"bad\"]\n\
             [[head]]\nname = \"two\"\nregion = \"eu\"\nbackends = [\"good\"]\n\
             [[model]]\nname = \"public\"\nupstream_model = \"m\"\nregion = \"eu\"\n\
             priority_head = \"one\"\nheads = [\"two\"]\n",
            declared("bad", &url),
            backend("good", "vllm", &good)
        );
        let pair = Gateway::start(&toml);
        pair.wait_for_backends(1);
        let reply = pair.client().chat("public", ",\"stream\":true");
        assert!(reply.status == 200 && reply.looks_whole(), "{code}: {}", reply.text());
        assert_eq!(reply.header("x-forebay-backend"), Some("good"), "{code}");
    }
}
