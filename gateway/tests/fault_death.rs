//! Backends that die and come back, as processes, under an open-loop load. Counts are asserted; times are printed.

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::time::Instant;

use loadtest::generator::{Report, Running, Second};
use loadtest::{At, How, Script};
use support::process::{
    Fake, attempts, breaker_lines, from, is_up, load, settle, wait_offered, wait_up,
};
use support::{Gateway, wait_until};

/// Timers in the proportions of the defaults, and small.
const QUICK: &str = "[breaker]\nopen_min = \"1s\"\nopen_max = \"4s\"\n\
                     [health]\ninterval = \"500ms\"\ntimeout = \"500ms\"\n\
                     open_probe_min = \"200ms\"\nopen_probe_max = \"500ms\"\n";

/// So that a sick one is met as often as the others for as long as nothing is known of it.
const IN_TURN: &str = "policy = \"round_robin\"";

const NAMES: [&str; 3] = ["a", "b", "c"];

fn three(script: &Script) -> [Fake; 3] {
    NAMES.map(|_| Fake::vllm(script))
}

fn gateway(fakes: &[Fake; 3], top: &str, tables: &str) -> Gateway {
    let backends: String = NAMES.iter().zip(fakes).map(|(name, fake)| fake.table(name)).collect();
    let gateway = Gateway::start(&format!("{top}\n{backends}{tables}"));
    settle(&gateway, &NAMES);
    gateway
}

fn of(second: &Second, backend: &str) -> u64 {
    second.labels.get(backend).copied().unwrap_or_default()
}

/// What must hold whatever dies: nothing fails that could be saved, and nothing is passed off as whole.
fn assert_honest(report: &Report) {
    let counts = report.counts;
    assert_eq!(counts.silent_truncations, 0, "{report}");
    assert_eq!(counts.corrupt, 0, "{report}");
    assert_eq!(counts.cut, 0, "{report}");
    assert_eq!(counts.timeouts, 0, "{report}");
    assert_eq!(report.shed, 0, "{report}");
}

/// F2 and F11: one of three is killed under streams, and returns.
#[test]
fn a_killed_backend_costs_only_what_it_had_begun_and_returns_slowly() {
    const RATE: u64 = 60;
    let script = Script { first_ms: 50, ..Script::words(20, 10) };
    let mut fakes = three(&script);
    let gateway = gateway(&fakes, "slow_start = \"3s\"\npolicy = \"round_robin\"", QUICK);
    let running = Running::start(load(&gateway, RATE as f64, 9, 20)).unwrap();
    wait_offered(&running, RATE * 3 / 2);
    fakes[0].kill();
    let killed = Instant::now();
    wait_up(&gateway, "a", false);
    println!("off the dead one after {:?}", killed.elapsed());
    let before = attempts(&gateway, "a", "failure");
    // Dead for two whole seconds of the report.
    wait_offered(&running, RATE * 4);
    let trials = attempts(&gateway, "a", "failure") - before;
    fakes[0].restart();
    let back = Instant::now();
    wait_up(&gateway, "a", true);
    println!("back after {:?}", back.elapsed());
    let report = running.join();
    println!("{report}");
    assert_honest(&report);
    let counts = report.counts;
    assert_eq!(counts.failed_before_commit, 0, "{report}");
    // Those that had begun on it: a third of 60/s, each of 0.3 s, and no more.
    assert!((1..=20).contains(&counts.error_events), "{report}");
    assert_eq!(counts.ok + counts.error_events, counts.offered);
    assert!(trials <= 10, "{trials} more attempts at a dead backend");
    for second in &report.seconds[2..4] {
        assert_eq!(of(second, "a"), 0, "{report:?}");
    }
    let shares: Vec<u64> = report.seconds.iter().map(|second| of(second, "a")).collect();
    println!("of the killed one, second by second: {shares:?}");
    assert!(shares[4] + shares[5] < RATE / 2, "it returned at full share: {shares:?}");
    assert!(shares[8] >= RATE / 5, "it did not come back to its share: {shares:?}");
}

/// F5: everything dies for some seconds.
#[test]
fn all_dead_is_no_storm_and_ends_without_a_second_dip() {
    const RATE: u64 = 60;
    let mut fakes = three(&Script::words(5, 5));
    let gateway = gateway(&fakes, "slow_start = \"2s\"", QUICK);
    let running = Running::start(load(&gateway, RATE as f64, 10, 5)).unwrap();
    wait_offered(&running, RATE);
    let tried = |end| NAMES.iter().map(|name| attempts(&gateway, name, end)).sum::<u64>();
    let (offered_before, tried_before) = (running.report().counts.offered, tried(""));
    fakes.iter_mut().for_each(Fake::kill);
    wait_until("every breaker to open", || NAMES.iter().all(|name| !is_up(&gateway, name)));
    wait_offered(&running, offered_before + 3 * RATE);
    let asked = Instant::now();
    // One of them may be the trial that finds out.
    let refused = || gateway.client().chat("tiny", "");
    let refused = [refused(), refused(), refused()].into_iter().find(|reply| reply.status == 503);
    println!("three refused within {:?}", asked.elapsed());
    let refused = refused.unwrap();
    let (offered_during, tried_during) =
        (running.report().counts.offered - offered_before, tried("") - tried_before);
    fakes.iter_mut().for_each(Fake::restart);
    let report = running.join();
    println!("{tried_during} attempts for {offered_during} requests while all were dead\n{report}");
    assert_honest(&report);
    assert_eq!(refused.error_code(), "no_backend_available");
    let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&after), "{after}");
    assert!(tried_during as f64 <= 1.2 * offered_during as f64);
    assert!(report.statuses.keys().all(|status| [502, 503].contains(status)), "{report}");
    // 502 is for those that met a backend's failure: while breakers opened, and as trials since then.
    let told = |status| report.statuses.get(&status).copied().unwrap_or_default();
    assert!(told(503) > told(502), "{report}");
    let good: Vec<bool> = report.seconds.iter().map(|s| s.counts.ok == s.counts.offered).collect();
    let last_bad = good.iter().rposition(|good| !good).unwrap();
    println!("whole seconds: {good:?}");
    assert!(last_bad < 8, "not back within 4 s: {good:?}");
    let first_bad = good.iter().position(|good| !good).unwrap();
    assert!(good[first_bad..=last_bad].iter().all(|good| !good), "a second dip: {good:?}");
}

/// F10: one of three fails and recovers, again and again.
#[test]
fn a_flapping_backend_is_left_once() {
    let fakes = three(&Script::words(3, 0));
    let gateway =
        gateway(&fakes, IN_TURN, "[health]\nopen_probe_min = \"100ms\"\ninterval = \"300ms\"\n");
    let running = Running::start(load(&gateway, 80.0, 6, 3)).unwrap();
    let bad = Script::status(500, r#"{"error":{"message":"no","type":"x","code":500}}"#);
    let good = Script::words(3, 0);
    for i in 1..=10 {
        wait_offered(&running, i * 45);
        fakes[0].script(if i % 2 == 1 { &bad } else { &good });
    }
    let report = running.join();
    println!("{report}");
    assert_honest(&report);
    assert_eq!(report.counts.ok, report.counts.offered, "{report}");
    let lines = breaker_lines(&gateway, "a");
    println!("{lines:#?}");
    let opened = lines.iter().filter(|line| line["from"] == "closed" && line["to"] == "open");
    assert_eq!(opened.count(), 1, "from closed to open, within 10 s");
    let failures = attempts(&gateway, "a", "failure");
    assert!(failures <= 12, "{failures} failures at a backend that flaps");
}

/// F14: the connection is reset behind the response head, before any content.
#[test]
fn a_reset_before_content_is_nobodys_error() {
    for at in [At::Head, At::Events(1)] {
        let fakes = three(&Script::words(5, 5));
        let gateway = gateway(&fakes, IN_TURN, "[health]\ninterval = \"60s\"\n");
        fakes[0].script(&Script::broken(at, How::Reset));
        let report = Running::start(load(&gateway, 60.0, 2, 5)).unwrap().join();
        assert_honest(&report);
        assert_eq!(report.counts.ok, report.counts.offered, "{at:?}: {report}");
        let failures = attempts(&gateway, "a", "failure");
        assert!((5..=20).contains(&failures), "{at:?}: {failures} failures");
        assert!(!is_up(&gateway, "a"), "{at:?}");
        assert_eq!(fakes[0].stats().finished, 0);
    }
}

/// A backend that was dead when the gateway started is found when it comes.
#[test]
fn a_backend_that_was_never_there_is_found() {
    let mut fake = Fake::vllm(&Script::words(2, 0));
    let table = fake.table("late");
    fake.kill();
    let gateway = Gateway::start(&format!("{table}models = [\"tiny\"]\n{QUICK}"));
    let refused = gateway.client().chat("tiny", "");
    assert!([502, 503].contains(&refused.status), "{}", refused.text());
    fake.restart();
    wait_until("the first answer", || from(&gateway.client().chat("tiny", "")) == "late");
}
