//! How fast a queue moves: what a client is told to wait is worked out from it.

use std::time::{Duration, Instant};

/// After this much waiting, an old grant counts for 37 %.
const DECAY: Duration = Duration::from_secs(10);
/// A rate is never taken over less: the first grant after a millisecond is no thousand per second.
const SPAN_MIN: f64 = 1.0;

/// Grants per second of the time in which anyone waited: a queue that is empty says nothing of how fast it would move.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DrainRate {
    grants: f64,
    /// Seconds.
    span: f64,
    /// Until when time is counted; `None` = nobody waits.
    at: Option<Instant>,
}

impl DrainRate {
    /// Someone waits from now on.
    pub(super) const fn start(&mut self, now: Instant) {
        if self.at.is_none() {
            self.at = Some(now);
        }
    }

    /// Nobody waits any more.
    pub(super) fn stop(&mut self, now: Instant) {
        self.pass(now);
        self.at = None;
    }

    /// Someone got his place.
    pub(super) fn granted(&mut self, now: Instant) {
        self.pass(now);
        self.grants += 1.0;
    }

    /// `None` = there was no grant yet.
    pub(super) fn per_second(mut self, now: Instant) -> Option<f64> {
        self.pass(now);
        (self.grants > 0.0).then(|| self.grants / self.span.max(SPAN_MIN))
    }

    fn pass(&mut self, now: Instant) {
        let Some(at) = self.at else { return };
        let passed = now.saturating_duration_since(at).as_secs_f64();
        let kept = (-passed / DECAY.as_secs_f64()).exp();
        self.grants *= kept;
        self.span = self.span.mul_add(kept, passed);
        self.at = Some(at.max(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_flow_is_measured_and_idle_time_is_not() {
        let start = Instant::now();
        let mut rate = DrainRate::default();
        assert_eq!(rate.per_second(start), None);
        rate.start(start);
        let mut now = start;
        for _ in 0..200 {
            now += Duration::from_millis(250);
            rate.granted(now);
        }
        let measured = rate.per_second(now).unwrap();
        assert!((3.5..4.6).contains(&measured), "{measured}");
        rate.stop(now);
        let later = now + Duration::from_secs(3600);
        assert_eq!(rate.per_second(later), Some(measured));
        rate.start(later);
        let stuck = rate.per_second(later + Duration::from_secs(30)).unwrap();
        assert!(stuck < 0.5, "{stuck}");
    }

    #[test]
    fn the_first_grant_is_no_thousand_per_second() {
        let start = Instant::now();
        let mut rate = DrainRate::default();
        rate.start(start);
        rate.granted(start + Duration::from_millis(1));
        assert!(rate.per_second(start + Duration::from_millis(1)).unwrap() <= 1.0);
    }
}
