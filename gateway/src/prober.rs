//! Looks after every backend on a runtime and a thread of its own: health, models, load. Decides nothing: what it finds
//! goes to the router's live backend.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use std::{io, thread};

use router::BackendName;
use router::breaker::BreakerState;
use router::health::{HealthState, ProbeResult};
use router::planes::{EventKind, Look};
use router::snapshot::Member;
use router::spec::{BackendSpec, ProbeMode, SnapshotSpec};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::plane::{Link, Plane};
use crate::probes::{self, Checked, Load};

/// Between two looks at which backends there are, and at whether one is in trouble.
const LOOK: Duration = Duration::from_millis(250);
/// Until a backend that has given no model list yet is asked again.
const UNLISTED_RETRY: Duration = Duration::from_secs(1);
/// Between two looks at a backend's load, give or take a fifth.
pub(crate) const LOAD_INTERVAL: Duration = Duration::from_secs(2);

/// Starts the thread that looks after all backends.
///
/// # Errors
/// When its thread or runtime cannot be made.
pub(crate) fn start(plane: Arc<Plane>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("prober".to_owned()).spawn(move || {
        runtime.block_on(supervise(plane));
    })?;
    Ok(())
}

/// Keeps one task per backend; a backend whose connection facts changed gets a new one.
async fn supervise(plane: Arc<Plane>) {
    let mut watched: HashMap<BackendName, (usize, JoinHandle<()>)> = HashMap::new();
    let mut ticks = tokio::time::interval(LOOK);
    let mut version = None;
    loop {
        ticks.tick().await;
        let world = plane.world.load();
        if version.replace(world.version()) == Some(world.version()) {
            continue;
        }
        watched.retain(|name, (identity, task)| {
            let same = world.backend(name.as_str()).is_some_and(|m| id(m) == *identity);
            if !same {
                task.abort();
            }
            same
        });
        for member in world.backends() {
            watched.entry(member.spec.name.clone()).or_insert_with(|| {
                let watch = Watch::new(Arc::clone(&plane), member.spec.name.clone());
                (id(member), tokio::spawn(watch.run()))
            });
        }
    }
}

fn id(member: &Member<Arc<Link>>) -> usize {
    Arc::as_ptr(&member.live).addr()
}

/// When each look at a backend is due.
struct Due {
    health: Instant,
    list: Instant,
    load: Instant,
}

impl Due {
    fn now() -> Self {
        let now = Instant::now();
        Self { health: now, list: now, load: now }
    }

    /// Of the looks that are taken at such a backend, the next one: one that is never taken would be due for ever.
    fn next(&self, spec: &BackendSpec) -> Instant {
        let health = (spec.probe != ProbeMode::Off).then_some(self.health);
        let list = spec.models.is_none().then_some(self.list);
        [health, list].into_iter().flatten().fold(self.load, Instant::min)
    }
}

/// One backend's watch.
struct Watch {
    plane: Arc<Plane>,
    name: BackendName,
    rng: fastrand::Rng,
    due: Due,
    /// Something was wrong at the last look.
    troubled: bool,
    /// What the last look at the load found out about sleep.
    asleep: bool,
    /// Why there was no list at the last look; said once, not at every look.
    unlisted: Option<String>,
}

impl Watch {
    fn new(plane: Arc<Plane>, name: BackendName) -> Self {
        let rng = fastrand::Rng::new();
        Self { plane, name, rng, due: Due::now(), troubled: false, asleep: false, unlisted: None }
    }

    /// Looks when it is time, until its task is aborted.
    async fn run(mut self) {
        loop {
            let world = self.plane.world.load();
            let Some(member) = world.backend(self.name.as_str()).cloned() else { return };
            let spec = Arc::clone(world.spec());
            drop(world);
            // A shorter interval holds from now on, not after the last long one.
            self.due.list = self.due.list.min(Instant::now() + spec.discovery.interval);
            self.hurry(&member);
            // Health first: the others' time-outs would delay what matters most.
            if Instant::now() >= self.due.health && member.spec.probe != ProbeMode::Off {
                self.check(&member, &spec).await;
            }
            if Instant::now() >= self.due.list && member.spec.models.is_none() {
                self.discover(&member, &spec).await;
            }
            if Instant::now() >= self.due.load {
                self.weigh(&member, &spec).await;
            }
            let next = self.due.next(&member.spec);
            tokio::select! {
                () = tokio::time::sleep_until(next.min(Instant::now() + LOOK)) => {}
                () = member.live.attachment.nudged() => self.due.load = Instant::now(),
                () = member.live.attachment.look_asked() => self.due = Due::now(),
            }
        }
    }

    /// A backend that got into trouble since the last look is probed soon, not at the next regular time.
    fn hurry(&mut self, member: &Member<Arc<Link>>) {
        let status = member.live.status(Instant::now().into_std());
        let troubled =
            status.breaker != BreakerState::Closed || status.state == HealthState::Offline;
        if troubled && !self.troubled {
            let soon = Instant::now() + member.live.next_probe(&mut self.rng);
            self.due.health = self.due.health.min(soon);
        }
        self.troubled = troubled;
    }

    async fn check(&mut self, member: &Member<Arc<Link>>, spec: &SnapshotSpec) {
        let begun = Instant::now();
        let Checked { mut result, error } = probes::health(member, spec.health.timeout).await;
        if result == ProbeResult::Passed && self.asleep {
            result = ProbeResult::Asleep;
        }
        let live = &member.live;
        let reason = error.as_deref();
        let look = Look { took: begun.elapsed(), error: error.clone() };
        let before = live.attachment.note_look(look);
        if let Some(change) = live.record_probe(result, Instant::now().into_std()) {
            live.attachment.moved(&self.name, change.breaker);
            if change.from != change.to {
                let (from, to) = (change.from, change.to);
                self.happened(EventKind::Health { backend: self.name.clone(), from, to });
            }
            let (from, to) = (change.from.as_str(), change.to.as_str());
            tracing::info!(backend = %self.name, from, to, ?result, reason, "health");
            if change.from == HealthState::Offline {
                self.due.list = Instant::now();
            }
        } else if error.is_some() && before.is_none_or(|before| before.error != error) {
            // Once per reason, not once per probe.
            tracing::info!(backend = %self.name, ?result, reason, "probe");
        }
        self.due.health = Instant::now() + live.next_probe(&mut self.rng);
    }

    async fn discover(&mut self, member: &Member<Arc<Link>>, spec: &SnapshotSpec) {
        let wait = match probes::models(member, spec.health.timeout).await {
            Ok(models) => {
                let (now, found) = (Instant::now().into_std(), models.len());
                if self.plane.world.set_catalog(&self.name, models.into(), now) {
                    tracing::info!(backend = %self.name, models = found, "models discovered");
                    let backend = self.name.clone();
                    self.happened(EventKind::Discovered { backend, models: found });
                }
                self.unlisted = None;
                spec.discovery.interval
            }
            Err(error) => {
                let error = error.to_string();
                if self.unlisted.as_ref() != Some(&error) {
                    tracing::info!(backend = %self.name, error, "no model list");
                    self.unlisted = Some(error);
                }
                UNLISTED_RETRY.min(spec.discovery.interval)
            }
        };
        self.due.list = Instant::now() + wait;
    }

    fn happened(&self, kind: EventKind) {
        self.plane.events.push(kind, SystemTime::now());
    }

    async fn weigh(&mut self, member: &Member<Arc<Link>>, spec: &SnapshotSpec) {
        let wait = match probes::load(member, spec.health.timeout).await {
            Load::Said { signals, asleep } => {
                member.live.set_load(signals, Instant::now().into_std());
                if asleep != self.asleep {
                    self.asleep = asleep;
                    self.due.health = Instant::now();
                }
                LOAD_INTERVAL.mul_f64(self.rng.f64().mul_add(0.4, 0.8))
            }
            // It may learn to, for instance by an upgrade; not soon. Whoever slept here is gone.
            Load::NotOffered => {
                self.asleep = false;
                spec.health.interval
            }
            Load::Silent => LOAD_INTERVAL,
        };
        self.due.load = Instant::now() + wait;
    }
}

#[cfg(test)]
mod tests {
    use router::RegionName;
    use router::spec::Kind;

    use super::*;

    #[test]
    fn what_is_never_looked_at_is_never_due() {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let due = Due { health: now, list: after(1), load: after(2) };
        let name = BackendName::try_from("b").unwrap();
        let home = RegionName::try_from("eu").unwrap();
        let mut spec = BackendSpec::new(name, Kind::Vllm, "http://b.test".to_owned(), home);
        assert_eq!(due.next(&spec), now);
        spec.probe = ProbeMode::Off;
        assert_eq!(due.next(&spec), after(1));
        spec.models = Some(Vec::new());
        assert_eq!(due.next(&spec), after(2));
    }
}
