//! Instants in atomics: milliseconds since a backend came to life.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// An instant that may be absent, readable and writable from all cores. Resolution: 1 ms.
#[derive(Debug)]
pub(crate) struct AtomicInstant {
    epoch: Instant,
    /// Milliseconds since the epoch plus one; 0 = absent.
    millis: AtomicU64,
}

impl AtomicInstant {
    pub(crate) const fn absent(epoch: Instant) -> Self {
        Self { epoch, millis: AtomicU64::new(0) }
    }

    pub(crate) fn set(&self, at: Instant) {
        self.millis.store(self.encode(at), Relaxed);
    }

    /// Keeps the later of the two.
    pub(crate) fn advance(&self, at: Instant) {
        self.millis.fetch_max(self.encode(at), Relaxed);
    }

    pub(crate) fn get(&self) -> Option<Instant> {
        let millis = self.millis.load(Relaxed).checked_sub(1)?;
        self.epoch.checked_add(Duration::from_millis(millis))
    }

    /// Makes it absent, unless it changed from `seen` meanwhile.
    pub(crate) fn clear(&self, seen: Instant) {
        let seen = self.encode(seen);
        // Someone else was faster: that is as good.
        let _ = self.millis.compare_exchange(seen, 0, Relaxed, Relaxed);
    }

    /// Whether it lies after `at`, both to the millisecond.
    pub(crate) fn after(&self, at: Instant) -> bool {
        self.millis.load(Relaxed) > self.encode(at)
    }

    fn encode(&self, at: Instant) -> u64 {
        let span = at.saturating_duration_since(self.epoch);
        u64::try_from(span.as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }
}
