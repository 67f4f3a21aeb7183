//! Stopping under load (F41), and what systemd hears of it.

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use loadtest::Script;
use loadtest::generator::{Load, Running};
use support::client::{Client, chat_body, request};
use support::process::{load, wait_offered};
use support::{Gateway, TempDir, backend_at, tiny, wait_until};

fn drain(grace: &str, timeout: &str) -> String {
    format!("[server.drain]\ngrace = \"{grace}\"\ntimeout = \"{timeout}\"\n")
}

fn readiness(gateway: &Gateway) -> u16 {
    Client::new(gateway.ops).get("/readyz").status
}

#[test]
fn nothing_that_could_finish_is_refused_or_cut() {
    let (upstream, mut gateway) = tiny(&drain("1500ms", "20s"));
    upstream.script(Script::words(30, 20));
    let running = [true, false].map(|keep_alive| {
        let load = Load { keep_alive, streams: 0.7, ..load(&gateway, 40.0, 60, 30) };
        Running::start(load).unwrap()
    });
    running.iter().for_each(|running| wait_offered(running, 40));
    gateway.signal("TERM");
    wait_until("readiness to turn", || readiness(&gateway) == 503);
    // A load balancer that looks now and then goes on sending for a while.
    let before = running[0].report().counts.offered;
    wait_offered(&running[0], before + 20);
    assert_eq!(readiness(&gateway), 503);
    running.iter().for_each(Running::stop);
    for running in running {
        let report = running.join();
        assert!(report.counts.offered >= 40, "{report}");
        assert_eq!(report.counts.ok, report.counts.offered, "{report}");
    }
    assert!(gateway.wait_exit().success());
    assert_eq!(upstream.stats().cancelled, 0);
}

#[test]
fn what_cannot_finish_is_told_so() {
    let (upstream, mut gateway) = tiny(&drain("0ms", "500ms"));
    upstream.script(Script::words(100_000, 20));
    let load = Load { words: 100_000, count: Some(80), ..load(&gateway, 400.0, 60, 0) };
    let running = Running::start(load).unwrap();
    wait_until("80 streams", || upstream.stats().in_flight == 80);
    gateway.signal("TERM");
    let report = running.join();
    assert_eq!(report.counts.error_events, 80, "{report}");
    assert!(gateway.wait_exit().success());
}

/// Clients that know of nothing keep coming until the very end: who was let in is served.
#[test]
fn who_has_connected_is_served() {
    const CLIENTS: usize = 8;
    let (_upstream, mut gateway) = tiny(&drain("300ms", "20s"));
    let body = chat_body("tiny", "");
    let headers = "connection: close\r\ncontent-type: application/json\r\n";
    let request = request("POST", "/v1/chat/completions", headers, body.as_bytes());
    let served = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (request, served, public) = (request.clone(), Arc::clone(&served), gateway.public);
            std::thread::spawn(move || {
                while let Ok(mut socket) = TcpStream::connect(public) {
                    socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
                    let mut answer = Vec::new();
                    let read =
                        socket.write_all(&request).and_then(|()| socket.read_to_end(&mut answer));
                    let text = String::from_utf8_lossy(&answer).into_owned();
                    // The one who came between the last look and the close of the listener is reset by the kernel.
                    if read.is_err() && answer.is_empty() {
                        return Err("reset at the close".to_owned());
                    }
                    if !text.starts_with("HTTP/1.1 200") || !text.ends_with('}') {
                        return Err(text);
                    }
                    served.fetch_add(1, Relaxed);
                }
                Ok(())
            })
        })
        .collect();
    wait_until("traffic", || served.load(Relaxed) > 100);
    gateway.signal("TERM");
    let cut: Vec<_> = clients.into_iter().filter_map(|c| c.join().unwrap().err()).collect();
    assert!(cut.len() <= 1 && cut.iter().all(|why| why == "reset at the close"), "{cut:?}");
    assert!(gateway.wait_exit().success());
}

#[test]
fn systemd_hears_of_start_and_stop() {
    let folder = TempDir::new();
    let path = folder.path().join("notify");
    let name = format!("forebay-test-{}", std::process::id());
    for (socket, address) in [
        (UnixDatagram::bind(&path).unwrap(), path.display().to_string()),
        (
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
            format!("@{name}"),
        ),
    ] {
        socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
        let hear = || {
            let mut buffer = [0; 256];
            let n = socket.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..n]).into_owned()
        };
        let dir = TempDir::new();
        let text = format!(
            "{}{}\n[server]\nlisten = \"127.0.0.1:0\"\n{}[ops]\nlisten = \"127.0.0.1:0\"\n\
             [admin]\nmode = \"off\"\n",
            support::HEAD,
            backend_at("nobody", "openai", "http://127.0.0.1:9"),
            drain("0ms", "1s")
        );
        std::fs::write(dir.path().join("forebay.toml"), text).unwrap();
        let mut command = support::command();
        command.args(["serve", "--config", "forebay.toml"]).env("NOTIFY_SOCKET", &address);
        let mut gateway = Gateway::run(command, dir);
        assert_eq!(hear(), "READY=1");
        // It is true: it serves.
        assert_eq!((readiness(&gateway), gateway.client().get("/v1/models").status), (200, 200));
        gateway.signal("TERM");
        assert_eq!(hear(), "STOPPING=1");
        assert!(gateway.wait_exit().success());
    }
}
