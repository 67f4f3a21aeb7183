//! Counts of the last few seconds, without a lock: what a breaker's success rate is taken from.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Parts of a window; the oldest falls out as a whole.
const BUCKETS: usize = 10;
const BUCKETS_U32: u32 = 10;

/// Successes and failures of the last window, and failures in a row.
#[derive(Debug)]
pub(crate) struct Tally {
    epoch: Instant,
    bucket_millis: AtomicU64,
    in_a_row: AtomicU32,
    /// The row that the last success ended.
    ended_row: AtomicU32,
    successes: Ring,
    failures: Ring,
}

/// One counter per part of the window; each holds the number of its part (plus one) above its count, so that a part
/// that is over needs no sweeping.
#[derive(Debug, Default)]
struct Ring([AtomicU64; BUCKETS]);

impl Tally {
    pub(crate) fn new(window: Duration, now: Instant) -> Self {
        let tally = Self {
            epoch: now,
            bucket_millis: AtomicU64::new(1),
            in_a_row: AtomicU32::new(0),
            ended_row: AtomicU32::new(0),
            successes: Ring::default(),
            failures: Ring::default(),
        };
        tally.set_window(window);
        tally
    }

    /// Another length of the window; what was counted is forgotten if it changes.
    pub(crate) fn set_window(&self, window: Duration) {
        let millis = (millis(window) / u64::from(BUCKETS_U32)).max(1);
        if self.bucket_millis.swap(millis, Relaxed) != millis {
            self.clear();
        }
    }

    pub(crate) fn clear(&self) {
        self.in_a_row.store(0, Relaxed);
        self.ended_row.store(0, Relaxed);
        self.successes.clear();
        self.failures.clear();
    }

    pub(crate) fn success(&self, now: Instant) {
        let row = self.in_a_row.load(Relaxed);
        if row != 0 {
            self.in_a_row.store(0, Relaxed);
        }
        if self.ended_row.load(Relaxed) != row {
            self.ended_row.store(row, Relaxed);
        }
        self.successes.add(self.part(now));
    }

    /// What was counted as a success has failed after all: it is taken back, and so is the end that it put to a row of
    /// failures. Otherwise a backend that begins every stream and finishes none would never fail twice in a row.
    pub(crate) fn revoke_success(&self, now: Instant) {
        let row = self.ended_row.swap(0, Relaxed);
        self.in_a_row.fetch_max(row, Relaxed);
        self.successes.take(self.part(now));
    }

    /// A failure that says that the backend is broken. Gives the failures in a row, this one included.
    pub(crate) fn failure(&self, now: Instant) -> u32 {
        self.failures.add(self.part(now));
        self.in_a_row.fetch_add(1, Relaxed).saturating_add(1)
    }

    /// A failure that only lowers the rate.
    pub(crate) fn refusal(&self, now: Instant) {
        self.failures.add(self.part(now));
    }

    /// Successes and failures of the last window.
    pub(crate) fn counts(&self, now: Instant) -> (u32, u32) {
        let part = self.part(now);
        (self.successes.sum(part), self.failures.sum(part))
    }

    fn part(&self, now: Instant) -> u32 {
        let elapsed = millis(now.saturating_duration_since(self.epoch));
        let part = elapsed / self.bucket_millis.load(Relaxed).max(1);
        // Plus one, so that an untouched counter (0) belongs to no part.
        u32::try_from(part % u64::from(u32::MAX)).unwrap_or(0) + 1
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl Ring {
    fn add(&self, part: u32) {
        let slot = &self.0[part as usize % BUCKETS];
        let seen = slot.load(Relaxed);
        let fresh = (u64::from(part) << 32) | 1;
        if seen >> 32 == u64::from(part)
            || slot.compare_exchange(seen, fresh, Relaxed, Relaxed).is_err()
        {
            slot.fetch_add(1, Relaxed);
        }
    }

    /// Takes one back from the newest part that has one.
    fn take(&self, part: u32) {
        for back in 0..BUCKETS_U32 {
            let Some(wanted) = part.checked_sub(back) else { return };
            let slot = &self.0[wanted as usize % BUCKETS];
            let taken = slot.fetch_update(Relaxed, Relaxed, |value| {
                (value >> 32 == u64::from(wanted) && value & 0xffff_ffff > 0).then(|| value - 1)
            });
            if taken.is_ok() {
                return;
            }
        }
    }

    fn sum(&self, part: u32) -> u32 {
        let oldest = part.saturating_sub(BUCKETS_U32 - 1);
        let live = |value: u64| (u64::from(oldest)..=u64::from(part)).contains(&(value >> 32));
        let values = self.0.iter().map(|slot| slot.load(Relaxed)).filter(|value| live(*value));
        let total: u64 = values.map(|value| value & 0xffff_ffff).sum();
        u32::try_from(total).unwrap_or(u32::MAX)
    }

    fn clear(&self) {
        for slot in &self.0 {
            slot.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_is_not_counted() {
        let start = Instant::now();
        let tally = Tally::new(Duration::from_secs(10), start);
        for second in 0..30 {
            tally.success(start + Duration::from_secs(second));
        }
        let (successes, failures) = tally.counts(start + Duration::from_secs(29));
        assert_eq!((successes, failures), (10, 0));
        assert_eq!(tally.counts(start + Duration::from_secs(60)), (0, 0));
    }

    #[test]
    fn a_success_can_be_taken_back_from_an_earlier_part() {
        let start = Instant::now();
        let tally = Tally::new(Duration::from_secs(10), start);
        tally.success(start);
        tally.revoke_success(start + Duration::from_secs(5));
        tally.revoke_success(start + Duration::from_secs(5));
        assert_eq!(tally.counts(start + Duration::from_secs(5)), (0, 0));
    }

    #[test]
    fn a_success_that_is_taken_back_ends_no_row() {
        let start = Instant::now();
        let tally = Tally::new(Duration::from_secs(10), start);
        for row in 1..=5 {
            tally.success(start);
            tally.revoke_success(start);
            assert_eq!(tally.failure(start), row);
        }
        // One that lasts does.
        tally.success(start);
        tally.success(start);
        tally.revoke_success(start);
        assert_eq!(tally.failure(start), 1);
    }

    #[test]
    fn a_success_ends_a_row_of_failures() {
        let start = Instant::now();
        let tally = Tally::new(Duration::from_secs(10), start);
        assert_eq!(tally.failure(start), 1);
        assert_eq!(tally.failure(start), 2);
        tally.refusal(start);
        tally.success(start);
        assert_eq!(tally.failure(start), 1);
        assert_eq!(tally.counts(start), (1, 4));
    }
}
