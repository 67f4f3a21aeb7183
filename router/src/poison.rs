//! Requests that kill the backend that takes them, and are refused for a while.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Deaths by one request after which it is stopped and refused.
pub const POISON_DEATHS: u32 = 2;
/// How long a request that kills is remembered.
pub const POISON_MEMORY: Duration = Duration::from_secs(60);
/// Most requests remembered; beyond that the one that killed longest ago is forgotten.
pub const POISON_ENTRIES: usize = 1024;

/// Which requests killed backends of late, by a digest that the data plane makes of them.
///
/// Deaths are counted per request, not per digest: when a server dies under many requests with the same words, that is
/// one death for each of them, and none is to blame.
#[derive(Debug, Default)]
pub struct Poison {
    /// Entries held, so that the common case takes no lock.
    held: AtomicUsize,
    /// When each was stopped.
    stopped: Mutex<HashMap<u128, Instant>>,
}

fn expired(stopped: Instant, now: Instant) -> bool {
    now.saturating_duration_since(stopped) >= POISON_MEMORY
}

impl Poison {
    /// [`POISON_DEATHS`] backends died of this one request: it is refused from now on.
    pub fn quarantine(&self, digest: u128, now: Instant) {
        let mut stopped = self.lock();
        if stopped.len() >= POISON_ENTRIES && !stopped.contains_key(&digest) {
            stopped.retain(|_, at| !expired(*at, now));
            let oldest = stopped.iter().min_by_key(|(_, at)| **at).map(|(key, _)| *key);
            if let Some(oldest) = oldest.filter(|_| stopped.len() >= POISON_ENTRIES) {
                stopped.remove(&oldest);
            }
        }
        stopped.insert(digest, now);
        self.held.store(stopped.len(), Relaxed);
    }

    /// Nothing is remembered: no request needs a digest.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.load(Relaxed) == 0
    }

    /// For how long this request is still refused; `None` = it may be served.
    #[must_use]
    pub fn refuses(&self, digest: u128, now: Instant) -> Option<Duration> {
        if self.is_empty() {
            return None;
        }
        let mut stopped = self.lock();
        let at = *stopped.get(&digest)?;
        if expired(at, now) {
            stopped.remove(&digest);
            self.held.store(stopped.len(), Relaxed);
            return None;
        }
        Some((at + POISON_MEMORY).saturating_duration_since(now))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u128, Instant>> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poison_is_refused_for_a_minute() {
        let start = Instant::now();
        let poison = Poison::default();
        assert!(poison.is_empty());
        assert_eq!(poison.refuses(7, start), None);
        poison.quarantine(7, start);
        let left = poison.refuses(7, start + Duration::from_secs(1));
        assert_eq!(left, Some(Duration::from_secs(59)));
        assert_eq!(poison.refuses(8, start), None);
        assert_eq!(poison.refuses(7, start + POISON_MEMORY), None);
        assert!(poison.is_empty());
    }

    #[test]
    fn memory_is_bounded_and_keeps_the_newest() {
        let start = Instant::now();
        let poison = Poison::default();
        for digest in 0..3000_u128 {
            let now = start + Duration::from_millis(u64::try_from(digest).unwrap());
            poison.quarantine(digest, now);
        }
        assert_eq!(poison.lock().len(), POISON_ENTRIES);
        assert!(poison.lock().contains_key(&2999));
        assert!(!poison.lock().contains_key(&0));
    }
}
