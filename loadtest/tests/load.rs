//! The load generator against the scripted upstream: it must see what is there.
#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

use std::time::Duration;

use loadtest::generator::{self, Load, Running};
use loadtest::{At, How, Profile, Script, Upstream};

const SOON: Duration = Duration::from_secs(10);

fn setup(script: Script) -> (Upstream, Load) {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    upstream.script(script);
    let load = Load {
        url: upstream.url(),
        rate: 400.0,
        duration: Duration::from_millis(250),
        streams: 0.5,
        ..Load::default()
    };
    (upstream, load)
}

#[test]
fn whole_answers_are_whole() {
    let (upstream, load) = setup(Script::default());
    let report = generator::run(load).unwrap();
    assert_eq!((report.counts.offered, report.counts.ok, report.counts.ended()), (100, 100, 100));
    assert_eq!(report.total.count(), 100);
    assert_eq!(report.first_event.count(), 50);
    assert!(upstream.wait_for(SOON, |s| s.finished == 100));
    assert!(upstream.stats().connections_accepted < 100, "connections are kept");
    let json = report.json();
    assert_eq!(json["counts"]["ok"], 100);
    assert_eq!(json["seconds"][0]["counts"]["offered"], 100);
    assert!(report.to_string().contains("SILENT TRUNCATIONS    0"));
}

#[test]
fn every_kind_of_failure_has_its_count() {
    let streams = |how: How| {
        let (upstream, load) = setup(Script::broken(At::Events(4), how));
        let report = generator::run(Load { streams: 1.0, ..load }).unwrap();
        assert!(upstream.wait_for(SOON, |s| s.in_flight == 0));
        report.counts
    };
    assert_eq!(streams(How::CleanEnd).silent_truncations, 100);
    assert_eq!(streams(How::Fin).cut, 100);
    assert_eq!(streams(How::Reset).cut, 100);
    assert_eq!(streams(How::error(500)).error_events, 100);
    assert_eq!(streams(How::HalfEventCleanEnd).silent_truncations, 100);

    let (_upstream, load) = setup(Script::status(503, "{}"));
    let report = generator::run(load).unwrap();
    assert_eq!(report.counts.failed_before_commit, 100);
    assert_eq!(report.statuses[&503], 100);

    let (upstream, load) = setup(Script::default());
    upstream.refuse(true);
    let report = generator::run(load).unwrap();
    assert_eq!((report.counts.failed_before_commit, report.transport), (100, 100));

    let (_upstream, load) = setup(Script { start: 1, ..Script::default() });
    assert_eq!(generator::run(load).unwrap().counts.corrupt, 100);

    let (_upstream, load) = setup(Script { words: 19, ..Script::default() });
    assert_eq!(generator::run(load).unwrap().counts.silent_truncations, 100);
}

#[test]
fn a_frozen_server_times_out() {
    let (upstream, load) = setup(Script::default());
    upstream.freeze(true);
    let load = Load { timeout: Duration::from_millis(50), ..load };
    assert_eq!(generator::run(load).unwrap().counts.timeouts, 100);
}

#[test]
fn a_stall_is_felt_by_all_who_were_due_in_it() {
    let (upstream, load) = setup(Script::default());
    let load = Load { duration: Duration::from_millis(1500), rate: 200.0, streams: 0.0, ..load };
    let running = Running::start(load).unwrap();
    assert!(upstream.wait_for(SOON, |s| s.finished >= 20));
    upstream.freeze(true);
    let offered = running.report().counts.offered;
    while running.report().counts.offered < offered + 60 {
        std::thread::yield_now();
    }
    upstream.freeze(false);
    let report = running.join();
    assert_eq!((report.counts.offered, report.counts.ok), (300, 300));
    // 60 requests at 200/s were due while it stood still: the first of them waited for 0.3 s and half
    // of them, a tenth of all, for more than 0.15 s.
    assert!(report.total.quantile(0.91) >= Duration::from_millis(100), "{report}");
    assert!(report.total.quantile(1.0) >= Duration::from_millis(280), "{report}");
}

#[test]
fn it_leaves_when_told_and_stops_when_told() {
    let (upstream, load) = setup(Script::words(20, 60_000));
    let load = Load { streams: 1.0, leave_after: Some(1), ..load };
    let report = generator::run(load.clone()).unwrap();
    assert_eq!(report.counts.left, 100);
    assert!(upstream.wait_for(SOON, |s| s.cancelled == 100 && s.connections_open == 0));

    let running =
        Running::start(Load { duration: Duration::from_secs(600), ..load.clone() }).unwrap();
    assert!(upstream.wait_for(SOON, |s| s.cancelled > 110));
    running.stop();
    let report = running.join();
    assert_eq!(report.counts.left, report.counts.offered);

    assert!(Running::start(Load { rate: 1e9, ..load }).is_err());
}

#[test]
fn no_two_requests_are_the_same_where_that_is_asked_for() {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let load = Load {
        url: upstream.url(),
        rate: 200.0,
        count: Some(20),
        extra: "\"temperature\":0".to_owned(),
        seeds: Some(loadtest::generator::SEEDS - 3),
        ..Load::default()
    };
    let report = generator::run(load).unwrap();
    assert_eq!(report.counts.ok, 20, "{report}");
    let mut seeds: Vec<_> =
        upstream.inferences().iter().map(|sent| sent.json()["seed"].as_u64().unwrap()).collect();
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), 20);
}
