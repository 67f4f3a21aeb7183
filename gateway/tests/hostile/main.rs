//! Requests made to be read in two ways, heads and bodies that never end, and heads that are too large.

mod corpus;
#[expect(dead_code, reason = "each test file uses its part of the harness")]
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use corpus::{BODY, Either, Local, Refused, Served};
use loadtest::{Fixed, Script};
use support::client::{Exchange, chat_body, request};
use support::{Gateway, tiny, wait_until};

/// Whatever is left unfinished ends soon.
const LIMITS: &str = "[server.limits]\nheader_timeout = \"400ms\"\nbody_timeout = \"400ms\"\n";

/// Sends a case and then an ordinary request; everything that came back until the connection ended.
fn outcome(gateway: &Gateway, bytes: &str) -> String {
    let mut exchange = gateway.client().connect();
    exchange.send(bytes);
    exchange.send("GET /v1/models HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n");
    while exchange.read_some() {}
    exchange.so_far()
}

#[test]
fn no_request_is_smuggled() {
    let (upstream, gateway) = tiny(LIMITS);
    let cases = corpus::all();
    assert!(cases.len() < 1000);
    let number = |text: &str, i: usize| text.replace("@@@", &format!("{i:03}"));
    let next = std::sync::atomic::AtomicUsize::new(0);
    let seen = std::sync::Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some((_, _, bytes)) = cases.get(i) else { return };
                    let text = outcome(&gateway, &number(bytes, i));
                    seen.lock().unwrap().insert(i, text);
                }
            });
        }
    });
    let sent = upstream.inferences();
    let seen = seen.into_inner().unwrap();
    let mut wrong = Vec::new();
    for (i, (name, expect, bytes)) in cases.iter().enumerate() {
        let answer = &seen[&i];
        let mine = number("case-@@@", i);
        let upstream: Vec<_> =
            (sent.iter()).filter(|r| String::from_utf8_lossy(&r.body).contains(&mine)).collect();
        let stolen = sent.iter().any(|r| {
            let text = String::from_utf8_lossy(&r.body).into_owned();
            text.contains(&number("smuggled-@@@", i))
        });
        let exact = upstream.len() == 1
            && upstream[0].body == number(BODY, i)
            && upstream[0].target == "/v1/chat/completions";
        let status: u16 = answer.get(9..12).and_then(|s| s.parse().ok()).unwrap_or(0);
        let served = status == 200 && exact;
        let refused = matches!(status, 0 | 400 | 408 | 413..=415 | 431 | 501 | 505)
            && upstream.is_empty()
            && answer.matches("HTTP/1.1 ").count() <= 1;
        let fine = match expect {
            Refused => refused,
            Served => served,
            Either => served || refused,
            Local => upstream.is_empty() && status != 0,
        };
        if stolen || !fine {
            let head: String = answer.chars().take(300).collect();
            let bytes: String = bytes.chars().take(400).collect();
            wrong.push(format!(
                "{name}: stolen {stolen}, {} upstream\n  sent {bytes:?}\n  got {head:?}",
                upstream.len()
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let hosts: Vec<_> = sent.iter().filter_map(|r| r.header("host")).collect();
    assert!(hosts.iter().all(|host| *host == upstream.addr().to_string()), "{hosts:?}");
    assert!(sent.iter().all(|r| !String::from_utf8_lossy(&r.raw_head).contains("evil")));
    assert_eq!(upstream.stats().malformed, 0);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (upstream, gateway) = tiny("");
    let mut exchange = gateway.client().connect();
    let bodies =
        ["one", "two", "three"].map(|user| chat_body("tiny", &format!(",\"user\":\"{user}\"")));
    let json = "content-type: application/json\r\n";
    let all: Vec<u8> = (bodies.iter())
        .flat_map(|body| request("POST", "/v1/chat/completions", json, body.as_bytes()))
        .collect();
    exchange.send(all);
    for _ in &bodies {
        assert_eq!(exchange.reply().status, 200);
    }
    let sent: Vec<_> = upstream.inferences().iter().map(|r| r.body.to_vec()).collect();
    assert_eq!(sent, bodies.map(String::into_bytes));
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[test]
fn heads_that_never_end_are_closed() {
    let (_upstream, gateway) =
        tiny("[server.limits]\nheader_timeout = \"300ms\"\nidle_timeout = \"600ms\"\n");
    let starts: [&[u8]; 9] = [
        b"",
        b"P",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n",
        b"PRI * HTTP/2.0\r\n",
        PREFACE,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x64\x01\x04\x00\x00\x00\x01\x82",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nx-a: ",
        b"GET /v1/models HTTP/1.1\r\nhost: g\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nhost: g\r\n\r\nGET /v1/models HTTP/1.1\r\nho",
    ];
    let begun = Instant::now();
    let mut open: Vec<Exchange> = Vec::new();
    for _ in 0..40 {
        for start in starts {
            let mut exchange = gateway.client().connect();
            exchange.send(start);
            open.push(exchange);
        }
    }
    // A byte now and then does not buy more time.
    let mut drip = gateway.client().connect();
    drip.send("GET /v1/models HTTP/1.1\r\nx: ");
    let mut dripped = drip.socket.try_clone().unwrap();
    wait_until("the dripping head to be closed", || {
        // Others are served meanwhile.
        assert_eq!(gateway.client().get("/v1/models").status, 200);
        dripped.write_all(b"y").is_err()
    });
    for exchange in &mut open {
        assert!(exchange.closes_within(support::PATIENCE), "{:?}", exchange.so_far());
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    wait_until("all to be gone", || gateway.metric("forebay_connections_open") < 2.0);
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let (upstream, gateway) = tiny("[server.limits]\nwrite_timeout = \"300ms\"\n");
    let large = Fixed {
        body: loadtest::Blob::Repeat { repeat: "x".into(), times: 64 << 20 },
        ..Fixed::default()
    };
    upstream.script(Script { answer: Some(large), ..Script::default() });
    let exchange = gateway.client().open_chat("tiny", "");
    wait_until("the upstream to be let go", || {
        let stats = upstream.stats();
        stats.cancelled == 1 && stats.in_flight == 0
    });
    drop(exchange);
    assert_eq!(gateway.client().get("/v1/models").status, 200);
}

#[test]
fn heads_that_are_too_large_are_refused_before_anything_else() {
    let (upstream, gateway) = tiny("");
    let many: String = (0..1000).map(|i| format!("x-{i}: y\r\n")).collect();
    let some: String = (0..101).map(|i| format!("x-{i}: y\r\n")).collect();
    let huge = "x".repeat(64 << 10);
    let body = chat_body("tiny", "");
    for (path, headers, statuses) in [
        ("", format!("x: {huge}\r\n"), vec![431]),
        ("", format!("{huge}: x\r\n"), vec![400, 431]),
        ("", many, vec![431]),
        ("", some, vec![431]),
        (&*format!("?{huge}"), String::new(), vec![414, 431]),
    ] {
        let path = format!("/v1/chat/completions{path}");
        let reply = gateway.client().request("POST", &path, &headers, body.as_bytes());
        assert!(statuses.contains(&reply.status), "{}", reply.status);
    }
    assert_eq!(upstream.stats().inference_requests, 0);
    // What is only large is taken.
    let headers: String = (0..90).map(|i| format!("x-{i}: {}\r\n", "y".repeat(250))).collect();
    let reply = gateway.client().request("POST", "/v1/chat/completions", &headers, body.as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
}
