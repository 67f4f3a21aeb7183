//! Listeners and certificates change without a client being refused.

#![expect(clippy::unwrap_used, reason = "tests")]
#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use loadtest::{At, How, Script};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;
use support::admin::{Admin, Mode, Site};
use support::client::request;
use support::edits::{apply, edit, file, refuse, reloads, replace, text};
use support::{Client, Gateway, tiny, tiny_backend, wait_until};

/// An address of this test's own: a port that was given up may be anybody's a moment later, and one that was listened on
/// is still held by any process that is just being started.
fn free() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let pid = std::process::id();
    let [_, high, middle, low] = pid.to_be_bytes();
    let host = NEXT.fetch_add(1, Ordering::Relaxed) % 4;
    let ip = [127, 64 | high << 2 | middle >> 6, middle << 2 | low >> 6, low << 2 | host];
    // Below the ports that the system hands out.
    SocketAddr::from((ip, 20_000 + (pid % 10_000) as u16))
}

fn is_refused(addr: SocketAddr) -> bool {
    TcpStream::connect(addr).is_err()
}

fn listen(addr: impl std::fmt::Display) -> String {
    format!("[server]\nlisten = \"{addr}\"\n")
}

#[test]
fn the_listeners_move_and_what_runs_goes_on() {
    let (upstream, gateway) = tiny("");
    let mut kept = gateway.client().connect();
    let models = request("GET", "/v1/models", "", b"");
    kept.send(&models);
    assert_eq!(kept.reply().status, 200);
    upstream.script(Script::words(40, 20));
    let mut running = gateway.client().open_chat("tiny", ",\"stream\":true");
    running.read_until("data:");

    let (public, ops) = (free(), free());
    let moved = text(&gateway).replacen(&listen("127.0.0.1:0"), &listen(public), 1).replacen(
        "[ops]\nlisten = \"127.0.0.1:0\"",
        &format!("[ops]\nlisten = \"{ops}\""),
        1,
    );
    fs::write(file(&gateway), &moved).unwrap();
    let (new, new_ops) = (Client::new(public), Client::new(ops));
    wait_until("the new listeners", || !is_refused(public) && !is_refused(ops));
    assert_eq!(new.get("/v1/models").status, 200);
    wait_until("the count", || {
        new_ops
            .get("/metrics")
            .text()
            .contains("forebay_config_reloads_total{result=\"applied\"} 1")
    });
    wait_until("the old ones to close", || is_refused(gateway.public) && is_refused(gateway.ops));
    // Connections of the old listener live on.
    kept.send(&models);
    assert_eq!(kept.reply().status, 200);
    let reply = running.reply();
    assert!(reply.looks_whole(), "{}", reply.text());
    assert_eq!(reply.content(), loadtest::text::recitation(0, 40));
}

#[test]
fn the_admin_api_moves_and_takes_another_token() {
    let site = Site::start(Mode::Embedded);
    let told = support::admin::TOKEN;
    let file = site.config();
    let edit = |from: &str, to: &str| {
        let before = fs::read_to_string(file).unwrap();
        assert_eq!(before.matches(from).count(), 1, "{from:?} in {before}");
        replace(file, &before.replacen(from, to, 1));
    };
    let old = site.gateway.admin();
    let mut events = Client::new(old).connect();
    events.send(format!(
        "GET /admin/events HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\
         authorization: Bearer {told}\r\n\r\n"
    ));
    events.read_until("200 OK");

    let new = free();
    edit(
        "mode = \"embedded\"\nlisten = \"127.0.0.1:0\"",
        &format!("mode = \"embedded\"\nlisten = \"{new}\""),
    );
    wait_until("the new listener", || !is_refused(new));
    wait_until("the old one to close", || is_refused(old));
    let moved = Admin::at(new);
    moved.post(
        "/admin/backends",
        &json!({"name": "b", "kind": "vllm", "region": "eu", "url": "http://127.0.0.1:9"}),
    );
    // A connection of the old one lives on and sees what came of it.
    events.read_until("registry");

    let status = |admin: Admin| admin.ask("GET", "/admin/backends", "", None).status;
    let other = moved.with_token("another-token-0123456789abcdef".to_owned());
    assert_eq!((status(moved), status(other)), (200, 401));
    edit(told, "another-token-0123456789abcdef");
    wait_until("the new token", || status(other) == 200);
    assert_eq!(status(moved), 401);

    let named = || {
        let token = "authorization: Bearer another-token-0123456789abcdef";
        let asked = format!(
            "GET /admin/backends HTTP/1.1\r\nhost: forebay.example\r\nconnection: close\r\n{token}\r\n\r\n"
        );
        Client::new(new).raw(asked).status
    };
    assert_eq!(named(), 403);
    edit("[store]", "hosts = [\"forebay.example\"]\n[store]");
    wait_until("the new name", || named() == 200);

    // What cannot be had changes nothing.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    edit(&new.to_string(), &taken.local_addr().unwrap().to_string());
    wait_until("the reason", || site.gateway.log().contains("cannot listen on"));
    assert_eq!(status(other), 200);
}

#[test]
fn a_gateway_that_drains_opens_no_listener_again() {
    let (upstream, gateway) = tiny("drain = { grace = \"0s\", timeout = \"10m\" }");
    upstream.script(Script::broken(At::Events(4), How::Hang));
    let mut running = gateway.client().open_chat("tiny", ",\"stream\":true");
    running.read_until("data:");
    gateway.signal("TERM");
    wait_until("the listener to close", || is_refused(gateway.public));
    let public = free();
    refuse(&gateway, &text(&gateway).replacen(&listen("127.0.0.1:0"), &listen(public), 1));
    assert!(is_refused(public));
    wait_until("the reason", || gateway.log().contains("the process is stopping"));
    running.leave();
}

#[test]
fn an_address_that_overlaps_with_the_old_one_waits_for_a_restart() {
    let public = free();
    let (upstream, table) = tiny_backend();
    drop(upstream);
    let gateway = Gateway::start(&format!("[auth]\nmode = \"open\"\n{table}"));
    edit(&gateway, &listen("127.0.0.1:0"), &listen(public));
    let all = format!("0.0.0.0:{}", public.port());
    edit(&gateway, &listen(public), &listen(all));
    wait_until("the warning", || gateway.log().contains("server.listen"));
    assert_eq!(Client::new(public).get("/v1/models").status, 200);
    // Said again as long as it holds, and no more once it does not.
    apply(
        &gateway,
        &text(&gateway).replacen("[server]", "[timeouts]\nconnect = \"1s\"\n[server]", 1),
    );
    wait_until("the warning", || gateway.log().matches("server.listen").count() == 2);
    edit(&gateway, &listen(format!("0.0.0.0:{}", public.port())), &listen(public));
    edit(&gateway, "\"1s\"", "\"2s\"");
    assert_eq!(gateway.log().matches("server.listen").count(), 2);
}

struct Certificate {
    cert: rcgen::Certificate,
    key: rcgen::KeyPair,
}

impl Certificate {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Self { cert: made.cert, key: made.signing_key }
    }

    fn write_cert(&self, dir: &Path) {
        fs::write(dir.join("cert.pem"), self.cert.pem()).unwrap();
    }

    fn write_key(&self, dir: &Path) {
        fs::write(dir.join("key.pem"), self.key.serialize_pem()).unwrap();
    }
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A connection that trusts only this certificate; `None` when another one is shown.
fn connect(addr: SocketAddr, trusted: &Certificate) -> Option<Tls> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(trusted.cert.der().to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut tls = StreamOwned::new(connection, TcpStream::connect(addr).unwrap());
    tls.conn.complete_io(&mut tls.sock).is_ok().then_some(tls)
}

fn get(tls: &mut Tls) -> String {
    tls.write_all(&request("GET", "/v1/models", "", b"")).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&answer).contains("]}") {
        let n = tls.read(&mut buffer).unwrap();
        assert!(n > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_renewed_certificate_is_served_and_connections_keep_theirs() {
    let (_upstream, gateway) = tiny("");
    let dir = gateway.dir.path();
    let (first, second) = (Certificate::new(), Certificate::new());
    first.write_cert(dir);
    first.write_key(dir);
    let tls = "[server.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n[ops]\n";
    // Clear text becomes TLS on the same listener.
    edit(&gateway, "[ops]\n", tls);
    let mut old = connect(gateway.public, &first).unwrap();
    assert!(get(&mut old).starts_with("HTTP/1.1 200"));
    assert!(connect(gateway.public, &second).is_none());

    // Half of a renewal does not fit together: the old pair stays until the other half is there.
    second.write_cert(dir);
    wait_until("half a renewal to be refused", || reloads(&gateway, "refused") > 0);
    assert!(connect(gateway.public, &first).is_some());
    second.write_key(dir);
    wait_until("the new certificate", || connect(gateway.public, &second).is_some());
    assert!(connect(gateway.public, &first).is_none());
    assert!(get(&mut old).starts_with("HTTP/1.1 200"), "it keeps what it began with");

    fs::remove_file(dir.join("key.pem")).unwrap();
    refuse(&gateway, &text(&gateway).replacen("[ops]", "[timeouts]\nconnect = \"1s\"\n[ops]", 1));
    assert!(connect(gateway.public, &second).is_some());
}
