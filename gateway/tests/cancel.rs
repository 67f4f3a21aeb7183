//! Who leaves takes the upstream's work along, at whatever point, and is nobody's failure: traps 18 and 19.

#![expect(clippy::unwrap_used, reason = "tests")]
#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use loadtest::text::word;
use loadtest::{At, How, Profile, Script, Upstream};
use support::client::Exchange;
use support::streams::{LENIENT, chat_lines, one, two};
use support::{Gateway, PATIENCE, backend, backend_at, wait_until};

const STREAM: &str = ",\"stream\":true";

fn open(gateway: &Gateway, extra: &str) -> Exchange {
    gateway.client().open_chat("tiny", extra)
}

/// Nothing is left of the request: not at the upstream, not in the gateway, not in its opinion of the backend, whose
/// attempt ended like this.
fn assert_gone(upstream: &Upstream, gateway: &Gateway, end: &str, what: &str) {
    assert!(
        upstream.wait_for(PATIENCE, |s| s.in_flight == 0 && s.cancelled == 1 && s.finished == 0),
        "{what}: {:?}",
        upstream.stats()
    );
    wait_until("the slot to be free", || {
        gateway.metric("forebay_backend_in_flight{backend=\"first\"}") == 0.0
    });
    wait_until("the log line", || chat_lines(gateway).len() == 1);
    assert_eq!(chat_lines(gateway)[0]["outcome"], "client_left", "{what}");
    assert_eq!(gateway.metric("forebay_client_left_total"), 1.0, "{what}");
    for known in ["success", "failure", "abandoned", "client_fault"] {
        let series = format!("forebay_attempts_total{{backend=\"first\",end=\"{known}\"}}");
        assert_eq!(gateway.metric(&series), f64::from(u8::from(known == end)), "{what}: {series}");
    }
    assert_eq!(gateway.metric("forebay_streams_broken_total"), 0.0, "{what}");
    assert_eq!(gateway.metric("forebay_buffered_bytes"), 0.0, "{what}");
}

#[test]
fn trap_18_mid_stream() {
    // In a pause that never ends, and while words come.
    for script in [Script::broken(At::Events(5), How::Hang), Script::words(1_000_000, 5)] {
        let (upstream, gateway) = one("", "");
        upstream.script(script.clone());
        let mut exchange = open(&gateway, STREAM);
        exchange.read_until(&word(3));
        exchange.leave();
        assert_gone(&upstream, &gateway, "success", &format!("{:?}", script.fault));
        assert_eq!(chat_lines(&gateway)[0]["status"], 200);
    }
}

#[test]
fn trap_18_between_the_pieces_of_an_event() {
    let (upstream, gateway) = one("", "");
    upstream.script(Script::broken(At::Bytes(700), How::Hang));
    let mut exchange = open(&gateway, STREAM);
    exchange.read_until(&word(0));
    exchange.leave();
    assert_gone(&upstream, &gateway, "success", "half an event");
}

#[test]
fn trap_18_a_reader_that_stopped_reading() {
    let (upstream, gateway) = one("", "");
    upstream.script(Script::words(2_000_000, 0));
    let mut exchange = open(&gateway, STREAM);
    exchange.read_until(&word(0));
    let mut before = 0;
    wait_until("the upstream to be held back", || {
        let sent = upstream.stats().bytes_out;
        std::mem::replace(&mut before, sent) == sent && sent > 1 << 20
    });
    exchange.leave();
    assert_gone(&upstream, &gateway, "success", "a full pipe");
}

#[test]
fn trap_19_before_the_first_event() {
    for at in [At::Request, At::Head, At::Events(1)] {
        for extra in [STREAM, ""] {
            let (upstream, gateway) = one("", "");
            upstream.script(Script::broken(at, How::Hang));
            let exchange = open(&gateway, extra);
            assert!(upstream.wait_for(PATIENCE, |s| s.in_flight == 1));
            exchange.leave();
            assert_gone(&upstream, &gateway, "abandoned", &format!("{at:?} {extra}"));
        }
    }
}

#[test]
fn trap_19_while_queued_at_the_upstream() {
    let (upstream, gateway) = one("", "");
    upstream.script(Script { slots: 1, ..Script::broken(At::Events(3), How::Hang) });
    let mut running = open(&gateway, STREAM);
    running.read_until(&word(0));
    let queued = open(&gateway, STREAM);
    assert!(upstream.wait_for(PATIENCE, |s| s.waiting == 1));
    queued.leave();
    assert!(upstream.wait_for(PATIENCE, |s| s.waiting == 0 && s.in_flight == 1));
    assert_eq!(upstream.stats().cancelled, 1);
    wait_until("one slot", || {
        gateway.metric("forebay_backend_in_flight{backend=\"first\"}") == 1.0
    });
}

#[test]
fn trap_19_while_keep_alives_go_out() {
    let (upstream, gateway) = one("head_hold = \"20ms\"\nkeep_alive = \"5ms\"\n", "");
    upstream.script(Script::broken(At::Events(1), How::Hang));
    let mut exchange = open(&gateway, STREAM);
    exchange.read_until(": keep-alive");
    exchange.leave();
    assert_gone(&upstream, &gateway, "abandoned", "held head");
}

#[test]
fn trap_19_after_a_failover() {
    let (first, second, gateway) = two("", "");
    first.script(Script::broken(At::Request, How::Reset));
    second.script(Script::broken(At::Request, How::Hang));
    let exchange = open(&gateway, STREAM);
    assert!(second.wait_for(PATIENCE, |s| s.in_flight == 1));
    exchange.leave();
    assert!(second.wait_for(PATIENCE, |s| s.in_flight == 0 && s.cancelled == 1));
    wait_until("the log line", || chat_lines(&gateway).len() == 1);
    assert_eq!(chat_lines(&gateway)[0]["outcome"], "client_left");
}

#[test]
fn trap_19_nothing_is_tried_for_nobody() {
    let (first, second, gateway) = two("", "");
    first.script(Script::broken(At::Request, How::Hang));
    let exchange = open(&gateway, STREAM);
    assert!(first.wait_for(PATIENCE, |s| s.in_flight == 1));
    exchange.leave();
    assert!(first.wait_for(PATIENCE, |s| s.in_flight == 0));
    wait_until("the log line", || chat_lines(&gateway).len() == 1);
    assert_eq!(second.stats().inference_requests, 0);
}

#[test]
fn trap_19_while_connecting() {
    // Accepts and never says a word, so that the TLS handshake hangs; probes meet it too.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let table = backend_at("first", "openai", &url) + "models = [\"tiny\"]\nprobe = \"off\"\n";
    let gateway = Gateway::start(&format!(
        "{table}[timeouts]\nconnect = \"60s\"\n[health]\ntimeout = \"500ms\"\n{LENIENT}"
    ));
    gateway.wait_for_model("tiny");
    let sockets = Arc::new(Mutex::new(Vec::new()));
    let accepted = Arc::clone(&sockets);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            accepted.lock().unwrap().push(socket.unwrap());
        }
    });
    let in_flight = || gateway.metric("forebay_backend_in_flight{backend=\"first\"}");
    let exchange = open(&gateway, STREAM);
    wait_until("the attempt", || in_flight() == 1.0);
    exchange.leave();
    wait_until("the log line", || chat_lines(&gateway).len() == 1);
    assert_eq!(chat_lines(&gateway)[0]["outcome"], "client_left");
    assert_eq!(in_flight(), 0.0);
    for socket in std::mem::take(&mut *sockets.lock().unwrap()) {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // The greeting, then the end: no time-out.
        std::io::copy(&mut &socket, &mut std::io::sink()).unwrap();
    }
}

#[test]
fn many_leavers_leave_nothing_behind() {
    const EACH: usize = 20;
    let (upstream, gateway) = one("", "");
    upstream.script(Script::words(1_000_000, 5));
    let streams: Vec<_> = (0..EACH).map(|_| open(&gateway, STREAM)).collect();
    assert!(upstream.wait_for(PATIENCE, |s| s.in_flight == EACH as u64));
    for (n, mut exchange) in streams.into_iter().enumerate() {
        if n % 2 == 0 {
            exchange.read_until(&word(n % 5));
        }
        exchange.leave();
    }
    assert!(upstream.wait_for(PATIENCE, |s| s.in_flight == 0 && s.cancelled == EACH as u64));
    wait_until("all slots", || {
        gateway.metric("forebay_backend_in_flight{backend=\"first\"}") == 0.0
    });
    // And the backend is as good as before.
    upstream.script(Script::default());
    assert!(gateway.client().chat_stream("tiny", "").looks_whole());
}

/// An Ollama that takes a while to load, and a gateway that knows that nothing is loaded.
fn unloaded(load_ms: u64, tables: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start(Profile::ollama(&["tiny"])).unwrap();
    let gateway =
        Gateway::start(&format!("{}{tables}{LENIENT}", backend("first", "ollama", &upstream)));
    gateway.wait_for_model("tiny");
    upstream.script(Script { load_ms, ..Script::words(1_000_000, 5) });
    wait_until("a look at what is loaded", || {
        upstream.requests().iter().any(|request| request.target == "/api/ps")
    });
    (upstream, gateway)
}

#[test]
fn trap_19_a_load_goes_on_without_its_client() {
    for extra in [STREAM, ""] {
        let (upstream, gateway) = unloaded(300, "");
        let exchange = open(&gateway, extra);
        assert!(upstream.wait_for(PATIENCE, |s| s.loads == 1));
        exchange.leave();
        // The client is gone for the log; the load is not.
        wait_until("the log line", || chat_lines(&gateway).len() == 1);
        assert_eq!(chat_lines(&gateway)[0]["outcome"], "client_left");
        // Once loaded, the request is dropped: nobody reads its words.
        assert!(upstream.wait_for(PATIENCE, |s| s.in_flight == 0 && s.cancelled == 1), "{extra}");
        let stats = upstream.stats();
        assert_eq!((stats.loads, stats.loads_aborted), (1, 0), "{extra}: {stats:?}");
        // The next one finds the model there.
        upstream.script(Script::default());
        assert!(gateway.client().chat_stream("tiny", "").looks_whole());
        assert_eq!(upstream.stats().loads, 1);
    }
}

#[test]
fn trap_19_a_load_without_its_client_is_bounded() {
    let (upstream, gateway) = unloaded(600_000, "[timeouts]\nload = \"300ms\"\n");
    let exchange = open(&gateway, STREAM);
    assert!(upstream.wait_for(PATIENCE, |s| s.loads == 1));
    exchange.leave();
    assert!(upstream.wait_for(PATIENCE, |s| s.in_flight == 0 && s.loads_aborted == 1));
}
