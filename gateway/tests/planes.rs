//! The library without the command: what an admin plane sees of a data plane and may do to it.

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::net::SocketAddr;
use std::time::Duration;

use gateway::{DataPlane, DrainSettings, ListenSettings, Plane, Settings};
use loadtest::{Profile, Upstream};
use router::explain::Verdict;
use router::health::HealthState;
use router::plan::Query;
use router::planes::{Inspect, Operate, OperateError, PurgeScope};
use router::spec::{BackendSpec, HealthSpec, Kind, SnapshotSpec};
use router::{BackendName, Operation, PassedOver, RegionName};
use support::wait_until;

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

fn state(plane: &Plane) -> HealthState {
    plane.backends()[0].state
}

#[test]
fn backends_are_seen_probed_drained_and_resumed() {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let name = BackendName::try_from("b").unwrap();
    let home = RegionName::try_from("eu").unwrap();
    let spec = SnapshotSpec {
        backends: vec![BackendSpec::new(name, Kind::Vllm, upstream.url(), home)],
        // No probe comes by itself while this test runs.
        health: HealthSpec {
            interval: Duration::from_secs(3600),
            down: 1,
            ..HealthSpec::default()
        },
        ..SnapshotSpec::default()
    };
    let running = DataPlane::start(&settings(), any_port(), spec).unwrap();
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
    assert_eq!(plane.purge(&PurgeScope::All), Err(OperateError::Unsupported));
}
