//! A data plane without sockets: the real snapshots and backends, probed by nobody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use admin::live::{PlaneRef, Planes};
use router::explain::{Explanation, explain};
use router::health::{HealthState, ProbeResult};
use router::plan::{PlanError, Query};
use router::planes::{
    BackendView, Event, EventKind, EventRing, Feed, Inspect, Look, Operate, OperateError,
    ProcessView, Publish, PurgeScope, QueueView, Totals,
};
use router::snapshot::{BuildError, SnapshotHandle};
use router::spec::{Catalog, DiscoveredModel, SnapshotSpec};
use router::{BackendName, ModelName};

pub struct Fake {
    pub world: SnapshotHandle<()>,
    pub ring: EventRing,
    pub totals: Mutex<Totals>,
    pub purged: Mutex<Vec<PurgeScope>>,
    pub probes: AtomicU64,
}

impl Fake {
    pub fn new() -> Arc<Self> {
        let config = config::defaults(&config::ProcessEnvironment).config;
        let world = SnapshotHandle::new(config.snapshot, Box::new(|_| ()), Instant::now()).unwrap();
        Arc::new(Self {
            world,
            ring: EventRing::default(),
            totals: Mutex::default(),
            purged: Mutex::default(),
            probes: AtomicU64::new(0),
        })
    }

    /// As if a backend had listed these models.
    pub fn finds(&self, backend: &str, models: &[&str]) {
        let found = models.iter().map(|name| DiscoveredModel {
            name: ModelName::try_from(*name).unwrap(),
            created: None,
            owned_by: None,
            context_length: Some(4096),
            parent: None,
            digest: None,
            remote: false,
        });
        let name = BackendName::try_from(backend).unwrap();
        self.world.set_catalog(&name, found.collect::<Vec<_>>().into(), Instant::now());
    }

    /// As if a backend had gone down.
    pub fn health_event(&self, backend: &str) {
        let backend = BackendName::try_from(backend).unwrap();
        let (from, to) = (HealthState::Online, HealthState::Offline);
        self.ring.push(EventKind::Health { backend, from, to }, SystemTime::now());
    }
}

impl Publish for Fake {
    fn publish(&self, spec: SnapshotSpec) -> Result<u64, Vec<BuildError>> {
        let version = self.world.publish(spec, Instant::now())?;
        self.ring.push(EventKind::Published { version }, SystemTime::now());
        Ok(version)
    }
}

impl Inspect for Fake {
    fn version(&self) -> u64 {
        self.world.load().version()
    }

    fn process(&self) -> ProcessView {
        let revision = self.world.load().spec().revision;
        ProcessView { pid: std::process::id(), revision, ..ProcessView::default() }
    }

    fn backends(&self) -> Vec<BackendView> {
        let now = Instant::now();
        let world = self.world.load();
        let view = |member: &router::snapshot::Member<()>| BackendView {
            name: member.spec.name.clone(),
            kind: member.spec.kind,
            region: member.spec.region.clone(),
            state: member.state(now),
            status: member.live.status(now),
            look: Some(Look { took: Duration::from_millis(2), error: None }),
        };
        world.backends().iter().map(view).collect()
    }

    fn catalog(&self) -> Catalog {
        self.world.catalog()
    }

    fn explain(&self, query: &Query<'_>) -> Result<Explanation, PlanError> {
        explain(&self.world.load(), query, Instant::now())
    }

    fn totals(&self) -> Totals {
        self.totals.lock().unwrap().clone()
    }

    fn queues(&self) -> Vec<QueueView> {
        Vec::new()
    }
}

impl Operate for Fake {
    fn probe_now(&self, backend: Option<&str>) -> Result<(), OperateError> {
        self.probes.fetch_add(1, Ordering::SeqCst);
        for member in self.world.load().backends() {
            if backend.is_none_or(|name| name == member.spec.name.as_str()) {
                member.live.record_probe(ProbeResult::Passed, Instant::now());
            }
        }
        Ok(())
    }

    fn drain(&self, backend: &str) -> Result<(), OperateError> {
        let world = self.world.load();
        let unknown = || OperateError::UnknownBackend(backend.to_owned());
        world.backend(backend).ok_or_else(unknown)?.live.drain();
        Ok(())
    }

    fn resume(&self, backend: &str) -> Result<(), OperateError> {
        let world = self.world.load();
        let unknown = || OperateError::UnknownBackend(backend.to_owned());
        world.backend(backend).ok_or_else(unknown)?.live.resume(Instant::now());
        Ok(())
    }

    fn purge(&self, scope: &PurgeScope) -> Result<u64, OperateError> {
        self.purged.lock().unwrap().push(scope.clone());
        Ok(3)
    }
}

impl Feed for Fake {
    fn events(&self, after: u64, most: usize) -> Vec<Event> {
        self.ring.events(after, most)
    }
}

/// One plane that answers.
pub struct One(pub Arc<Fake>);

impl Planes for One {
    fn all(&self) -> Vec<PlaneRef> {
        vec![PlaneRef {
            name: "pid-1".to_owned(),
            inspect: Arc::clone(&self.0) as Arc<dyn Inspect>,
            operate: Arc::clone(&self.0) as Arc<dyn Operate>,
            feed: Arc::clone(&self.0) as Arc<dyn Feed>,
            unreachable: None,
        }]
    }
}
