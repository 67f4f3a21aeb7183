//! The retry budget: how many retries all requests together may make, so that an outage is not multiplied.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::spec::RetrySpec;

/// Retries under way may be a share of the active requests; beyond that each takes a token of a bucket that fills at a
/// rate and holds one second's worth.
#[derive(Debug)]
pub struct Budget {
    active: AtomicU32,
    retrying: AtomicU32,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

/// A share of the budget, held while a retry is under way.
#[derive(Debug)]
pub struct RetryTicket(Arc<Budget>);

impl Drop for RetryTicket {
    fn drop(&mut self) {
        self.0.retrying.fetch_sub(1, Relaxed);
    }
}

/// Counts one attempt among the active ones until it is dropped.
#[derive(Debug)]
pub(crate) struct Active(Arc<Budget>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}

impl Budget {
    /// A full budget.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self {
            active: AtomicU32::new(0),
            retrying: AtomicU32::new(0),
            bucket: Mutex::new(Bucket { tokens: f64::MAX, filled: now }),
        }
    }

    /// Attempts under way, streams included.
    #[must_use]
    pub fn active(&self) -> u32 {
        self.active.load(Relaxed)
    }

    /// Retries under way.
    #[must_use]
    pub fn retrying(&self) -> u32 {
        self.retrying.load(Relaxed)
    }

    pub(crate) fn enter(self: &Arc<Self>) -> Active {
        self.active.fetch_add(1, Relaxed);
        Active(Arc::clone(self))
    }

    /// Takes a share for one retry; `None` when the budget is spent.
    pub fn draw(self: &Arc<Self>, spec: &RetrySpec, now: Instant) -> Option<RetryTicket> {
        let share = spec.budget_ratio * f64::from(self.active());
        let within = f64::from(self.retrying.fetch_add(1, Relaxed)) + 1.0 <= share;
        let ticket = RetryTicket(Arc::clone(self));
        (within || self.take_token(spec.budget_per_second, now)).then_some(ticket)
    }

    fn take_token(&self, per_second: f64, now: Instant) -> bool {
        if per_second <= 0.0 {
            return false;
        }
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + elapsed * per_second).min(per_second.max(1.0));
        bucket.filled = bucket.filled.max(now);
        let taken = bucket.tokens >= 1.0;
        if taken {
            bucket.tokens -= 1.0;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn without_active_requests_only_the_rate_counts() {
        let start = Instant::now();
        let budget = Arc::new(Budget::new(start));
        let spec = RetrySpec::default();
        let drawn = (0..100).filter(|_| budget.draw(&spec, start).is_some()).count();
        assert_eq!(drawn, 10);
        let later = start + Duration::from_millis(500);
        let drawn = (0..100).filter(|_| budget.draw(&spec, later).is_some()).count();
        assert_eq!(drawn, 5);
        assert_eq!(budget.retrying(), 0);
    }

    #[test]
    fn a_fifth_of_the_active_requests_may_retry_at_once() {
        let start = Instant::now();
        let budget = Arc::new(Budget::new(start));
        let spec = RetrySpec { budget_per_second: 0.0, ..RetrySpec::default() };
        let active: Vec<_> = (0..50).map(|_| budget.enter()).collect();
        let held: Vec<_> = (0..50).filter_map(|_| budget.draw(&spec, start)).collect();
        assert_eq!(held.len(), 10);
        drop(held);
        assert!(budget.draw(&spec, start).is_some());
        drop(active);
        assert!(budget.draw(&spec, start).is_none());
        assert_eq!(budget.active(), 0);
    }
}
