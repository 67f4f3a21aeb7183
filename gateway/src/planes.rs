//! The data plane as others may see and operate it: the router's small traits over the current snapshot.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use router::explain::{Explanation, explain};
use router::plan::{PlanError, Query};
use router::planes::{
    BackendView, Event, EventKind, Feed, Inspect, Operate, OperateError, ProcessView, Publish,
    PurgeScope, QueueView, Totals,
};
use router::snapshot::{BuildError, Member};
use router::spec::{Catalog, SnapshotSpec};

use crate::plane::{Link, Plane};
use crate::run::DataPlane;
use crate::shutdown::Phase;

impl Inspect for Plane {
    fn version(&self) -> u64 {
        self.world.load().version()
    }

    fn process(&self) -> ProcessView {
        ProcessView {
            pid: std::process::id(),
            revision: self.world.load().spec().revision,
            connections: self.connections(),
            buffered_bytes: self.buffered_bytes(),
            stopping: self.shutdown.phase() > Phase::Running,
            refusal: self
                .reloads
                .refusal()
                .map(|refusal| (refusal.at, refusal.diagnostics.to_string())),
        }
    }

    fn backends(&self) -> Vec<BackendView> {
        let now = Instant::now();
        let view = |member: &Member<Arc<Link>>| BackendView {
            name: member.spec.name.clone(),
            kind: member.spec.kind,
            region: member.spec.region.clone(),
            state: member.state(now),
            status: member.live.status(now),
            look: member.live.attachment.looked(),
        };
        self.world.load().backends().iter().map(view).collect()
    }

    fn catalog(&self) -> Catalog {
        self.world.catalog()
    }

    fn explain(&self, query: &Query<'_>) -> Result<Explanation, PlanError> {
        explain(&self.world.load(), query, Instant::now())
    }

    fn totals(&self) -> Totals {
        Totals { backends: self.tallies.backends.read(), models: self.tallies.models.read() }
    }

    fn queues(&self) -> Vec<QueueView> {
        self.lines.views(&self.world.load())
    }
}

impl Operate for Plane {
    fn probe_now(&self, backend: Option<&str>) -> Result<(), OperateError> {
        if let Some(name) = backend {
            self.member(name)?.live.attachment.look_now();
            return Ok(());
        }
        for member in self.world.load().backends() {
            member.live.attachment.look_now();
        }
        Ok(())
    }

    fn drain(&self, backend: &str) -> Result<(), OperateError> {
        let member = self.member(backend)?;
        self.watched(&member, || member.live.drain());
        Ok(())
    }

    fn resume(&self, backend: &str) -> Result<(), OperateError> {
        let member = self.member(backend)?;
        self.watched(&member, || member.live.resume(Instant::now()));
        Ok(())
    }

    fn purge(&self, scope: &PurgeScope) -> Result<u64, OperateError> {
        Ok(self.cache.purge(scope))
    }
}

impl Feed for Plane {
    fn events(&self, after: u64, most: usize) -> Vec<Event> {
        self.events.events(after, most)
    }
}

impl Publish for DataPlane {
    fn publish(&self, spec: SnapshotSpec) -> Result<u64, Vec<BuildError>> {
        self.swap(spec)
    }
}

impl Plane {
    /// What an operator does to a backend is an event if it changes its state.
    fn watched(&self, member: &Member<Arc<Link>>, act: impl FnOnce()) {
        let from = member.state(Instant::now());
        act();
        let to = member.state(Instant::now());
        if from != to {
            let backend = member.spec.name.clone();
            self.events.push(EventKind::Health { backend, from, to }, SystemTime::now());
        }
    }

    fn member(&self, name: &str) -> Result<Member<Arc<Link>>, OperateError> {
        let world = self.world.load();
        let unknown = || OperateError::UnknownBackend(name.to_owned());
        world.backend(name).cloned().ok_or_else(unknown)
    }
}
