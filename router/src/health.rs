//! Whether a backend is there at all: active probes with thresholds both ways, and when to look again.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::breaker::Transition;
use crate::spec::HealthSpec;

/// Spread of the time between probes, to either side.
const JITTER: f64 = 0.2;

/// What a backend is worth right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HealthState {
    /// It answers.
    Online,
    /// It answers, but something is wrong: our credentials, its breaker, a failed probe.
    Degraded,
    /// It does not answer, or it sleeps.
    Offline,
    /// It gets no new work.
    Draining,
    /// Not heard of yet; it may be tried.
    Unknown,
}

impl HealthState {
    /// Every state, for metrics.
    pub const ALL: [Self; 5] =
        [Self::Online, Self::Degraded, Self::Offline, Self::Draining, Self::Unknown];

    /// The word in metrics, logs and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Degraded => "degraded",
            Self::Offline => "offline",
            Self::Draining => "draining",
            Self::Unknown => "unknown",
        }
    }
}

/// What one active probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProbeResult {
    /// It is well.
    Passed,
    /// It answers, but refuses our credentials (401, 403).
    Unauthorized,
    /// No answer in time. Counts only if the backend gave no event to anyone meanwhile: busy is not dead.
    TimedOut,
    /// No connection, or an answer that says that it is not well.
    Failed,
    /// It is well and asleep (`vllm:engine_sleep_state`): offline at once, until it wakes.
    Asleep,
}

/// What a probe changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthChange {
    /// Before.
    pub from: HealthState,
    /// After; the same as before where only the breaker changed.
    pub to: HealthState,
    /// An open breaker that is half-open early.
    pub breaker: Option<Transition>,
}

/// The health of one backend.
#[derive(Debug)]
pub(crate) struct Health {
    /// Copies of the state for the hot path.
    offline: AtomicBool,
    online: AtomicBool,
    core: Mutex<Core>,
}

#[derive(Debug)]
struct Core {
    spec: HealthSpec,
    state: HealthState,
    asleep: bool,
    passed_in_a_row: u32,
    failed_in_a_row: u32,
    /// Looks since the breaker was last closed.
    unclosed_looks: u32,
    last_probe: Option<(Instant, ProbeResult)>,
}

impl Health {
    pub(crate) const fn new(spec: HealthSpec) -> Self {
        Self {
            offline: AtomicBool::new(false),
            online: AtomicBool::new(false),
            core: Mutex::new(Core {
                spec,
                state: HealthState::Unknown,
                asleep: false,
                passed_in_a_row: 0,
                failed_in_a_row: 0,
                unclosed_looks: 0,
                last_probe: None,
            }),
        }
    }

    pub(crate) fn configure(&self, spec: HealthSpec) {
        self.lock().spec = spec;
    }

    pub(crate) fn is_offline(&self) -> bool {
        self.offline.load(Relaxed)
    }

    pub(crate) fn is_online(&self) -> bool {
        self.online.load(Relaxed)
    }

    pub(crate) fn state(&self) -> HealthState {
        self.lock().state
    }

    pub(crate) fn last_probe(&self) -> Option<(Instant, ProbeResult)> {
        self.lock().last_probe
    }

    /// Takes note of a probe's end. A probe that timed out while the backend gave events to someone counts for nothing.
    pub(crate) fn record(
        &self,
        result: ProbeResult,
        last_event: Option<Instant>,
        now: Instant,
    ) -> (HealthState, HealthState) {
        let mut core = self.lock();
        let heard =
            last_event.is_some_and(|at| now.saturating_duration_since(at) <= core.spec.timeout);
        core.last_probe = Some((now, result));
        let from = core.state;
        let to = core.judge(result, heard);
        core.state = to;
        self.show(to);
        (from, to)
    }

    /// An attempt succeeded: better evidence than any probe.
    pub(crate) fn succeeded(&self) {
        let mut core = self.lock();
        core.state = HealthState::Online;
        core.asleep = false;
        core.failed_in_a_row = 0;
        self.show(HealthState::Online);
    }

    fn show(&self, state: HealthState) {
        self.offline.store(state == HealthState::Offline, Relaxed);
        self.online.store(state == HealthState::Online, Relaxed);
    }

    /// How long until the next probe: the interval while all is well, otherwise from `open_probe_min` doubling to
    /// `open_probe_max` with each failed probe, and with each one at all while the breaker is not closed: what passes its
    /// probes and fails its requests is not asked every second for ever.
    pub(crate) fn next_probe(&self, breaker_closed: bool, rng: &mut fastrand::Rng) -> Duration {
        let mut core = self.lock();
        core.unclosed_looks =
            if breaker_closed { 0 } else { core.unclosed_looks.saturating_add(1) };
        let HealthSpec { interval, open_probe_min, open_probe_max, .. } = core.spec;
        let well = matches!(core.state, HealthState::Online | HealthState::Degraded);
        let span = if breaker_closed && well && core.failed_in_a_row == 0 {
            interval
        } else {
            let looks = core.failed_in_a_row.max(core.unclosed_looks);
            let factor = 1_u32.checked_shl(looks.saturating_sub(1)).unwrap_or(u32::MAX);
            open_probe_min.saturating_mul(factor).min(open_probe_max)
        };
        span.mul_f64(1.0 - JITTER + 2.0 * JITTER * rng.f64())
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    fn judge(&mut self, result: ProbeResult, heard: bool) -> HealthState {
        match result {
            ProbeResult::TimedOut if heard => self.state,
            ProbeResult::Passed | ProbeResult::Unauthorized => {
                self.failed_in_a_row = 0;
                self.passed_in_a_row = self.passed_in_a_row.saturating_add(1);
                let back = self.passed_in_a_row >= self.spec.up || self.asleep;
                if self.state == HealthState::Offline && !back {
                    return HealthState::Offline;
                }
                self.asleep = false;
                match result {
                    ProbeResult::Passed => HealthState::Online,
                    _ => HealthState::Degraded,
                }
            }
            ProbeResult::Asleep => {
                self.asleep = true;
                self.passed_in_a_row = 0;
                // Only for the time until the next look.
                self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
                HealthState::Offline
            }
            ProbeResult::TimedOut | ProbeResult::Failed => {
                self.passed_in_a_row = 0;
                self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
                match self.state {
                    HealthState::Offline => HealthState::Offline,
                    _ if self.failed_in_a_row >= self.spec.down => HealthState::Offline,
                    HealthState::Online | HealthState::Degraded => HealthState::Degraded,
                    other => other,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(health: &Health, results: &[ProbeResult]) -> Vec<HealthState> {
        let now = Instant::now();
        let step = |result: &ProbeResult| {
            health.record(*result, None, now);
            health.state()
        };
        results.iter().map(step).collect()
    }

    #[test]
    fn thresholds_hold_both_ways() {
        use HealthState::{Degraded, Offline, Online};
        use ProbeResult::{Failed, Passed};
        let health = Health::new(HealthSpec::default());
        let seen = run(&health, &[Passed, Failed, Failed, Failed, Passed, Failed, Passed, Passed]);
        assert_eq!(seen, [Online, Degraded, Degraded, Offline, Offline, Offline, Offline, Online]);
    }

    #[test]
    fn an_unknown_backend_is_online_at_its_first_passed_probe() {
        let health = Health::new(HealthSpec::default());
        assert_eq!(health.state(), HealthState::Unknown);
        let change = health.record(ProbeResult::Passed, None, Instant::now());
        assert_eq!(change, (HealthState::Unknown, HealthState::Online));
    }

    #[test]
    fn a_busy_backend_is_not_dead() {
        let health = Health::new(HealthSpec::default());
        let now = Instant::now();
        for _ in 0..10 {
            health.record(ProbeResult::TimedOut, Some(now), now + Duration::from_secs(4));
        }
        assert!(!health.is_offline());
        run(&health, &[ProbeResult::TimedOut; 3]);
        assert!(health.is_offline());
    }

    #[test]
    fn sleep_takes_effect_at_once_and_so_does_waking() {
        let health = Health::new(HealthSpec::default());
        let seen = run(&health, &[ProbeResult::Passed, ProbeResult::Asleep, ProbeResult::Passed]);
        assert_eq!(seen, [HealthState::Online, HealthState::Offline, HealthState::Online]);
    }

    #[test]
    fn traffic_is_better_evidence_than_probes() {
        let health = Health::new(HealthSpec::default());
        run(&health, &[ProbeResult::Failed; 3]);
        health.succeeded();
        assert!(health.is_online() && !health.is_offline());
    }

    #[test]
    fn the_prober_backs_off_from_1_to_30_seconds() {
        let health = Health::new(HealthSpec::default());
        let mut rng = fastrand::Rng::with_seed(1);
        let mut waits = Vec::new();
        for _ in 0..8 {
            health.record(ProbeResult::Failed, None, Instant::now());
            waits.push(health.next_probe(false, &mut rng).as_secs_f64());
        }
        for (wait, about) in waits.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]) {
            assert!((about * 0.8..=about * 1.2).contains(wait), "{wait} is not about {about}");
        }
        run(&health, &[ProbeResult::Passed, ProbeResult::Passed]);
        assert!(health.next_probe(true, &mut rng) >= Duration::from_secs(24));
        assert!(health.next_probe(false, &mut rng) <= Duration::from_millis(1200));
    }

    #[test]
    fn probes_that_pass_before_an_open_breaker_back_off_too() {
        let health = Health::new(HealthSpec::default());
        let mut rng = fastrand::Rng::with_seed(1);
        for about in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            run(&health, &[ProbeResult::Passed]);
            let wait = health.next_probe(false, &mut rng).as_secs_f64();
            assert!((about * 0.8..=about * 1.2).contains(&wait), "{wait} is not about {about}");
        }
        // Closed in between, it is worth a quick look again.
        health.next_probe(true, &mut rng);
        assert!(health.next_probe(false, &mut rng) <= Duration::from_millis(1200));
    }
}
