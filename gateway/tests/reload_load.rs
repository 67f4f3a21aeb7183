//! Many reloads under load: nothing fails, nothing is forgotten, nothing piles up.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]
#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::ProcessEnvironment;
use gateway::{DataPlane, ListenSettings, Settings};
use loadtest::Script;
use loadtest::generator::{Load, Report, Running};
use router::breaker::BreakerState;
use router::spec::{RegionSpec, SnapshotSpec};
use support::edits::{file, reloads, replace, text};
use support::process::{Fake, load, settle, wait_offered};
use support::{Client, Gateway, backend_at, wait_until};

/// Growth that a thousand reloads may leave behind, bytes.
const GROWTH_MAX: u64 = 5 << 20;

/// Nothing failed, and every word of every stream is there.
fn assert_unnoticed(report: &Report) {
    println!("{report}");
    assert_eq!(report.counts.ok, report.counts.offered, "{report}");
    assert_eq!(report.shed, 0, "{report}");
    assert!(report.counts.offered > 0);
}

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// What the `n`th configuration asks for: something changes each time.
fn nth(fake: &Fake, n: usize) -> SnapshotSpec {
    let extra = match n % 4 {
        // Its address is new each time, so that everything about it is made and dropped again.
        1 => backend_at("extra", "vllm", &format!("http://127.0.0.1:1/{n}")) + "models = [\"x\"]\n",
        2 => "[[model]]\nname = \"tiny\"\naliases = [\"other\"]\n".to_owned(),
        _ => String::new(),
    };
    let toml = format!(
        "version = 1\ndefault_region = \"eu\"\npolicy = \"{}\"\n[timeouts]\nfirst_event = \"{}s\"\n\
         [breaker]\nconsecutive_failures = 2\nopen_min = \"120s\"\n[health]\nopen_probe_min = \"60s\"\n\
         open_probe_max = \"60s\"\n{}weight = {}\n{}models = [\"gone\"]\n{extra}",
        ["least_load", "round_robin", "prefix_hash"][n % 3],
        20 + n % 7,
        fake.table("one"),
        1 + n % 5,
        backend_at("dead", "vllm", "http://127.0.0.1:1"),
    );
    let base = std::path::Path::new("");
    match config::load_text("forebay.toml", &toml, base, &ProcessEnvironment) {
        Ok(loaded) => loaded.config.snapshot,
        Err(report) => panic!("{}", report.render(config::Style::default())),
    }
}

#[test]
fn a_thousand_reloads_by_call_go_unnoticed() {
    const RELOADS: usize = 1000;
    let fake = Fake::vllm(&Script::words(40, 20));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let public = ListenSettings { listen: any, ..ListenSettings::default() };
    let settings = Settings { public, threads: Some(2), ..Settings::default() };
    let data_plane = DataPlane::start(&settings, any, nth(&fake, 0)).unwrap();
    let (client, ops) = (Client::new(data_plane.public_addr()), Client::new(data_plane.ops_addr()));
    wait_until("the model", || client.get("/v1/models/tiny").status == 200);
    wait_until("the breaker of the dead one to open", || {
        client.chat("gone", "");
        let world = data_plane.plane().world.load();
        let status = world.backend("dead").unwrap().live.status(Instant::now());
        status.breaker == BreakerState::Open
    });
    let dead = Arc::clone(&data_plane.plane().world.load().backend("dead").unwrap().live);
    let one = Arc::clone(&data_plane.plane().world.load().backend("one").unwrap().live);

    let running = Running::start(Load {
        url: format!("http://{}", data_plane.public_addr()),
        rate: 50.0,
        words: 40,
        duration: Duration::from_secs(60),
        timeout: support::PATIENCE,
        keep_alive: false,
        ..Load::default()
    })
    .unwrap();
    wait_offered(&running, 100);
    let mut resident_before = 0;
    let warm = RELOADS / 5;
    for n in 1..=RELOADS + warm {
        if n == warm {
            resident_before = resident(std::process::id());
        }
        let spec = nth(&fake, n);
        let applied = data_plane.apply(&settings, any, spec).unwrap();
        assert_eq!(applied.needs_restart, Vec::<&str>::new());
        // Spread over the streams' lives, not before the first of them ends.
        wait_offered(&running, 100 + n as u64 / 3);
    }
    let grown = resident(std::process::id()).saturating_sub(resident_before);
    running.stop();
    let in_flight = one.in_flight();
    let report = running.join();
    println!("grown by {} KiB, {in_flight} in flight at the end of the reloads", grown >> 10);
    assert_unnoticed(&report);
    assert!(grown <= GROWTH_MAX, "{grown} bytes more");
    let world = data_plane.plane().world.load();
    assert!(Arc::ptr_eq(&dead, &world.backend("dead").unwrap().live));
    assert_eq!(dead.status(Instant::now()).breaker, BreakerState::Open);
    assert!(Arc::ptr_eq(&one, &world.backend("one").unwrap().live));
    assert!(in_flight > 0, "streams ran across the last reload");
    wait_until("all places to be given back", || one.in_flight() == 0);
    let counted = format!("forebay_config_reloads_total{{result=\"applied\"}} {}", RELOADS + warm);
    assert!(ops.get("/metrics").text().contains(&counted));
}

#[test]
fn a_refused_call_changes_nothing_and_its_reason_is_kept() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let held = std::net::TcpListener::bind(any).unwrap();
    let taken = held.local_addr().unwrap();
    let public = ListenSettings { listen: any, ..ListenSettings::default() };
    let settings = Settings { public, threads: Some(1), ..Settings::default() };
    let data_plane = DataPlane::start(&settings, any, SnapshotSpec::default()).unwrap();
    let version = data_plane.plane().world.load().version();
    let refusal = || data_plane.plane().reloads.refusal().map(|refusal| refusal.diagnostics);
    assert_eq!(refusal(), None);

    let wrong = SnapshotSpec {
        default_region: Some("nowhere".try_into().unwrap()),
        regions: vec![RegionSpec { name: "eu".try_into().unwrap(), neighbours: Vec::new() }],
        ..SnapshotSpec::default()
    };
    let moved = SocketAddr::from(([127, 0, 0, 2], 0));
    assert!(data_plane.apply(&settings, moved, wrong).is_err());
    assert!(refusal().unwrap().contains("nowhere"), "{:?}", refusal());
    assert!(data_plane.apply(&settings, taken, SnapshotSpec::default()).is_err());
    assert!(refusal().unwrap().contains(&taken.to_string()), "{:?}", refusal());
    assert_eq!(data_plane.plane().world.load().version(), version);
    assert!(data_plane.ops_addr().ip() == any.ip());

    // Not the address that was held: once it is free, anybody's next connection may be given its port.
    drop(held);
    data_plane.apply(&settings, moved, SnapshotSpec::default()).unwrap();
    assert_eq!((refusal(), data_plane.ops_addr().ip()), (None, moved.ip()));
}

fn gateway(fakes: &[Fake; 2]) -> Gateway {
    let backends: String =
        ["a", "b"].iter().zip(fakes).map(|(name, fake)| fake.table(name)).collect();
    let gateway = Gateway::start(&format!("max_attempts = 3\n{backends}"));
    settle(&gateway, &["a", "b"]);
    gateway
}

#[test]
fn a_hundred_reloads_by_file_go_unnoticed() {
    const RELOADS: u64 = 100;
    let fakes = [(); 2].map(|()| Fake::vllm(&Script::words(20, 20)));
    let gateway = gateway(&fakes);
    let whole = text(&gateway);
    let running = Running::start(load(&gateway, 30.0, 60, 20)).unwrap();
    let mut resident_before = 0;
    for n in 1..=RELOADS {
        if n == 20 {
            resident_before = resident(gateway.pid());
        }
        let attempts = format!("max_attempts = {}\nslow_start = \"{n}s\"\n", 2 + n % 4);
        replace(&file(&gateway), &whole.replacen("max_attempts = 3\n", &attempts, 1));
        wait_until(&format!("reload {n}"), || reloads(&gateway, "applied") >= n);
    }
    let grown = resident(gateway.pid()).saturating_sub(resident_before);
    running.stop();
    let report = running.join();
    println!("grown by {} KiB", grown >> 10);
    assert_unnoticed(&report);
    assert!(grown <= GROWTH_MAX, "{grown} bytes more");
    assert_eq!((reloads(&gateway, "applied"), reloads(&gateway, "refused")), (RELOADS, 0));
    assert_eq!(gateway.metric("forebay_config_last_reload_successful") as u64, 1);
}

/// Breaks a text at random places, or changes one of its numbers only.
fn mangled(text: &str, rng: &mut fastrand::Rng) -> String {
    let mut bytes = text.as_bytes().to_vec();
    if rng.bool() {
        let digits: Vec<usize> =
            (0..bytes.len()).filter(|&at| bytes[at].is_ascii_digit()).collect();
        bytes[digits[rng.usize(..digits.len())]] = rng.u8(b'1'..=b'9');
        return String::from_utf8_lossy(&bytes).into_owned();
    }
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(..bytes.len());
        match rng.u8(..5) {
            0 => drop(bytes.remove(at)),
            1 => bytes.insert(at, rng.u8(b' '..b'~')),
            2 => bytes[at] = rng.u8(b' '..b'~'),
            3 => bytes.truncate(at.max(1)),
            _ => {
                let end = (at + rng.usize(1..40)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What is mangled: everything but the addresses that the load and the test go to.
const EDITED: &str = "[timeouts]\nconnect = \"2s\"\nfirst_event = \"60s\"\nidle = \"30s\"\n\
    [health]\ninterval = \"30s\"\n[[head]]\nname = \"both\"\nregion = \"eu\"\nbackends = [\"a\", \"b\"]\n\
    [[model]]\nname = \"second\"\naliases = [\"gpt\"]\npriority_head = \"both\"\n\
    fallbacks = [\"tiny\"]\n";

#[test]
fn two_hundred_random_edits_never_stop_it_and_are_always_accounted_for() {
    const EDITS: u64 = 200;
    let fakes = [(); 2].map(|()| Fake::vllm(&Script::words(20, 5)));
    let gateway = gateway(&fakes);
    let whole = text(&gateway);
    let included = gateway.dir.path().join("more.toml");
    std::fs::write(&included, EDITED).unwrap();
    let whole = whole.replacen("max_attempts = 3\n", "include = [\"more.toml\"]\n", 1);
    replace(&file(&gateway), &whole);
    wait_until("the first reload", || reloads(&gateway, "applied") == 1);
    let running = Running::start(load(&gateway, 30.0, 90, 20)).unwrap();
    let mut rng = fastrand::Rng::with_seed(6);
    let both = || reloads(&gateway, "applied") + reloads(&gateway, "refused");
    let (mut refused, mut last) = (0, EDITED.to_owned());
    for n in 0..EDITS {
        let mut edited = mangled(EDITED, &mut rng);
        if edited == last {
            edited.push('\n');
        }
        let before = both();
        replace(&included, &edited);
        wait_until(&format!("edit {n}: {edited}"), || both() > before);
        let now = reloads(&gateway, "refused");
        let successful = gateway.metric("forebay_config_last_reload_successful") as u64;
        assert_eq!(successful, u64::from(now == refused), "edit {n}: {edited}");
        (refused, last) = (now, edited);
    }
    println!("{refused} of {EDITS} edits refused, {} applied", reloads(&gateway, "applied"));
    assert!((EDITS / 4..EDITS * 3 / 4).contains(&refused), "{refused}");
    let says_why = |line: &str| line.contains("the old one stays") && line.contains("more.toml:");
    let said = || gateway.log().lines().filter(|line| says_why(line)).count() as u64;
    wait_until("as many reasons as refusals", || said() == refused);
    assert_eq!(both(), EDITS + 1, "one reload for each edit");
    running.stop();
    assert_unnoticed(&running.join());
}
