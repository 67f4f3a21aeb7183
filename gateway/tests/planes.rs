//! The library without the command: what an admin plane sees of a data plane and may do to it.

#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::net::SocketAddr;
use std::time::Duration;

use gateway::{DataPlane, DrainSettings, ListenSettings, Plane, Settings};
use loadtest::{At, How, Profile, Script, Upstream};
use router::explain::Verdict;
use router::health::HealthState;
use router::plan::Query;
use router::planes::{EventKind, Feed, Inspect, Operate, OperateError, Publish, PurgeScope};
use router::spec::{BackendSpec, HealthSpec, Kind, SnapshotSpec};
use router::{BackendName, Operation, PassedOver, RegionName};
use support::{Client, wait_until};

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn settings() -> Settings {
    let public = ListenSettings {
        listen: any_port(),
        tls: None,
        connections_max: 10,
        head_max: 32 << 10,
        headers_max: 100,
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(75),
        write_timeout: Duration::from_secs(60),
        h2_streams_max: 100,
    };
    let drain = DrainSettings { grace: Duration::ZERO, timeout: Duration::ZERO };
    Settings { public, threads: Some(1), drain }
}

fn spec_of(upstream: &Upstream) -> SnapshotSpec {
    let name = BackendName::try_from("b").unwrap();
    let home = RegionName::try_from("eu").unwrap();
    SnapshotSpec {
        backends: vec![BackendSpec::new(name, Kind::Vllm, upstream.url(), home)],
        // No probe comes by itself while a test runs.
        health: HealthSpec {
            interval: Duration::from_secs(3600),
            down: 1,
            ..HealthSpec::default()
        },
        ..SnapshotSpec::default()
    }
}

fn state(plane: &Plane) -> HealthState {
    plane.backends()[0].state
}

#[test]
fn backends_are_seen_probed_drained_and_resumed() {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let running = DataPlane::start(&settings(), any_port(), spec_of(&upstream)).unwrap();
    let plane = running.plane();
    wait_until("the first probe", || state(plane) == HealthState::Online);
    wait_until("the first list", || !plane.catalog().is_empty());
    assert_eq!(plane.version(), 2, "the spec, and what was found");

    let query = Query {
        model: "tiny",
        operation: Operation::ChatCompletions,
        region: None,
        key_region: None,
        key_regions: None,
        affinity: None,
        repeatable: true,
    };
    let verdict = || plane.explain(&query).unwrap().tiers[0].candidates[0].verdict;
    assert_eq!(verdict(), Verdict::Attempt(1));
    plane.drain("b").unwrap();
    assert_eq!(state(plane), HealthState::Draining);
    assert_eq!(verdict(), Verdict::PassedOver(PassedOver::Draining));
    plane.resume("b").unwrap();
    assert_eq!(verdict(), Verdict::Attempt(1));
    assert!(plane.backends()[0].status.ramp < 1.0, "it comes back with a ramp");

    upstream.vitals(|vitals| vitals.health = 503);
    plane.probe_now(Some("b")).unwrap();
    wait_until("the probe that was asked for", || state(plane) == HealthState::Offline);
    upstream.vitals(|vitals| vitals.health = 200);
    plane.probe_now(None).unwrap();
    wait_until("its return", || state(plane) == HealthState::Online);

    let unknown = Err(OperateError::UnknownBackend("x".to_owned()));
    assert_eq!(plane.probe_now(Some("x")), unknown);
    assert_eq!(plane.drain("x"), unknown);
    assert_eq!(plane.resume("x"), unknown);
    assert_eq!(plane.purge(&PurgeScope::All), Ok(0));
}

#[test]
fn those_who_wait_are_seen_and_served_when_a_cap_is_raised() {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let mut spec = spec_of(&upstream);
    spec.backends[0].max_in_flight = Some(1);
    let running = DataPlane::start(&settings(), any_port(), spec.clone()).unwrap();
    let plane = running.plane();
    wait_until("the first list", || !plane.catalog().is_empty());
    upstream.clear();
    upstream.script_next(1, Script::broken(At::Events(2), How::Hang));
    let client = Client::new(running.public_addr());
    let held = client.open_chat("tiny", ",\"stream\":true");
    assert!(upstream.wait_for(support::PATIENCE, |stats| stats.in_flight == 1));
    assert_eq!(plane.queues(), []);

    let mut waiting = client.open_chat("tiny", "");
    wait_until("one to wait", || plane.queues().len() == 1);
    let queue = &plane.queues()[0];
    assert_eq!((queue.model.as_str(), queue.depth, queue.size), ("tiny", 1, 256));
    assert!(queue.oldest < support::PATIENCE && queue.expected.is_none(), "{queue:?}");
    let query = Query {
        model: "tiny",
        operation: Operation::ChatCompletions,
        region: None,
        key_region: None,
        key_regions: None,
        affinity: None,
        repeatable: true,
    };
    let told = plane.explain(&query).unwrap();
    assert_eq!(told.would_wait, Some(Duration::from_secs(30)));

    spec.backends[0].max_in_flight = Some(2);
    running.publish(spec).unwrap();
    assert_eq!(waiting.reply().status, 200);
    assert_eq!(plane.queues(), []);
    assert_eq!(plane.explain(&query).unwrap().would_wait, None);
    held.leave();
}

#[test]
fn what_happens_is_counted_and_told() {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let spec = spec_of(&upstream);
    let running = DataPlane::start(&settings(), any_port(), spec.clone()).unwrap();
    let plane = running.plane();
    wait_until("the first list", || !plane.catalog().is_empty());
    let client = Client::new(running.public_addr());
    assert!(client.chat_stream("tiny", "").looks_whole());
    assert_eq!(client.chat("tiny", "").status, 200);
    upstream.script_next(1, Script::status(500, "{}"));
    assert_eq!(client.chat("tiny", "").status, 500);
    assert_eq!(client.chat("unknown", "").status, 404);
    // A connection that counts nothing any more has counted.
    wait_until("the ends", || plane.process().connections == 0);

    let totals = plane.totals();
    let [(name, backend)] = totals.backends.as_slice() else { panic!("{totals:?}") };
    let [(model, asked)] = totals.models.as_slice() else { panic!("{totals:?}") };
    assert_eq!((name.as_str(), model.as_str()), ("b", "tiny"));
    for tally in [backend, asked] {
        assert_eq!((tally.requests, tally.failures, tally.first_events.0), (3, 1, 1));
        assert!(tally.output_tokens > 0 && tally.input_tokens > 0);
        assert!(tally.busy >= tally.first_events.1 && tally.last.is_some());
    }

    // The counts of a name outlive a change of its address.
    let moved = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let next = SnapshotSpec { revision: 7, ..spec_of(&moved) };
    let version = running.publish(next).unwrap();
    assert_eq!((plane.version(), plane.process().revision), (version, 7));
    wait_until("the new one's list", || !plane.catalog().is_empty());
    assert_eq!(client.chat("tiny", "").status, 200);
    wait_until("its end", || plane.process().connections == 0);
    assert_eq!(plane.totals().backends[0].1.requests, 4);

    plane.drain("b").unwrap();
    plane.drain("b").unwrap();
    let kinds: Vec<_> = plane.events(0, 100).into_iter().map(|event| event.kind).collect();
    let count = |wanted: fn(&EventKind) -> bool| kinds.iter().filter(|kind| wanted(kind)).count();
    assert_eq!(count(|kind| matches!(kind, EventKind::Published { .. })), 1, "{kinds:?}");
    assert_eq!(count(|kind| matches!(kind, EventKind::Discovered { models: 1, .. })), 2);
    let drained =
        |kind: &EventKind| matches!(kind, EventKind::Health { to: HealthState::Draining, .. });
    assert_eq!(count(drained), 1, "{kinds:?}");
    let wrong =
        SnapshotSpec { default_region: None, backends: vec![spec.backends[0].clone(); 2], ..spec };
    assert!(running.publish(wrong).is_err());
    assert_eq!(plane.version(), plane.world.load().version());
}
