//! TLS on both sides: what is negotiated, whose certificate counts, and handshakes that never end.

#![expect(clippy::unwrap_used, unreachable_pub, reason = "tests")]

mod peers;
#[expect(dead_code, reason = "each test file uses its part of the harness")]
#[path = "../support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use loadtest::{Profile, Script, Upstream};
use peers::{ANY, Authority, Leaf, Secure, Terminator, client, get};
use rustls::ProtocolVersion;
use support::client::{Client, chat_body, request};
use support::{Gateway, TempDir, backend, backend_at, tiny_backend, wait_until};

const CHAT: &str = "/v1/chat/completions";
const JSON: &str = "content-type: application/json\r\n";

/// A gateway that serves `leaf`, in front of a server of `tiny`.
fn secure(leaf: &Leaf, limits: &str) -> (Upstream, Gateway, TempDir) {
    let (upstream, table) = tiny_backend();
    let files = TempDir::new();
    leaf.write(files.path());
    let path = |name: &str| files.path().join(name).display().to_string();
    let server = format!(
        "[server.tls]\ncert = \"{}\"\nkey = \"{}\"\n{limits}",
        path("cert.pem"),
        path("key.pem")
    );
    let gateway = Gateway::start_with(&table, &server);
    gateway.wait_for_backends(1);
    upstream.clear();
    (upstream, gateway, files)
}

#[test]
fn both_versions_and_both_protocols_are_negotiated() {
    let authority = Authority::new("forebay test");
    let (upstream, gateway, _files) = secure(&authority.issue(&["localhost"]), "");
    for (versions, version) in
        [(peers::TLS_12, ProtocolVersion::TLSv1_2), (peers::TLS_13, ProtocolVersion::TLSv1_3)]
    {
        for (offered, chosen) in [
            (&["h2", "http/1.1"] as &[&str], Some("h2")),
            (&["http/1.1", "h2"], Some("h2")),
            (&["http/1.1"], Some("http/1.1")),
            (&[], None),
        ] {
            let config = client(&authority, versions, offered);
            let mut one = Secure::connect(gateway.public, &config).unwrap();
            assert_eq!((one.version(), one.alpn().as_deref()), (version, chosen), "{offered:?}");
            if chosen != Some("h2") {
                one.send(request("POST", CHAT, JSON, chat_body("tiny", "").as_bytes()));
                assert!(one.read_until("chat.completion").starts_with("HTTP/1.1 200"));
                // Keep-alive works over TLS too.
                one.send("GET /v1/models HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n");
                assert!(one.rest().starts_with("HTTP/1.1 200"));
            }
        }
        let config = client(&authority, versions, &["spdy/3"]);
        assert!(Secure::connect(gateway.public, &config).is_err(), "no protocol in common");
    }
    assert_eq!(upstream.stats().inference_requests, 4);
}

#[test]
fn a_stream_of_http2_comes_whole() {
    use http_body_util::{BodyExt, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let authority = Authority::new("forebay test");
    let (upstream, gateway, _files) = secure(&authority.issue(&["localhost"]), "");
    upstream.script(Script::words(200, 1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let body = runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(gateway.public).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(client(&authority, ANY, &["h2"]));
        let tls = connector.connect("localhost".try_into().unwrap(), socket).await.unwrap();
        let handshake =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls));
        let (mut sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        let body = Full::new(bytes::Bytes::from(chat_body("tiny", ",\"stream\":true")));
        let request = http::Request::post(format!("https://localhost{CHAT}")).body(body).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        response.into_body().collect().await.unwrap().to_bytes()
    });
    let text = String::from_utf8(body.to_vec()).unwrap();
    // 200 words, the role, the finish and [DONE].
    assert_eq!(support::client::events(&text).len(), 203);
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
}

/// A hello of a client that knows nothing newer than `minor` (2 = TLS 1.1, 3 = TLS 1.2); RFC 5246, 7.4.1.2.
fn hello(minor: u8) -> Vec<u8> {
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    // No session; ECDHE_ECDSA with AES 128 GCM, ECDHE_ECDSA and RSA with AES 128 CBC; no compression.
    body.extend([0, 0, 6, 0xc0, 0x2b, 0xc0, 0x09, 0x00, 0x2f, 1, 0]);
    // Curves, point formats, and ecdsa_secp256r1_sha256 for signatures.
    let extensions = [0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0, 0, 13, 0, 4, 0, 2, 4, 3];
    body.extend([0, u8::try_from(extensions.len()).unwrap()]);
    body.extend(extensions);
    let length = u8::try_from(body.len()).unwrap();
    let mut record = vec![0x16, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(body);
    record
}

#[test]
fn older_versions_and_clear_text_are_refused() {
    const ALERT: u8 = 0x15;
    const PROTOCOL_VERSION: u8 = 70;
    let authority = Authority::new("forebay test");
    let (upstream, gateway, _files) = secure(&authority.issue(&["localhost"]), "");
    let connect = |bytes: &[u8]| {
        let mut socket = TcpStream::connect(gateway.public).unwrap();
        socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
        socket.write_all(bytes).unwrap();
        socket
    };
    let answer = |bytes: &[u8]| {
        let mut answer = Vec::new();
        // What was refused may end in a reset.
        let _ = connect(bytes).read_to_end(&mut answer);
        answer
    };
    let refused = answer(&hello(2));
    assert_eq!((refused[0], refused[5], refused[6]), (ALERT, 2, PROTOCOL_VERSION), "{refused:?}");
    // The very same hello with the next version is taken: a handshake record comes back.
    let mut kind = [0];
    connect(&hello(3)).read_exact(&mut kind).unwrap();
    assert_eq!(kind[0], 0x16);

    let refused = answer(&request("POST", CHAT, JSON, chat_body("tiny", "").as_bytes()));
    assert!(refused.is_empty() || refused[0] == ALERT, "{refused:?}");
    assert_eq!(upstream.stats().inference_requests, 0);
}

#[test]
fn a_changed_certificate_is_used_and_cuts_nobody() {
    let authority = Authority::new("forebay test");
    let first = authority.issue(&["localhost"]);
    let (upstream, gateway, folder) = secure(&first, "");
    let folder = folder.path();
    let config = client(&authority, ANY, &["http/1.1"]);
    let served = || Secure::connect(gateway.public, &config).unwrap().certificate();
    assert_eq!(served(), first.der());
    upstream.script(Script::words(100_000, 20));
    let mut running = Secure::connect(gateway.public, &config).unwrap();
    let body = chat_body("tiny", ",\"stream\":true");
    running.send(request("POST", CHAT, JSON, body.as_bytes()));
    running.read_until("content\":");

    let second = authority.issue(&["localhost"]);
    second.write(folder);
    wait_until("the second certificate", || served() == second.der());
    // What cannot be used changes nothing: a torn file, then a key that belongs to another certificate.
    std::fs::write(folder.join("cert.pem"), &second.cert[..second.cert.len() / 2]).unwrap();
    let refusals = || gateway.metric("forebay_config_reloads_total{result=\"refused\"}");
    wait_until("a refusal", || refusals() >= 1.0);
    assert_eq!(served(), second.der());
    let third = authority.issue(&["localhost"]);
    let before = refusals();
    std::fs::write(folder.join("cert.pem"), &third.cert).unwrap();
    wait_until("another refusal", || refusals() > before);
    assert_eq!(served(), second.der());
    gateway.signal("HUP");
    assert_eq!(served(), second.der());
    std::fs::write(folder.join("key.pem"), &third.key).unwrap();
    wait_until("the third certificate", || served() == third.der());

    // The connection of old has lived through it all.
    assert_eq!(upstream.stats().cancelled, 0);
    drop(running);
    wait_until("its end", || upstream.stats().cancelled == 1);
    assert!(get(gateway.public, &config, "/v1/models").starts_with("HTTP/1.1 200"));
}

/// Writes a file of authorities; its `ca` line.
fn ca(folder: &Path, authority: &Authority) -> String {
    let path = folder.join(format!("ca-{}.pem", fastrand::u64(..)));
    std::fs::write(&path, &authority.pem).unwrap();
    format!("ca = \"{}\"\n", path.display())
}

/// Backends `first` and `second` in this order, both of which serve `tiny` whatever discovery finds.
fn listed(first: &str, second: &str) -> String {
    format!(
        "{first}{second}[[head]]\nname = \"both\"\nregion = \"eu\"\nbackends = [\"first\", \"second\"]\n\
         order = \"listed\"\n[[model]]\nname = \"tiny\"\nregion = \"eu\"\npriority_head = \"both\"\n\
         [model.deployments]\nfirst = \"tiny\"\nsecond = \"tiny\"\n"
    )
}

fn alone(first: &str) -> String {
    format!("{first}[[model]]\nname = \"tiny\"\n[model.deployments]\nfirst = \"tiny\"\n")
}

/// A server without TLS: it does not understand a word.
fn clear_text() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let _ = socket.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    addr
}

#[test]
fn upstreams_are_checked_against_their_authority_and_name() {
    let (good, other) = (Authority::new("ours"), Authority::new("somebody else's"));
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let plain = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let folder = TempDir::new();
    let right = Terminator::start(&good.issue(&["localhost", "127.0.0.1"]), &upstream);
    let wrong = Terminator::start(&good.issue(&["other.test"]), &upstream);
    let (ours, theirs) = (ca(folder.path(), &good), ca(folder.path(), &other));
    let table = |host: &str, terminator: &Terminator, ca: &str| {
        let url = format!("https://{host}:{}", terminator.addr.port());
        backend_at("first", "vllm", &url) + ca
    };

    // By name with SNI, and by address without.
    for (host, name) in [("localhost", Some("localhost")), ("127.0.0.1", None)] {
        let gateway = Gateway::start(&table(host, &right, &ours));
        gateway.wait_for_model("tiny");
        upstream.clear();
        let reply = gateway.client().chat_stream("tiny", "");
        assert!(reply.status == 200 && reply.looks_whole(), "{}", reply.text());
        assert_eq!(right.names().last().unwrap().as_deref(), name);
        assert_eq!(upstream.stats().finished, 1);
        // Who leaves is heard of through TLS too.
        upstream.script_next(1, Script::words(100_000, 5));
        let mut left = gateway.client().open_chat("tiny", ",\"stream\":true");
        left.read_until("data:");
        left.leave();
        wait_until("the cancel", || upstream.stats().cancelled == 1);
    }
    upstream.clear();
    let second = backend("second", "vllm", &plain);
    for (what, first) in [
        ("wrong name", table("localhost", &wrong, &ours)),
        ("authority not named", table("localhost", &right, "")),
        ("another authority", table("localhost", &right, &theirs)),
        ("no TLS", backend_at("first", "vllm", &format!("https://{}", clear_text()))),
    ] {
        let gateway = Gateway::start(&alone(&first));
        let reply = gateway.client().chat("tiny", "");
        assert_eq!((reply.status, &*reply.error_code()), (502, "upstream_tls_failed"), "{what}");
        assert!(!reply.text().contains("localhost") && !reply.text().contains("127.0.0.1"));
        let gateway = Gateway::start(&listed(&first, &second));
        let reply = gateway.client().chat("tiny", "");
        assert_eq!(reply.status, 200, "{what}: {}", reply.text());
        assert_eq!(reply.header("x-forebay-backend"), Some("second"), "{what}");
        assert_eq!(reply.header("x-forebay-attempts"), Some("2"), "{what}");
    }
    assert_eq!(upstream.stats().requests, 0, "nothing was said to whom we do not trust");
}

#[test]
fn handshakes_that_never_end_are_ended() {
    // The kernel takes connections, nobody says anything.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let plain = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    let first = backend_at("first", "vllm", &url) + "timeouts = { connect = \"200ms\" }\n";
    let gateway = Gateway::start(&alone(&first));
    let reply = gateway.client().chat("tiny", "");
    assert_eq!(reply.status, 504, "{}", reply.text());
    let gateway = Gateway::start(&listed(&first, &backend("second", "vllm", &plain)));
    let reply = gateway.client().chat("tiny", "");
    assert_eq!((reply.status, reply.header("x-forebay-backend")), (200, Some("second")));

    let authority = Authority::new("forebay test");
    let limits = "[server.limits]\nheader_timeout = \"300ms\"\n";
    let (_upstream, gateway, _files) = secure(&authority.issue(&["localhost"]), limits);
    let hello = hello(3);
    let mut open: Vec<_> = [&hello[..0], &hello[..1], &hello[..5], &hello[..40], &hello]
        .iter()
        .map(|start| {
            let mut exchange = gateway.client().connect();
            exchange.send(start);
            exchange
        })
        .collect();
    // A handshake alone is no request either.
    let _done = Secure::connect(gateway.public, &client(&authority, ANY, &["h2"])).unwrap();
    let _other = Secure::connect(gateway.public, &client(&authority, ANY, &["http/1.1"])).unwrap();
    for exchange in &mut open {
        assert!(exchange.closes_within(support::PATIENCE));
    }
    wait_until("all to be closed", || gateway.metric("forebay_connections_open") < 1.0);
}

/// One of the ways in which a handshake goes wrong.
fn abuse(public: SocketAddr, turn: u64) {
    let Ok(mut socket) = TcpStream::connect(public) else { return };
    let hello = hello(3);
    let mut junk = vec![0; 512];
    let bytes = match turn % 5 {
        // A record of rubbish, a truncated hello, half a handshake.
        0 => {
            fastrand::fill(&mut junk);
            &junk
        }
        1 => &hello[..hello.len() / 2],
        2 => &hello[..],
        // As long as a record may be, and longer.
        3 => &[0x16, 3, 1, 0xff, 0xff, 1, 0, 0xff, 0xff][..],
        _ => b"GET / HTTP/1.1\r\n\r\n",
    };
    // It may have been refused before all was sent.
    let _ = socket.write_all(bytes);
    if turn.is_multiple_of(3) {
        let _ = socket.shutdown(Shutdown::Both);
    }
}

/// F31: probes are answered whatever handshakes do.
#[test]
fn probes_answer_during_a_storm_of_handshakes() {
    const STORM: Duration = Duration::from_secs(2);
    let authority = Authority::new("forebay test");
    let (_upstream, gateway, _files) = secure(
        &authority.issue(&["localhost"]),
        "[server.limits]\nheader_timeout = \"1s\"\nconnections = 500\n",
    );
    let config = client(&authority, ANY, &["h2", "http/1.1"]);
    let stop = AtomicBool::new(false);
    let (mut worst, mut probes) = (Duration::ZERO, 0);
    let handshakes = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4_u64)
            .map(|worker| {
                let (stop, config, public) = (&stop, &config, gateway.public);
                scope.spawn(move || {
                    let mut turn = worker;
                    while !stop.load(Relaxed) {
                        if turn.is_multiple_of(8) {
                            drop(Secure::connect(public, config));
                        } else {
                            abuse(public, turn);
                        }
                        turn += 1;
                    }
                    turn - worker
                })
            })
            .collect();
        let begun = Instant::now();
        while begun.elapsed() < STORM {
            for path in ["/livez", "/readyz"] {
                let asked = Instant::now();
                assert_eq!(Client::new(gateway.ops).get(path).status, 200);
                worst = worst.max(asked.elapsed());
                probes += 1;
            }
        }
        stop.store(true, Relaxed);
        workers.into_iter().map(|worker| worker.join().unwrap()).sum::<u64>()
    });
    eprintln!(
        "{handshakes} handshakes in {STORM:?}; {probes} probes, the slowest {worst:?}; peak {} MiB",
        gateway.peak_rss() >> 20
    );
    assert!(gateway.metric("forebay_tls_failures_total") > 10.0);
    wait_until("all to be closed", || gateway.metric("forebay_connections_open") < 1.0);
    assert!(
        get(gateway.public, &client(&authority, ANY, &["http/1.1"]), "/v1/models")
            .starts_with("HTTP/1.1 200")
    );
}
