//! One live backend: what survives every reload that leaves its connection facts alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::absent::Absent;
use crate::breaker::{
    Breaker, BreakerClass, BreakerState, Permit, Rejected, Transition, breaker_class,
};
use crate::cap::Cap;
use crate::clock::AtomicInstant;
use crate::health::{Health, HealthChange, HealthState, ProbeResult};
use crate::ids::BackendName;
use crate::load::{Load, LoadSignals};
use crate::outcome::{Failure, FailureKind, Outcome};
use crate::spec::{BackendSpec, BreakerSpec, HealthSpec, Kind, Secret, SnapshotSpec};

pub use crate::slot::Slot;

/// Share of its weight with which a ramp begins.
const RAMP_START: f64 = 0.1;

/// A live backend. `A` is what the data plane attaches to it.
#[derive(Debug)]
pub struct Backend<A> {
    /// Its name.
    pub name: BackendName,
    /// The data plane's own: connection pools, prepared addresses, metric handles.
    pub attachment: A,
    facts: Facts,
    breaker: Arc<Breaker>,
    health: Health,
    load: Load,
    absent: Absent,
    cap: Cap,
    last_event: AtomicInstant,
    rest_until: AtomicInstant,
    ramp_from: AtomicInstant,
    drained: AtomicBool,
    unauthorized: AtomicBool,
    slow_start_millis: AtomicU64,
    rest_max_millis: AtomicU64,
}

/// What a connection to a backend depends on. Where any of it changes, the backend is a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    kind: Kind,
    url: String,
    api_key: Option<Secret>,
    ca_pem: Option<Arc<str>>,
}

impl Facts {
    fn of(spec: &BackendSpec) -> Self {
        Self {
            kind: spec.kind,
            url: spec.url.clone(),
            api_key: spec.api_key.clone(),
            ca_pem: spec.ca_pem.clone(),
        }
    }
}

/// The limits that all backends share and that a reload may change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    breaker: BreakerSpec,
    health: HealthSpec,
    rest_max: Duration,
}

impl Settings {
    pub(crate) const fn of(spec: &SnapshotSpec) -> Self {
        Self { breaker: spec.breaker, health: spec.health, rest_max: spec.service.retry_after_max }
    }
}

/// What is known of a backend at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendStatus {
    /// Its health; a drain by the operator and the breaker are considered, `draining` in its spec is not (see
    /// [`crate::snapshot::Member::state`]).
    pub state: HealthState,
    /// Its breaker.
    pub breaker: BreakerState,
    /// Until the breaker's next trial, where it is open.
    pub open_for: Option<Duration>,
    /// Requests under way, streams included.
    pub in_flight: u32,
    /// Decayed peak of the time to the first event; `None` = never measured.
    pub first_event: Option<Duration>,
    /// Share of its weight, below 1 while it ramps up.
    pub ramp: f64,
    /// How long it still asked to be left alone.
    pub resting: Option<Duration>,
    /// Successes and failures in the breaker's window.
    pub recent: (u32, u32),
    /// Whether it refused our credentials the last time that it was asked.
    pub unauthorized: bool,
    /// The last active probe: how long ago, and what it found.
    pub last_probe: Option<(Duration, ProbeResult)>,
    /// What it says of its own load, if that is fresh.
    pub signals: Option<LoadSignals>,
}

impl<A> Backend<A> {
    pub(crate) fn new(spec: &BackendSpec, settings: Settings, attachment: A, now: Instant) -> Self {
        let backend = Self {
            name: spec.name.clone(),
            attachment,
            facts: Facts::of(spec),
            breaker: Arc::new(Breaker::new(settings.breaker, now)),
            health: Health::new(settings.health),
            load: Load::new(now),
            absent: Absent::default(),
            cap: Cap::new(spec.max_in_flight),
            last_event: AtomicInstant::absent(now),
            rest_until: AtomicInstant::absent(now),
            ramp_from: AtomicInstant::absent(now),
            drained: AtomicBool::new(false),
            unauthorized: AtomicBool::new(false),
            slow_start_millis: AtomicU64::new(0),
            rest_max_millis: AtomicU64::new(0),
        };
        backend.set_limits(settings);
        backend.ramp_from.set(now);
        backend
    }

    /// Whether a spec describes a backend with the same connections.
    pub(crate) fn is(&self, spec: &BackendSpec) -> bool {
        self.name == spec.name && self.facts == Facts::of(spec)
    }

    pub(crate) fn configure(&self, spec: &BackendSpec, settings: Settings) {
        self.cap.set(spec.max_in_flight);
        self.breaker.configure(settings.breaker);
        self.health.configure(settings.health);
        self.set_limits(settings);
    }

    fn set_limits(&self, settings: Settings) {
        self.slow_start_millis.store(millis(settings.health.slow_start), Relaxed);
        self.rest_max_millis.store(millis(settings.rest_max), Relaxed);
    }

    // === attempts ===

    /// Requests under way, streams included.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.cap.taken()
    }

    pub(crate) const fn cap(&self) -> &Cap {
        &self.cap
    }

    /// Ends the permit of one attempt; call it exactly once per attempt, as soon as its first content event or its
    /// failure is there. A permit that is dropped instead counts as abandoned.
    pub fn report(
        &self,
        permit: Permit,
        outcome: &Outcome,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<Transition> {
        let mut class = breaker_class(outcome);
        match outcome {
            Outcome::Success => self.worked(now),
            Outcome::Abandoned => {}
            Outcome::Failure(failure) => {
                if failure.kind == FailureKind::FirstEventTimeout {
                    if self.last_event.after(permit.admitted()) {
                        class = BreakerClass::Neutral;
                    }
                    let waited = now.saturating_duration_since(permit.admitted());
                    self.load.sample(waited, now);
                }
                self.note(failure, now);
            }
        }
        self.moved(self.breaker.resolve(permit, class, now, rng), now)
    }

    /// A death or a stall after the commit; its permit was reported as a success at `counted`.
    pub fn report_mid_stream(
        &self,
        failure: &Failure,
        counted: Instant,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<Transition> {
        self.note(failure, now);
        if breaker_class(&Outcome::Failure(failure.clone())) != BreakerClass::Failure {
            return None;
        }
        self.moved(self.breaker.fail_late(counted, now, rng), now)
    }

    fn worked(&self, now: Instant) {
        self.last_event.set(now);
        if self.unauthorized.load(Relaxed) {
            self.unauthorized.store(false, Relaxed);
        }
        if !self.health.is_online() {
            if self.health.is_offline() {
                self.ramp_from.set(now);
            }
            self.health.succeeded();
            self.cap.audience().tell();
        }
    }

    fn note(&self, failure: &Failure, now: Instant) {
        if failure.kind == FailureKind::Unauthorized {
            self.unauthorized.store(true, Relaxed);
        }
        if let Some(asked) = failure.retry_after {
            let most = Duration::from_millis(self.rest_max_millis.load(Relaxed));
            self.rest_until.advance(now + asked.min(most));
        }
    }

    fn moved(&self, transition: Option<Transition>, now: Instant) -> Option<Transition> {
        if transition.is_some_and(|change| change.to == BreakerState::Closed) {
            self.ramp_from.set(now);
        }
        if transition.is_some() {
            self.cap.audience().tell();
        }
        transition
    }

    // === what is observed ===

    /// The time from an attempt's start to its first content event.
    pub fn record_first_event(&self, elapsed: Duration, now: Instant) {
        self.last_event.set(now);
        self.load.sample(elapsed, now);
    }

    /// Any event was relayed; one relaxed atomic store.
    pub fn record_event_activity(&self, now: Instant) {
        self.last_event.set(now);
    }

    /// The end of an active probe.
    pub fn record_probe(&self, result: ProbeResult, now: Instant) -> Option<HealthChange> {
        let (from, to) = self.health.record(result, self.last_event.get(), now);
        if from == HealthState::Offline && to != HealthState::Offline {
            self.ramp_from.set(now);
        }
        let breaker = match result {
            ProbeResult::Passed => self.breaker.probe_passed(now),
            _ => None,
        };
        let changed = from != to || breaker.is_some();
        if changed {
            self.cap.audience().tell();
        }
        changed.then_some(HealthChange { from, to, breaker })
    }

    /// How long until the next probe is due: the health interval while all is well, otherwise `open_probe_min`
    /// doubling to `open_probe_max`; jittered.
    pub fn next_probe(&self, rng: &mut fastrand::Rng) -> Duration {
        self.health.next_probe(self.breaker.is_closed(), rng)
    }

    /// What the backend says of its load.
    pub fn set_load(&self, signals: LoadSignals, now: Instant) {
        self.load.hear(signals, self.in_flight(), now);
    }

    /// The backend said that it does not have this model (404).
    pub fn mark_model_absent(&self, model: &str, now: Instant) {
        self.absent.mark(model, now);
    }

    /// A fresh model list came: what it said it does not have is forgotten.
    pub(crate) fn clear_absent(&self) {
        self.absent.clear();
        self.cap.audience().tell();
    }

    pub(crate) fn is_absent(&self, model: &str, now: Instant) -> bool {
        self.absent.has(model, now)
    }

    /// Whether the backend has a model in memory, by digest where both are known (Ollama's names that share weights
    /// share one entry), else by name; `None` = unknown.
    #[must_use]
    pub fn is_loaded(&self, model: &str, digest: Option<&str>, now: Instant) -> Option<bool> {
        self.load.is_loaded(model, digest, now)
    }

    // === the operator ===

    /// No new work until [`Self::resume`]; running streams finish.
    pub fn drain(&self) {
        self.drained.store(true, Relaxed);
    }

    /// Takes new work again, with a ramp.
    pub fn resume(&self, now: Instant) {
        if self.drained.swap(false, Relaxed) {
            self.ramp_from.set(now);
            self.cap.audience().tell();
        }
    }

    /// Whether [`Self::drain`] is in force.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.drained.load(Relaxed)
    }

    // === what planning asks ===

    pub(crate) const fn breaker(&self) -> &Arc<Breaker> {
        &self.breaker
    }

    pub(crate) fn is_offline(&self) -> bool {
        self.health.is_offline()
    }

    pub(crate) fn resting_until(&self, now: Instant) -> Option<Instant> {
        self.rest_until.get().filter(|until| *until > now)
    }

    /// Share of its weight that counts, 0.1 to 1.
    pub(crate) fn ramp(&self, now: Instant) -> f64 {
        let Some(from) = self.ramp_from.get() else { return 1.0 };
        let span = Duration::from_millis(self.slow_start_millis.load(Relaxed));
        let elapsed = now.saturating_duration_since(from);
        if elapsed >= span {
            // Over: the next one who asks has no sums to do.
            self.ramp_from.clear(from);
            return 1.0;
        }
        (elapsed.as_secs_f64() / span.as_secs_f64()).clamp(RAMP_START, 1.0)
    }

    pub(crate) fn pressure(&self, now: Instant) -> f64 {
        self.load.pressure(self.in_flight(), now)
    }

    pub(crate) fn first_event(&self, now: Instant) -> Option<f64> {
        self.load.first_event(now).map(|span| span.as_secs_f64())
    }

    /// Everything that is known of it.
    #[must_use]
    pub fn status(&self, now: Instant) -> BackendStatus {
        let breaker = self.breaker.state();
        let open_until = match self.breaker.look(now) {
            crate::breaker::Admission::Rejected(Rejected::Open { until }) => Some(until),
            _ => None,
        };
        let unauthorized = self.unauthorized.load(Relaxed);
        let state = match self.health.state() {
            _ if self.is_drained() => HealthState::Draining,
            HealthState::Online if unauthorized || breaker != BreakerState::Closed => {
                HealthState::Degraded
            }
            other => other,
        };
        let since = |at: Instant| now.saturating_duration_since(at);
        BackendStatus {
            state,
            breaker,
            open_for: open_until.map(|until| until.saturating_duration_since(now)),
            in_flight: self.in_flight(),
            first_event: self.load.first_event(now),
            ramp: self.ramp(now),
            resting: self.resting_until(now).map(|until| until.saturating_duration_since(now)),
            recent: self.breaker.counts(now),
            unauthorized,
            last_probe: self.health.last_probe().map(|(at, result)| (since(at), result)),
            signals: self.load.signals(now),
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
