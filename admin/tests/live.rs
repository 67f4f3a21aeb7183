//! The socket form of the planes' traits: what goes in at one end comes out at the other, and who may not ask learns
//! nothing.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use admin::live::{Embedded, Folder, Planes, Sidecar, Socket};
use router::backend::BackendStatus;
use router::breaker::BreakerState;
use router::explain::{ExplainedCandidate, ExplainedTier, Explanation, Verdict};
use router::health::{HealthState, ProbeResult};
use router::load::LoadSignals;
use router::plan::{Busy, Exhausted, ExhaustedReason, PlanError, Query};
use router::planes::{
    BackendView, Event, EventKind, EventRing, Feed, Inspect, Look, Operate, OperateError,
    ProcessView, PurgeScope, QueueView, Tally, Totals,
};
use router::spec::{Catalog, DiscoveredModel, Kind};
use router::{BackendName, ModelName, Operation, PassedOver, RegionName};

/// A plane that shows one backend and remembers what it was told to do.
#[derive(Default)]
struct Fake {
    done: Mutex<Vec<String>>,
    events: EventRing,
    born: Option<SystemTime>,
}

fn backend() -> BackendName {
    BackendName::try_from("eu-1").unwrap()
}

fn region() -> RegionName {
    RegionName::try_from("eu").unwrap()
}

fn model() -> ModelName {
    ModelName::try_from("org/tiny:8b").unwrap()
}

impl Fake {
    fn new() -> Arc<Self> {
        Arc::new(Self { born: Some(SystemTime::now()), ..Self::default() })
    }

    fn act(&self, what: String, backend: &str) -> Result<(), OperateError> {
        if backend != "eu-1" {
            return Err(OperateError::UnknownBackend(backend.to_owned()));
        }
        self.done.lock().unwrap().push(what);
        Ok(())
    }
}

impl Inspect for Fake {
    fn version(&self) -> u64 {
        3
    }

    fn process(&self) -> ProcessView {
        ProcessView {
            pid: 17,
            revision: 9,
            connections: 4,
            buffered_bytes: 5,
            stopping: false,
            refusal: self.born.map(|at| (at, "F001: \"wrong\"\n".to_owned())),
        }
    }

    fn backends(&self) -> Vec<BackendView> {
        let signals = LoadSignals {
            waiting: Some(1),
            running: None,
            kv_usage: Some(0.25),
            vram: None,
            loaded: Some(Vec::new()),
            valid_for: Duration::from_millis(1500),
        };
        let status = BackendStatus {
            state: HealthState::Degraded,
            breaker: BreakerState::Open,
            open_for: Some(Duration::from_millis(250)),
            in_flight: 2,
            first_event: None,
            ramp: 0.5,
            resting: None,
            recent: (1, 2),
            unauthorized: true,
            last_probe: Some((Duration::from_secs(1), ProbeResult::TimedOut)),
            signals: Some(signals),
        };
        vec![BackendView {
            name: backend(),
            kind: Kind::OpenAi,
            region: region(),
            state: HealthState::Draining,
            status,
            look: Some(Look { took: Duration::from_micros(7), error: Some("refused".to_owned()) }),
        }]
    }

    fn catalog(&self) -> Catalog {
        let found = DiscoveredModel {
            name: model(),
            created: Some(1),
            owned_by: None,
            context_length: Some(8192),
            parent: None,
            digest: Some("d".to_owned()),
            remote: false,
        };
        [(backend(), Arc::from([found]))].into()
    }

    fn explain(&self, query: &Query<'_>) -> Result<Explanation, PlanError> {
        if query.model != "org/tiny:8b" {
            return Err(PlanError::UnknownRegion { known: vec![region()] });
        }
        let until = Instant::now() + Duration::from_secs(60);
        let candidate = ExplainedCandidate {
            backend: backend(),
            upstream_model: Some(model()),
            score: Some(0.125),
            in_flight: 1,
            cold: true,
            trial: false,
            verdict: Verdict::PassedOver(PassedOver::Open { until }),
        };
        let tier = ExplainedTier {
            model: model(),
            head: None,
            region: region(),
            policy: "prefix_hash",
            blocked: None,
            candidates: vec![candidate],
        };
        Ok(Explanation {
            version: 3,
            model: model(),
            home: Some(region()),
            allowed: None,
            tiers: vec![tier],
            refused: None,
            exhausted: Some(Exhausted {
                reason: ExhaustedReason::Saturated,
                retry_after: Some(Duration::from_secs(1)),
                busy: Some(Busy { full: true, rest: Some(until) }),
                down: false,
            }),
            would_wait: Some(Duration::from_secs(30)),
        })
    }

    fn totals(&self) -> Totals {
        let tally = Tally { requests: 5, failures: 1, last: self.born, ..Tally::default() };
        Totals { backends: vec![(backend(), tally)], models: vec![(model(), tally)] }
    }

    fn queues(&self) -> Vec<QueueView> {
        vec![QueueView {
            model: model(),
            depth: 1,
            size: 256,
            oldest: Duration::from_millis(3),
            expected: None,
        }]
    }
}

impl Operate for Fake {
    fn probe_now(&self, backend: Option<&str>) -> Result<(), OperateError> {
        self.act(format!("probe {backend:?}"), backend.unwrap_or("eu-1"))
    }

    fn drain(&self, backend: &str) -> Result<(), OperateError> {
        self.act("drain".to_owned(), backend)
    }

    fn resume(&self, backend: &str) -> Result<(), OperateError> {
        self.act("resume".to_owned(), backend)
    }

    fn purge(&self, scope: &PurgeScope) -> Result<u64, OperateError> {
        self.done.lock().unwrap().push(format!("{scope:?}"));
        Ok(42)
    }
}

impl Feed for Fake {
    fn events(&self, after: u64, most: usize) -> Vec<Event> {
        self.events.events(after, most)
    }
}

fn query(model: &str) -> Query<'_> {
    Query {
        model,
        operation: Operation::Embeddings,
        region: Some("eu"),
        key_region: None,
        key_regions: None,
        affinity: Some(u64::MAX),
        repeatable: true,
    }
}

/// The folder of a store in a place of its own, with a path too long for a socket's address where that is asked for.
fn folder(dir: &tempfile::TempDir, long: bool) -> (std::path::PathBuf, Folder) {
    let parent = if long { dir.path().join("x".repeat(120)) } else { dir.path().to_owned() };
    std::fs::create_dir_all(&parent).unwrap();
    let store = parent.join("forebay.db");
    (parent.join("forebay.db.planes"), Folder::beside(&store))
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_a_plane_shows_and_does_is_the_same_through_its_socket() {
    for long in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (path, folder) = folder(&dir, long);
        let fake = Fake::new();
        fake.events.push(EventKind::Published { version: 3 }, SystemTime::now());
        let sidecar = Sidecar::new(folder.clone());
        assert!(sidecar.all().is_empty(), "no plane runs yet");
        let socket = Socket::open(&folder, Arc::clone(&fake) as _).unwrap();
        let name = std::process::id().to_string();
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join(format!("{name}.sock"))), 0o600);
        assert_eq!(mode(&path.join("token")), 0o600);

        let planes = sidecar.all();
        let [plane] = planes.as_slice() else { panic!("{} planes", planes.len()) };
        assert_eq!(
            (plane.name.as_str(), &plane.unreachable),
            (format!("pid-{name}").as_str(), &None)
        );
        let there = &plane.inspect;
        assert_eq!(there.version(), 3);
        assert_eq!(there.process(), fake.process());
        assert_eq!(there.backends(), fake.backends());
        assert_eq!(there.catalog(), fake.catalog());
        assert_eq!(there.totals(), fake.totals());
        assert_eq!(there.queues(), fake.queues());
        assert_eq!(plane.feed.events(0, 10), fake.events(0, 10));
        let told = there.explain(&query("org/tiny:8b")).unwrap();
        let Verdict::PassedOver(PassedOver::Open { until }) = told.tiers[0].candidates[0].verdict
        else {
            panic!("{told:?}")
        };
        let left = until.saturating_duration_since(Instant::now());
        assert!(left > Duration::from_secs(30) && left <= Duration::from_secs(60));
        assert_eq!(
            (told.tiers[0].policy, told.would_wait),
            ("prefix_hash", Some(Duration::from_secs(30)))
        );
        assert_eq!(there.explain(&query("other")), fake.explain(&query("other")));

        plane.operate.drain("eu-1").unwrap();
        plane.operate.resume("eu-1").unwrap();
        plane.operate.probe_now(None).unwrap();
        assert_eq!(plane.operate.purge(&PurgeScope::Model(model())), Ok(42));
        let unknown = Err(OperateError::UnknownBackend("x".to_owned()));
        assert_eq!(plane.operate.drain("x"), unknown);
        assert_eq!(fake.done.lock().unwrap().len(), 4);

        drop(socket);
        assert!(!path.join(format!("{name}.sock")).exists());
        assert!(sidecar.all().is_empty());
        assert_eq!(there.explain(&query("org/tiny:8b")), Err(PlanError::NoAnswer));
        assert!(matches!(plane.operate.drain("eu-1"), Err(OperateError::Unreachable(_))));
    }
}

#[test]
fn a_socket_tells_nothing_without_its_token() {
    let dir = tempfile::tempdir().unwrap();
    let (path, folder) = folder(&dir, false);
    let _socket = Socket::open(&folder, Fake::new() as _).unwrap();
    let ask = |head: &str| {
        let file = path.join(format!("{}.sock", std::process::id()));
        let mut socket = UnixStream::connect(file).unwrap();
        socket
            .write_all(format!("GET /live/state HTTP/1.1\r\nhost: x\r\n{head}\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    };
    let token = std::fs::read_to_string(path.join("token")).unwrap();
    assert_eq!(token.len(), 64);
    for head in ["", "authorization: Bearer \r\n", "authorization: Bearer 00\r\n"] {
        let answer = ask(head);
        assert!(answer.starts_with("HTTP/1.1 401 ") && !answer.contains("eu-1"), "{answer}");
    }
    assert!(ask(&format!("authorization: Bearer {token}\r\n")).contains("eu-1"));

    // Whoever replaced the token is refused, and the plane is shown as one that does not answer.
    std::fs::write(path.join("token"), "0".repeat(64)).unwrap();
    let planes = Sidecar::new(folder).all();
    assert!(planes[0].unreachable.as_ref().unwrap().contains("token"));
    assert!(planes[0].inspect.backends().is_empty());
}

#[test]
fn a_plane_that_hangs_does_not_hide_the_others_and_the_dead_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (path, folder) = folder(&dir, false);
    let socket = Socket::open(&folder, Fake::new() as _).unwrap();
    // Accepts and never answers.
    let hangs = std::os::unix::net::UnixListener::bind(path.join("1.sock")).unwrap();
    // Left behind: nobody listens.
    drop(std::os::unix::net::UnixListener::bind(path.join("2.sock")).unwrap());
    let begun = Instant::now();
    let own = Fake::new();
    let planes = Embedded::new(Arc::clone(&own), folder.clone(), Some(socket)).all();
    let shown: Vec<_> = planes.iter().map(|p| (p.name.as_str(), p.unreachable.is_some())).collect();
    assert_eq!(shown, [(format!("pid-{}", std::process::id()).as_str(), false), ("pid-1", true)]);
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert!(!path.join("2.sock").exists(), "a socket without a process is removed");
    drop(hangs);
    // A second process of the same number, as in another container.
    let first = Socket::open(&folder, Fake::new() as _).unwrap();
    let second = Socket::open(&folder, Fake::new() as _).unwrap();
    assert_eq!(Sidecar::new(folder).all().len(), 2);
    drop((first, second));
}
