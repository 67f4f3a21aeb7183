//! Rate limits as one number: the generic cell rate algorithm (ITU-T I.371), on whole microseconds.
//!
//! A bucket is its *theoretical arrival time*: the moment at which it would be full again. A charge moves it into the
//! future by what it costs in time; it is allowed as long as it stays within the tolerance, which is the burst in time.
//! So in any window of length t at most `burst + rate * t` units are charged. Redis runs the same arithmetic on the same
//! integers: all of them stay below 2^53, which is where the numbers of its scripts end.

use std::time::Duration;

/// Longest span that a cost or a tolerance may be, in microseconds: some 35 years.
const SPAN_MAX: u64 = 1 << 50;
/// Intervals from here on are rounded up to whole microseconds per unit, which then costs at most a thousandth.
const COARSE: u64 = 1000;

/// So many units in a period, some of which may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    units: u64,
    /// Microseconds.
    period: u64,
    burst: u64,
    /// Microseconds.
    tolerance: u64,
}

/// What became of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// It was made; else nothing has changed.
    pub allowed: bool,
    /// The bucket after it.
    pub tat: u64,
    /// Microseconds until the same charge would be allowed; 0 where it was.
    pub retry_after: u64,
}

impl Quota {
    /// `units` per `period`, of which `burst` at once; none of the three may be zero, and zero counts as one.
    #[must_use]
    pub fn new(units: u64, period: Duration, burst: u64) -> Self {
        let period = u64::try_from(period.as_micros()).unwrap_or(SPAN_MAX).clamp(1, SPAN_MAX);
        let mut quota = Self { units: units.max(1), period, burst: burst.max(1), tolerance: 0 };
        quota.tolerance = quota.cost(quota.burst);
        quota
    }

    /// What is left of it for each of `n` who share it without knowing of each other. The burst is never less than one.
    #[must_use]
    pub fn share(self, n: u32) -> Self {
        let n = u64::from(n.max(1));
        let period = self.period.saturating_mul(n).min(SPAN_MAX);
        // A burst of a part of the units at the same part of the rate takes the same time.
        let mut share = Self { period, burst: (self.burst / n).max(1), ..self };
        share.tolerance = self.tolerance.max(share.cost(1));
        share
    }

    /// What so many units cost, in microseconds; rounded up, so that no bound is exceeded.
    #[must_use]
    pub fn cost(&self, units: u64) -> u64 {
        let each = self.period.div_ceil(self.units);
        let cost = if each >= COARSE {
            u128::from(units) * u128::from(each)
        } else {
            (u128::from(units) * u128::from(self.period)).div_ceil(u128::from(self.units))
        };
        u64::try_from(cost).unwrap_or(SPAN_MAX).min(SPAN_MAX)
    }

    /// Whole units that so many microseconds are worth.
    #[must_use]
    pub fn worth(&self, span: u64) -> u64 {
        let each = self.period.div_ceil(self.units);
        if each >= COARSE {
            return span / each;
        }
        let units = u128::from(span) * u128::from(self.units) / u128::from(self.period);
        u64::try_from(units).unwrap_or(u64::MAX)
    }

    /// Units per period.
    #[must_use]
    pub const fn units(&self) -> u64 {
        self.units
    }

    /// The period.
    #[must_use]
    pub const fn period(&self) -> Duration {
        Duration::from_micros(self.period)
    }

    /// Units that may come at once.
    #[must_use]
    pub const fn burst(&self) -> u64 {
        self.burst
    }

    /// How far ahead of now a bucket may be, in microseconds.
    #[must_use]
    pub const fn tolerance(&self) -> u64 {
        self.tolerance
    }
}

/// The bucket as it counts now: one that is full needs no memory of how long, and no debt is more than a second burst,
/// whatever a store may say.
#[must_use]
pub fn current(tat: u64, now: u64, tolerance: u64) -> u64 {
    tat.clamp(now, now.saturating_add(tolerance.saturating_mul(2)))
}

/// Charges `cost` at the moment `now`, both in microseconds, if it stays within `tolerance`.
#[must_use]
pub fn check(tat: u64, now: u64, cost: u64, tolerance: u64) -> Decision {
    let tat = current(tat, now, tolerance);
    let ahead = tat - now + cost;
    if ahead > tolerance {
        return Decision { allowed: false, tat, retry_after: ahead - tolerance };
    }
    Decision { allowed: true, tat: tat + cost, retry_after: 0 }
}

/// Corrects an earlier charge by what it was too little (positive) or too much (negative), in microseconds. What comes back
/// to a full bucket is lost, and what was used beyond the charge is owed.
#[must_use]
pub fn settle(tat: u64, now: u64, delta: i64, tolerance: u64) -> u64 {
    current(current(tat, now, tolerance).saturating_add_signed(delta), now, tolerance)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    /// A moment such as a store's clock gives.
    const NOW: u64 = 1_800_000_000_000_000;

    #[test]
    fn a_burst_comes_at_once_and_then_one_at_a_time() {
        let quota = Quota::new(300, MINUTE, 10);
        let mut tat = 0;
        for now in [NOW, NOW + 200_000] {
            let expected = if now == NOW { 10 } else { 1 };
            let mut admitted = 0;
            loop {
                let decision = check(tat, now, quota.cost(1), quota.tolerance());
                tat = decision.tat;
                if !decision.allowed {
                    assert_eq!(decision.retry_after, 200_000);
                    break;
                }
                admitted += 1;
            }
            assert_eq!(admitted, expected);
        }
    }

    #[test]
    fn shares_add_up_to_the_whole() {
        for (units, burst, n) in [(300, 10, 3), (2_000_000, 2_000_000, 7), (1, 1, 4), (60, 60, 1)] {
            let quota = Quota::new(units, MINUTE, burst);
            let share = quota.share(n);
            assert!(share.burst() * u64::from(n) <= burst.max(u64::from(n)), "{units} {burst} {n}");
            let (whole, part) = (quota.cost(1000) * u64::from(n), share.cost(1000));
            assert!(part + 1000 >= whole - whole / 1000, "{units} {n}: {part} {whole}");
        }
    }

    #[test]
    fn extremes_stay_within_the_integers_of_a_script() {
        for units in [1, 7, u64::MAX] {
            for burst in [1, u64::MAX] {
                let quota = Quota::new(units, Duration::from_secs(86_400), burst).share(10_000);
                let decision = check(u64::MAX, NOW, quota.cost(u64::MAX), quota.tolerance());
                assert!(decision.tat < 1 << 53 && decision.retry_after < 1 << 53);
                assert!(settle(NOW, NOW, i64::MAX, quota.tolerance()) < 1 << 53);
            }
        }
    }

    fn quotas() -> impl Strategy<Value = Quota> {
        (1..5_000_u64, 1..200_u64, prop_oneof![Just(60), Just(86_400)]).prop_map(
            |(units, burst, seconds)| Quota::new(units, Duration::from_secs(seconds), burst),
        )
    }

    proptest! {
        /// The promise itself, over every window that begins and ends with an admission.
        #[test]
        fn no_window_holds_more_than_burst_and_rate(
            quota in quotas(),
            arrivals in prop::collection::vec((0..3_000_000_u64, 1..20_u64), 1..150),
        ) {
            let (mut tat, mut now, mut admitted) = (0, NOW, Vec::new());
            for (gap, units) in arrivals {
                now += gap;
                let decision = check(tat, now, quota.cost(units), quota.tolerance());
                tat = decision.tat;
                if decision.allowed {
                    admitted.push((now, units));
                } else if quota.cost(units) <= quota.tolerance() {
                    // Its own word: then, and not a microsecond before.
                    let at = |now| check(tat, now, quota.cost(units), quota.tolerance()).allowed;
                    prop_assert!(at(now + decision.retry_after));
                    prop_assert!(!at(now + decision.retry_after - 1));
                }
            }
            for (first, (begin, _)) in admitted.iter().enumerate() {
                let mut sum = 0;
                for (end, units) in &admitted[first..] {
                    sum += u128::from(*units);
                    let earned = u128::from(end - begin) * u128::from(quota.units());
                    let period = quota.period().as_micros();
                    prop_assert!(sum * period <= u128::from(quota.burst()) * period + earned);
                }
            }
        }

        /// Whatever is reserved and given back, what was used in the end stays within the promise from the beginning on, and
        /// a charge that is taken back at once leaves no trace.
        #[test]
        fn no_refund_is_lost_or_minted(
            quota in quotas(),
            steps in prop::collection::vec((0..2_000_000_u64, 1..50_u64, 0..100_u64), 1..150),
        ) {
            let (mut tat, mut now, mut used) = (0, NOW, 0);
            let mut open: Vec<(u64, u64)> = Vec::new();
            for (gap, units, share) in steps {
                now += gap;
                let decision = check(tat, now, quota.cost(units), quota.tolerance());
                if decision.allowed {
                    let back = -i64::try_from(quota.cost(units)).unwrap();
                    let undone = settle(decision.tat, now, back, quota.tolerance());
                    prop_assert_eq!(undone, current(tat, now, quota.tolerance()));
                    open.push((units, units * share / 100));
                }
                tat = decision.tat;
                // Some settle at once, some late, all in the end.
                if open.len() > 3 {
                    let (reserved, spent) = open.remove(0);
                    let delta = quota.cost(spent).cast_signed() - quota.cost(reserved).cast_signed();
                    tat = settle(tat, now, delta, quota.tolerance());
                    used += u128::from(spent);
                }
                let earned = u128::from(now - NOW) * u128::from(quota.units());
                let period = quota.period().as_micros();
                let fine = u128::from(quota.burst()) * period + earned;
                prop_assert!(used * period <= fine, "{} used", used);
            }
        }
    }
}
