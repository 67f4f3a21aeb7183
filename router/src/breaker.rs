//! The circuit breaker of one backend: a state machine without a clock.
//!
//! While it is closed, admitting and counting a success cost a few relaxed atomic operations; the mutex is taken only on
//! a failure or while the breaker is not closed. Rules (after linkerd2-proxy's `breaker/unified.rs`):
//!
//! - what was admitted before a change of state is a straggler: its end changes nothing;
//! - half-open admits one trial at a time; a trial whose permit is dropped frees the place and says nothing;
//! - a refusal (429, 503) lowers the success rate and fails a trial, but is no failure in a row.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::budget::RetryTicket;
use crate::spec::BreakerSpec;
use crate::window::Tally;

mod class;
mod state;

pub use class::{BreakerClass, breaker_class};
pub use state::{Admission, BreakerState, Rejected, Transition};

/// After a failed trial, no passed probe makes a breaker half-open early for this long.
pub const TRIAL_REST: Duration = Duration::from_secs(10);
/// Spread of the time open, to either side.
const JITTER: f64 = 0.1;

/// The breaker of one backend.
#[derive(Debug)]
pub struct Breaker {
    /// Counts changes between closed and not closed: even while closed.
    generation: AtomicU64,
    tally: Tally,
    core: Mutex<Core>,
}

#[derive(Debug)]
struct Core {
    spec: BreakerSpec,
    state: State,
    /// Times opened without a long rest in between.
    level: u32,
    trial: Option<u64>,
    last_trial: u64,
    closed_at: Option<Instant>,
    last_failure: Option<Instant>,
    trial_failed: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen,
}

impl State {
    const fn name(self) -> BreakerState {
        match self {
            Self::Closed => BreakerState::Closed,
            Self::Open { .. } => BreakerState::Open,
            Self::HalfOpen => BreakerState::HalfOpen,
        }
    }
}

/// The right to one attempt. Dropped without [`Breaker::resolve`] it counts as
/// [`crate::outcome::Outcome::Abandoned`]: a trial's place
/// is free again, nothing else happens.
#[derive(Debug)]
pub struct Permit {
    breaker: Arc<Breaker>,
    generation: u64,
    trial: Option<u64>,
    admitted: Instant,
    /// A share of the retry budget, given back with the permit.
    pub(crate) ticket: Option<RetryTicket>,
}

impl Permit {
    /// When it was given.
    #[must_use]
    pub const fn admitted(&self) -> Instant {
        self.admitted
    }

    /// Whether it is the one trial of a breaker that is not closed.
    #[must_use]
    pub const fn is_trial(&self) -> bool {
        self.trial.is_some()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(trial) = self.trial {
            self.breaker.free(trial);
        }
    }
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(spec: BreakerSpec, now: Instant) -> Self {
        Self {
            generation: AtomicU64::new(0),
            tally: Tally::new(spec.window, now),
            core: Mutex::new(Core {
                spec,
                state: State::Closed,
                level: 0,
                trial: None,
                last_trial: 0,
                closed_at: None,
                last_failure: None,
                trial_failed: None,
            }),
        }
    }

    /// Other limits from now on.
    pub fn configure(&self, spec: BreakerSpec) {
        self.tally.set_window(spec.window);
        self.lock().spec = spec;
    }

    /// Whether it is closed; one atomic load.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        is_closed(self.generation.load(Ordering::Acquire))
    }

    /// The state, without regard to whether an open breaker's time is over.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        if self.is_closed() { BreakerState::Closed } else { self.lock().state.name() }
    }

    /// Successes and failures of the last window.
    #[must_use]
    pub fn counts(&self, now: Instant) -> (u32, u32) {
        self.tally.counts(now)
    }

    /// What [`Self::admit`] would say now; changes nothing.
    #[must_use]
    pub fn look(&self, now: Instant) -> Admission {
        if self.is_closed() { Admission::Free } else { self.lock().look(now) }
    }

    /// When an attempt last failed, as long as the breaker remembers.
    #[must_use]
    pub fn last_failure(&self) -> Option<Instant> {
        self.lock().last_failure
    }

    /// Admits one attempt.
    ///
    /// # Errors
    /// [`Rejected`] while it is open, or half-open with a trial under way.
    pub fn admit(self: &Arc<Self>, now: Instant) -> Result<Permit, Rejected> {
        let generation = self.generation.load(Ordering::Acquire);
        if is_closed(generation) {
            return Ok(self.permit(generation, None, now));
        }
        let mut core = self.lock();
        match core.look(now) {
            Admission::Rejected(rejected) => Err(rejected),
            // Closed in between.
            Admission::Free => Ok(self.permit(self.generation.load(Ordering::Acquire), None, now)),
            Admission::Trial => {
                core.state = State::HalfOpen;
                Ok(self.trial(&mut core, now))
            }
        }
    }

    /// Admits one trial whatever the state: the panic rule's.
    ///
    /// # Errors
    /// [`Rejected::TrialUnderWay`].
    pub fn admit_in_panic(self: &Arc<Self>, now: Instant) -> Result<Permit, Rejected> {
        let mut core = self.lock();
        if core.trial.is_some() {
            return Err(Rejected::TrialUnderWay);
        }
        Ok(self.trial(&mut core, now))
    }

    /// The end of an attempt.
    pub fn resolve(
        &self,
        mut permit: Permit,
        class: BreakerClass,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<Transition> {
        if let Some(trial) = permit.trial.take() {
            return self.resolve_trial(trial, permit.generation, class, now, rng);
        }
        match class {
            BreakerClass::Neutral => None,
            BreakerClass::Success => {
                if self.generation.load(Ordering::Relaxed) == permit.generation {
                    self.tally.success(now);
                }
                None
            }
            BreakerClass::Failure | BreakerClass::Refusal => {
                let mut core = self.lock();
                core.last_failure = Some(now);
                if self.generation.load(Ordering::Relaxed) != permit.generation {
                    return None;
                }
                self.count(&mut core, class, now, rng)
            }
        }
    }

    /// A backend failed after its attempt had counted as a success, at `counted`: that success is taken back. One from
    /// before the breaker last closed is a straggler.
    pub fn fail_late(
        &self,
        counted: Instant,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<Transition> {
        let mut core = self.lock();
        core.last_failure = Some(now);
        if core.state != State::Closed || core.closed_at.is_some_and(|closed| counted < closed) {
            return None;
        }
        self.tally.revoke_success(now);
        self.count(&mut core, BreakerClass::Failure, now, rng)
    }

    /// A probe was passed: an open breaker is half-open early, unless a trial failed within [`TRIAL_REST`].
    pub fn probe_passed(&self, now: Instant) -> Option<Transition> {
        if self.is_closed() {
            return None;
        }
        let mut core = self.lock();
        let resting = |at: Instant| now.saturating_duration_since(at) < TRIAL_REST;
        if !matches!(core.state, State::Open { .. }) || core.trial_failed.is_some_and(resting) {
            return None;
        }
        core.state = State::HalfOpen;
        Some(Transition { from: BreakerState::Open, to: BreakerState::HalfOpen, open_for: None })
    }

    fn permit(self: &Arc<Self>, generation: u64, trial: Option<u64>, now: Instant) -> Permit {
        Permit { breaker: Arc::clone(self), generation, trial, admitted: now, ticket: None }
    }

    fn trial(self: &Arc<Self>, core: &mut Core, now: Instant) -> Permit {
        core.last_trial += 1;
        core.trial = Some(core.last_trial);
        self.permit(self.generation.load(Ordering::Relaxed), core.trial, now)
    }

    fn free(&self, trial: u64) {
        let mut core = self.lock();
        if core.trial == Some(trial) {
            core.trial = None;
        }
    }

    fn resolve_trial(
        &self,
        trial: u64,
        generation: u64,
        class: BreakerClass,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<Transition> {
        let mut core = self.lock();
        if core.trial == Some(trial) {
            core.trial = None;
        }
        match class {
            BreakerClass::Neutral => None,
            BreakerClass::Success => self.close(&mut core, now),
            BreakerClass::Failure | BreakerClass::Refusal => {
                core.last_failure = Some(now);
                match core.state {
                    State::Closed if self.generation.load(Ordering::Relaxed) == generation => {
                        self.count(&mut core, class, now, rng)
                    }
                    // A panic trial into an open breaker: it goes on as it was.
                    State::Closed | State::Open { .. } => None,
                    State::HalfOpen => {
                        core.trial_failed = Some(now);
                        if class == BreakerClass::Failure {
                            core.level = core.level.saturating_add(1);
                        }
                        Some(core.reopen(BreakerState::HalfOpen, now, rng))
                    }
                }
            }
        }
    }

    /// Counts a failure in the closed state, and opens when it is one too many.
    fn count(
        &self,
        core: &mut Core,
        class: BreakerClass,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<Transition> {
        let in_a_row = if class == BreakerClass::Failure {
            self.tally.failure(now)
        } else {
            self.tally.refusal(now);
            0
        };
        let (successes, failures) = self.tally.counts(now);
        let total = successes.saturating_add(failures);
        let low = total >= core.spec.min_requests
            && f64::from(successes) < core.spec.success_rate * f64::from(total);
        if in_a_row < core.spec.consecutive_failures.max(1) && !low {
            return None;
        }
        core.relapse(now);
        self.generation.fetch_add(1, Ordering::AcqRel);
        Some(core.reopen(BreakerState::Closed, now, rng))
    }

    fn close(&self, core: &mut Core, now: Instant) -> Option<Transition> {
        let from = core.state.name();
        if from == BreakerState::Closed {
            self.tally.success(now);
            return None;
        }
        core.state = State::Closed;
        core.closed_at = Some(now);
        self.tally.clear();
        self.tally.success(now);
        self.generation.fetch_add(1, Ordering::AcqRel);
        Some(Transition { from, to: BreakerState::Closed, open_for: None })
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    fn look(&self, now: Instant) -> Admission {
        match self.state {
            State::Closed => Admission::Free,
            State::Open { until } if now < until => Admission::Rejected(Rejected::Open { until }),
            State::Open { .. } | State::HalfOpen if self.trial.is_some() => {
                Admission::Rejected(Rejected::TrialUnderWay)
            }
            State::Open { .. } | State::HalfOpen => Admission::Trial,
        }
    }

    /// From closed to open: soon after it closed, the trial that closed it counts as failed, and the time open doubles.
    /// This is what keeps a flapping backend from flapping our traffic.
    fn relapse(&mut self, now: Instant) {
        let closed_for = self.closed_at.map(|at| now.saturating_duration_since(at));
        if closed_for.is_some_and(|span| span < TRIAL_REST) {
            self.trial_failed = Some(now);
        }
        self.level = match closed_for {
            Some(span) if span < 2 * self.spec.open_min => self.level.saturating_add(1),
            _ => 0,
        };
    }

    fn reopen(&mut self, from: BreakerState, now: Instant, rng: &mut fastrand::Rng) -> Transition {
        let factor = 1_u32.checked_shl(self.level).unwrap_or(u32::MAX);
        let span = self.spec.open_min.saturating_mul(factor).min(self.spec.open_max);
        let jitter = 1.0 - JITTER + 2.0 * JITTER * rng.f64();
        let open_for = span.mul_f64(jitter).min(self.spec.open_max);
        self.state = State::Open { until: now + open_for };
        Transition { from, to: BreakerState::Open, open_for: Some(open_for) }
    }
}

const fn is_closed(generation: u64) -> bool {
    generation.is_multiple_of(2)
}

#[cfg(test)]
mod tests;
