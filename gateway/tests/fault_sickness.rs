//! Backends that hang, stall, slow down or refuse: under load, as processes. Counts are asserted; times are printed.

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::time::Instant;

use loadtest::generator::{Report, Running};
use loadtest::{At, How, Script};
use support::process::{
    Fake, attempts, breaker_lines, from, is_up, load, settle, wait_offered, wait_up,
};
use support::{Gateway, wait_until};

const NAMES: [&str; 3] = ["a", "b", "c"];
/// What the servers' health routes say does not matter here: traffic alone has to find out.
const RARELY: &str = "[health]\ninterval = \"60s\"\n";
const SICK: &str = r#"{"error":{"message":"broken","type":"server_error","code":500}}"#;

/// In turn, so that the sick one is met as often as the others for as long as nothing is known of it.
fn three(script: &Script, tables: &str) -> ([Fake; 3], Gateway) {
    three_by("round_robin", script, tables)
}

fn three_by(policy: &str, script: &Script, tables: &str) -> ([Fake; 3], Gateway) {
    let fakes = NAMES.map(|_| Fake::vllm(script));
    let backends: String = NAMES.iter().zip(&fakes).map(|(name, fake)| fake.table(name)).collect();
    let gateway = Gateway::start(&format!("policy = \"{policy}\"\n{backends}{tables}"));
    settle(&gateway, &NAMES);
    (fakes, gateway)
}

/// Two servers that are tried strictly in order.
fn two(script: &Script, tables: &str) -> ([Fake; 2], Gateway) {
    let fakes = [Fake::vllm(script), Fake::vllm(script)];
    let backends = fakes[0].table("a") + &fakes[1].table("b");
    let gateway = Gateway::start(&format!(
        "{backends}[[head]]\nname = \"both\"\nregion = \"eu\"\nbackends = [\"a\", \"b\"]\norder = \"listed\"\n\
         [[model]]\nname = \"tiny\"\nregion = \"eu\"\npriority_head = \"both\"\n{tables}"
    ));
    settle(&gateway, &["a", "b"]);
    (fakes, gateway)
}

fn assert_all_whole(report: &Report) {
    assert_eq!(report.counts.ok, report.counts.offered, "{report}");
    assert_eq!(report.shed, 0, "{report}");
}

/// F6: one is frozen: it takes connections and never answers.
#[test]
fn a_frozen_backend_harms_nobody_elses_requests() {
    let tables = "[timeouts]\nfirst_event = \"500ms\"\n[health]\ninterval = \"400ms\"\ntimeout = \"300ms\"\n\
                  open_probe_min = \"200ms\"\nopen_probe_max = \"300ms\"\n";
    let (fakes, gateway) = three(&Script::words(3, 0), tables);
    let running = Running::start(load(&gateway, 60.0, 5, 3)).unwrap();
    wait_offered(&running, 60);
    fakes[0].freeze();
    let frozen = Instant::now();
    wait_up(&gateway, "a", false);
    println!("left after {:?}", frozen.elapsed());
    let failed = attempts(&gateway, "a", "failure");
    wait_offered(&running, 200);
    let later = attempts(&gateway, "a", "failure") - failed;
    fakes[0].thaw();
    wait_up(&gateway, "a", true);
    let report = running.join();
    println!("{failed} failures until then, {later} later\n{report}");
    // A stream that was on its way when it froze may end in an error event; these take no time.
    assert_eq!(report.counts.ok + report.counts.error_events, report.counts.offered, "{report}");
    assert!(report.counts.error_events <= 1, "{report}");
    // Five that opened its breaker, and those that came within their deadline, a third of 60/s; all were saved.
    assert!((5..=8).contains(&failed), "{failed} failures opened it");
    assert!(failed + later <= 20, "{} requests met the frozen one", failed + later);
}

/// F6: where everything is sent to the frozen one first, five are enough.
#[test]
fn five_first_events_that_never_come_open_the_breaker() {
    let tables = format!("[timeouts]\nfirst_event = \"100ms\"\n{RARELY}");
    let (fakes, gateway) = two(&Script::words(3, 0), &tables);
    fakes[0].freeze();
    for i in 0..8 {
        let reply = gateway.client().chat_stream("tiny", "");
        assert_eq!((reply.status, from(&reply)), (200, "b"), "{i}");
        let expected = if i < 5 { "2" } else { "1" };
        assert_eq!(reply.header("x-forebay-attempts"), Some(expected), "{i}");
    }
    assert_eq!(attempts(&gateway, "a", "failure"), 5);
}

/// F7: one answers 500 to half of its requests, never five times in a row.
#[test]
fn half_failing_is_failing() {
    let (fakes, gateway) = three(&Script::words(3, 0), RARELY);
    let (good, bad) = (Script::words(3, 0), Script::status(500, SICK));
    // In each ten, five and a last one that tips the scales: "under half" is what counts.
    for i in 0..90 {
        fakes[0].next(if matches!(i % 10, 0 | 1 | 3 | 5 | 7 | 9) { &bad } else { &good });
    }
    let running = Running::start(load(&gateway, 80.0, 5, 3)).unwrap();
    wait_up(&gateway, "a", false);
    println!("tripped after {} requests", running.report().counts.offered);
    let (failures, successes) =
        (attempts(&gateway, "a", "failure"), attempts(&gateway, "a", "success"));
    let report = running.join();
    println!("{failures} failures and {successes} successes at it until then\n{report}");
    assert_all_whole(&report);
    // At least 20 were seen, and not many more were needed.
    assert!((20..=40).contains(&(failures + successes)));
    assert!(attempts(&gateway, "a", "") <= failures + successes + 10);
}

/// F8: one is ten times slower.
#[test]
fn a_slow_backend_gets_less() {
    let (fakes, gateway) =
        three_by("least_load", &Script { first_ms: 20, ..Script::words(5, 5) }, RARELY);
    fakes[0].script(&Script { first_ms: 200, ..Script::words(5, 50) });
    let report = Running::start(load(&gateway, 60.0, 5, 5)).unwrap().join();
    println!("{report}");
    assert_all_whole(&report);
    let late = &report.seconds[2..];
    let slow: u64 = late.iter().filter_map(|second| second.labels.get("a")).sum();
    let all: u64 = late.iter().map(|second| second.counts.ok).sum();
    println!("{slow} of {all} went to the slow one");
    assert!(slow as f64 <= 0.15 * all as f64, "{slow} of {all} went to the slow one");
}

/// F9: `/health` says 200 and generation is dead; so does the list of models.
#[test]
fn a_backend_that_is_healthy_and_dead_is_left_by_its_traffic() {
    let quick = "[health]\ninterval = \"100ms\"\nopen_probe_min = \"100ms\"\n";
    for dead in [Script::status(500, SICK), Script::broken(At::Events(0), How::error(500))] {
        let (fakes, gateway) = three(&Script::words(3, 0), quick);
        fakes[0].script(&dead);
        let report = Running::start(load(&gateway, 60.0, 3, 3)).unwrap().join();
        assert_all_whole(&report);
        let failures = attempts(&gateway, "a", "failure");
        println!("{failures} attempts at the dead one\n{:#?}", breaker_lines(&gateway, "a"));
        // Five that opened it, those beside them, one early trial; passed probes do not bring it back.
        assert!((5..=10).contains(&failures), "{failures} attempts at a dead engine");
        assert!(!is_up(&gateway, "a"));
    }
}

/// F12: a stream stalls in its middle.
#[test]
fn a_stall_ends_in_an_error_event_and_frees_the_slot() {
    let (fakes, gateway) = two(&Script::words(3, 0), "[timeouts]\nidle = \"200ms\"\n");
    fakes[0].next(&Script::broken(At::Events(3), How::Hang));
    let reply = gateway.client().chat_stream("tiny", "");
    assert_eq!((reply.status, from(&reply)), (200, "a"));
    let error = reply.error_event().unwrap();
    assert_eq!(error["code"], "upstream_stream_broken", "{error}");
    assert!(!reply.looks_whole());
    wait_until("the slot to be free", || {
        gateway.metric("forebay_backend_in_flight{backend=\"a\"}") < 0.5
    });
    wait_until("the upstream to be left", || fakes[0].stats().cancelled == 1);
    // One stall opens nothing.
    assert_eq!(from(&gateway.client().chat_stream("tiny", "")), "a");
}

/// F12: all streams of one server stall: that opens its breaker.
#[test]
fn stalls_open_the_breaker() {
    let (fakes, gateway) =
        two(&Script::words(3, 0), &format!("[timeouts]\nidle = \"100ms\"\n{RARELY}"));
    fakes[0].script(&Script::broken(At::Events(3), How::Hang));
    for _ in 0..5 {
        assert!(gateway.client().chat_stream("tiny", "").error_event().is_some());
    }
    wait_up(&gateway, "a", false);
    let reply = gateway.client().chat_stream("tiny", "");
    assert_eq!(from(&reply), "b");
    assert!(reply.looks_whole());
}

/// F15: one says that it is busy, and for how long.
#[test]
fn a_busy_backend_rests_as_long_as_it_asks() {
    let (fakes, gateway) = two(&Script::words(3, 0), RARELY);
    let busy = Script::status(429, r#"{"error":{"message":"busy","type":"rate","code":"busy"}}"#);
    fakes[0].next(&busy.header("retry-after", "2"));
    for i in 0..10 {
        let reply = gateway.client().chat_stream("tiny", "");
        assert_eq!((reply.status, from(&reply)), (200, "b"), "{i}");
        let expected = if i == 0 { "2" } else { "1" };
        assert_eq!(reply.header("x-forebay-attempts"), Some(expected), "{i}");
    }
    assert_eq!(fakes[0].stats().inference_requests, 1);
    assert_eq!(breaker_lines(&gateway, "a").len(), 0, "one 429 opened a breaker");
    wait_until("its rest to end", || from(&gateway.client().chat_stream("tiny", "")) == "a");
}

/// F15: all are busy: the client hears 429, and the longest of their times.
#[test]
fn when_all_are_busy_the_longest_rest_is_told() {
    let (fakes, gateway) = two(&Script::words(3, 0), RARELY);
    let busy =
        || Script::status(429, r#"{"error":{"message":"busy","type":"rate","code":"busy"}}"#);
    fakes[0].next(&busy().header("retry-after", "7"));
    fakes[1].next(&busy().header("retry-after", "3"));
    let reply = gateway.client().chat_stream("tiny", "");
    assert_eq!(reply.status, 429, "{}", reply.text());
    assert_eq!(reply.header("retry-after"), Some("7"));
    // Both rest: the next one waits for the first that is back.
    let reply = gateway.client().chat_stream("tiny", "");
    assert_eq!((reply.status, from(&reply)), (200, "b"), "{}", reply.text());
    assert_eq!(fakes.map(|fake| fake.stats().inference_requests), [1, 2]);
}
