//! Too many connections, too few descriptors, leavers, slow readers and absurd bodies: FAULTS F16, F17, F30, F32, F33,
//! F35, F37.

#![expect(clippy::unwrap_used, unreachable_pub, reason = "tests")]

mod floods;
#[expect(dead_code, reason = "each test file uses its part of the harness")]
#[path = "../support/mod.rs"]
mod support;
mod vitals;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use loadtest::generator::{Load, Running};
use loadtest::{At, How, Script, Upstream};
use support::client::{Exchange, chat_body};
use support::process::load;
use support::streams::EVENTS;
use support::{Gateway, TempDir, tiny, tiny_backend, wait_until};
use vitals::{cpu, descriptors, mib, rss, threads};

/// One at a time: each of them takes what there is.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn in_flight(gateway: &Gateway) -> f64 {
    gateway.metric("forebay_backend_in_flight{backend=\"tiny-1\"}")
}

fn open(gateway: &Gateway) -> f64 {
    gateway.metric("forebay_connections_open")
}

/// All whole, or it says which were not.
fn assert_normal(gateway: &Gateway) {
    let load = Load { streams: 0.5, ..load(gateway, 100.0, 1, 20) };
    let report = Running::start(load).unwrap().join();
    assert!(report.counts.offered > 50 && report.counts.ok == report.counts.offered, "{report}");
}

/// F30. A part of the storm stays and says nothing, which takes every place until the deadline.
#[test]
fn a_storm_of_connections_passes() {
    const STORM: u32 = 6000;
    let _turn = alone();
    let (_upstream, gateway) =
        tiny("[server.limits]\nconnections = 200\nheader_timeout = \"1s\"\n");
    let (before, begun) = (descriptors(&gateway), Instant::now());
    let kept: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut kept = Vec::new();
                    for turn in 0..STORM / 4 {
                        let Ok(mut socket) = TcpStream::connect(gateway.public) else { continue };
                        match turn % 3 {
                            0 => drop(socket.write_all(b"GET / HTTP/1.1\r\n")),
                            1 => drop(socket.write_all(b"\0\0\0")),
                            _ => {}
                        }
                        if turn % 40 == 0 {
                            kept.push(socket);
                        }
                    }
                    kept
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    println!("{STORM} connections in {:?}, {} stay", begun.elapsed(), kept.len());
    assert!(open(&gateway) <= 200.0);
    // Whoever waits in the kernel's queue comes in as the deadline makes room.
    assert_normal(&gateway);
    drop(kept);
    wait_until("all to be gone", || open(&gateway) == 0.0);
    // Idle connections to the backend come and go.
    wait_until("all descriptors", || descriptors(&gateway) <= before + 8);
    println!("peak {:.1} MiB", mib(gateway.peak_rss()));
}

/// F37. Clients that say nothing take every descriptor that there is for clients: who is served stays served, nothing
/// spins, no backend is blamed, and it recovers alone.
#[test]
fn without_descriptors_it_serves_on_and_recovers() {
    const LIMIT: usize = 100;
    const STREAMS: usize = 8;
    let _turn = alone();
    let (upstream, table) = tiny_backend();
    let dir = TempDir::new();
    let text = format!(
        "{}{table}[server]\nlisten = \"127.0.0.1:0\"\nthreads = 2\n[server.limits]\nheader_timeout = \"1s\"\n\
         [ops]\nlisten = \"127.0.0.1:0\"\n[admin]\nmode = \"off\"\n[store]\npath = \"forebay.db\"\n",
        support::HEAD
    );
    std::fs::write(dir.path().join("forebay.toml"), text).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {LIMIT}; exec \"$0\" serve --config forebay.toml")]);
    command.arg(support::command().get_program());
    let gateway = Gateway::run(command, dir);
    gateway.wait_for_model("tiny");
    println!("{} descriptors without clients", descriptors(&gateway));
    upstream.script(Script::words(100_000, 10));
    let mut running: Vec<Exchange> = (0..STREAMS)
        .map(|_| {
            let mut exchange = gateway.client().open_chat("tiny", ",\"stream\":true");
            exchange.read_until("data:");
            exchange
        })
        .collect();
    let silent: Vec<_> =
        (0..LIMIT / 2).map(|_| TcpStream::connect(gateway.public).unwrap()).collect();
    wait_until("the places to be taken", || open(&gateway) > STREAMS as f64);
    // Who comes now waits in the kernel's queue until the silent ones have been sent away.
    upstream.script(Script::default());
    let mut late = gateway.client().open_chat("tiny", "");
    let (begun, used, sent) = (Instant::now(), cpu(&gateway), upstream.stats().events_out);
    wait_until("events", || upstream.stats().events_out >= sent + STREAMS as u64 * 100);
    for exchange in &mut running {
        assert!(exchange.read_some(), "a stream was cut");
    }
    let (wall, used) = (begun.elapsed(), cpu(&gateway) - used);
    println!("CPU {used:?} of {wall:?} while full");
    assert!(used < wall / 2, "busy: {used:?} of {wall:?}");
    assert_eq!(late.reply().status, 200);
    drop(silent);
    assert_normal(&gateway);
    running.drain(..).for_each(Exchange::leave);
    assert_eq!(gateway.metric("forebay_accept_errors_total"), 0.0);
    assert_eq!(support::process::attempts(&gateway, "tiny-1", "failure"), 0);
}

/// The beginning of an answer, and then silence.
fn begin_and_stop(upstream: &Upstream) {
    let beginning = support::streams::stream(EVENTS[..3].to_vec());
    let script = support::streams::exactly(&beginning);
    upstream.script(script.fault(At::Bytes(beginning.len() - 1), How::Hang));
}

/// F16. 2,000 leave in mid-stream, in waves.
#[test]
fn thousands_of_leavers_leave_nothing_behind() {
    const WAVES: usize = 20;
    const EACH: usize = 100;
    let _turn = alone();
    let (upstream, gateway) = tiny("");
    begin_and_stop(&upstream);
    let mut flat = None;
    for wave in 1..=WAVES {
        let mut streams: Vec<_> =
            (0..EACH).map(|_| gateway.client().open_chat("tiny", ",\"stream\":true")).collect();
        for stream in &mut streams {
            stream.read_until("data:");
        }
        streams.into_iter().for_each(Exchange::leave);
        let cancelled = (wave * EACH) as u64;
        assert!(upstream.wait_for(support::PATIENCE, |s| s.cancelled == cancelled));
        wait_until("free slots", || in_flight(&gateway) == 0.0 && open(&gateway) == 0.0);
        let (descriptors, threads) = (descriptors(&gateway), threads(&gateway));
        let (most, same) = *flat.get_or_insert((descriptors + 4, threads));
        assert!(descriptors <= most && threads == same, "wave {wave}: {descriptors}, {threads}");
    }
    println!("{} leavers, RSS {:.1} MiB", WAVES * EACH, mib(rss(&gateway)));
    assert_eq!(upstream.stats().in_flight, 0);
    assert!(upstream.stats().connections_open <= 4);
}

/// What an open stream may cost when nothing waits in it, bytes. Without optimisation it is nearly twice what it is with.
const STREAM: u64 = 100 << 10;

/// An endless stream of large events, and `n` clients that asked for it.
fn ask_many(gateway: &Gateway, n: usize) -> Vec<TcpStream> {
    let body = chat_body("tiny", ",\"stream\":true");
    let request = support::client::request("POST", "/v1/chat/completions", "", body.as_bytes());
    let ask = |_| {
        let mut socket = TcpStream::connect(gateway.public).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.write_all(&request).unwrap();
        socket
    };
    (0..n).map(ask).collect()
}

fn torrent(upstream: &Upstream) {
    let event = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
        "z".repeat(8000)
    );
    let body = event.repeat(2000);
    upstream.script(support::streams::exactly(body));
}

/// F17. Who reads a byte at a time holds little, and is cut when the kernel has made no progress for the deadline.
#[test]
fn slow_readers_hold_little_and_are_cut() {
    const READERS: usize = 40;
    let _turn = alone();
    let (upstream, gateway) = tiny("[server.limits]\nwrite_timeout = \"2s\"\n");
    torrent(&upstream);
    let before = rss(&gateway);
    let mut readers = ask_many(&gateway, READERS);
    let cut = "forebay_connections_expired_total{deadline=\"write\"}";
    let (mut most, begun) = (0, Instant::now());
    wait_until("all to be cut", || {
        for reader in &mut readers {
            let mut byte = [0];
            match reader.read(&mut byte) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => {}
                _ => {}
            }
        }
        most = most.max(rss(&gateway));
        gateway.metric(cut) >= READERS as f64
    });
    let grown = most.saturating_sub(before);
    println!("{READERS} slow readers, cut after {:?}: +{:.1} MiB", begun.elapsed(), mib(grown));
    // What the first streams of a process cost is no reader's.
    assert!(grown <= (12 << 20) + READERS as u64 * (STREAM + (256 << 10)), "{grown} bytes");
    assert!(upstream.wait_for(support::PATIENCE, |s| s.in_flight == 0));
    wait_until("free slots", || in_flight(&gateway) == 0.0 && open(&gateway) == 0.0);
}

/// F33 at a fifth: what an open stream costs.
#[test]
fn a_thousand_open_streams_are_cheap() {
    const STREAMS: usize = 1000;
    let _turn = alone();
    let (upstream, gateway) = tiny("");
    begin_and_stop(&upstream);
    let before = rss(&gateway);
    let mut streams = ask_many(&gateway, STREAMS);
    for stream in &mut streams {
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
    }
    let each = rss(&gateway).saturating_sub(before) / STREAMS as u64;
    println!(
        "{STREAMS} streams: {:.1} KiB each, {:.1} MiB in all",
        each as f64 / 1024.0,
        mib(rss(&gateway))
    );
    assert!(each <= STREAM, "{each} bytes each");
}

/// F35. Large and odd JSON is answered by its rules, with little more than the body in memory.
#[test]
fn absurd_bodies_are_answered_and_cost_little() {
    let _turn = alone();
    let numbers = vec!["1e6"; 1_000_000].join(",");
    let digits = "9".repeat(8 << 20);
    let message = r#"{"role":"user","content":"hi"}"#;
    let messages = vec![message; 100_000].join(",");
    let with = |extra: &str| format!(r#"{{"model":"tiny","messages":[{message}],"x":{extra}}}"#);
    let keys: String = (0..300_000).map(|i| format!("\"k{i}\":{i},")).collect();
    for (what, body, status) in [
        ("a million numbers", with(&format!("[{numbers}]")), 200),
        ("a number of 8 Mi digits", with(&digits), 0),
        ("a text of 16 MiB", with(&format!("\"{}\"", "x".repeat(16 << 20))), 200),
        ("escapes only", with(&format!("\"{}\"", "\\u0000".repeat(2 << 20))), 200),
        ("100,000 messages", format!(r#"{{"model":"tiny","messages":[{messages}]}}"#), 200),
        ("300,000 keys", format!(r#"{{{keys}"model":"tiny","messages":[{message}]}}"#), 200),
        ("deep arrays", with(&"[".repeat(4 << 20)), 400),
        ("deep objects", with(&"{\"a\":".repeat(1 << 20)), 400),
        ("spaces", " ".repeat(16 << 20), 400),
        ("more than allowed", with(&format!("\"{}\"", "x".repeat(32 << 20))), 413),
    ] {
        // Its own process each, so that the peak is its own.
        let (upstream, gateway) = tiny("max_body = \"24MiB\"\n");
        let (before, begun) = (gateway.peak_rss(), Instant::now());
        let reply = gateway.client().post("/v1/chat/completions", &body);
        let took = begun.elapsed();
        let grown = gateway.peak_rss() - before;
        println!(
            "{what}: {} MiB, {} in {took:?}, +{:.1} MiB",
            body.len() >> 20,
            reply.status,
            mib(grown)
        );
        // What is odd but JSON is the upstream's to judge.
        assert!(status == 0 || reply.status == status, "{what}: {}", reply.text());
        assert!(grown <= 2 * body.len() as u64 + (4 << 20), "{what}: {grown} for {}", body.len());
        let sent = upstream.inferences();
        assert_eq!(sent.len(), usize::from(status <= 200), "{what}");
        assert!(sent.iter().all(|request| request.body == body), "{what}: changed on its way");
    }
}
