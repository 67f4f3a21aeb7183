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
#[derive(Debug, Default)]
pub struct Poison {
    /// Entries held, so that the common case takes no lock.
    held: AtomicUsize,
    deaths: Mutex<HashMap<u128, Deaths>>,
}

#[derive(Debug, Clone, Copy)]
struct Deaths {
    count: u32,
    last: Instant,
}

impl Deaths {
    fn expired(self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= POISON_MEMORY
    }
}

impl Poison {
    /// A backend died of this request: the connection was lost after the request was written whole on a fresh
    /// connection, before any byte of an answer, and a new connection was refused. True when it is one death too many:
    /// no further attempt may be made.
    pub fn record_death(&self, digest: u128, now: Instant) -> bool {
        let mut deaths = self.lock();
        if deaths.len() >= POISON_ENTRIES && !deaths.contains_key(&digest) {
            deaths.retain(|_, entry| !entry.expired(now));
            let oldest = deaths.iter().min_by_key(|(_, entry)| entry.last).map(|(key, _)| *key);
            if let Some(oldest) = oldest.filter(|_| deaths.len() >= POISON_ENTRIES) {
                deaths.remove(&oldest);
            }
        }
        let entry = deaths.entry(digest).or_insert(Deaths { count: 0, last: now });
        if entry.expired(now) {
            entry.count = 0;
        }
        entry.count = entry.count.saturating_add(1);
        entry.last = now;
        let poisonous = entry.count >= POISON_DEATHS;
        self.held.store(deaths.len(), Relaxed);
        poisonous
    }

    /// Nothing is remembered: no request needs a digest.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.load(Relaxed) == 0
    }

    /// For how long this request is still refused; `None` = it may be served.
    #[must_use]
    pub fn refuses(&self, digest: u128, now: Instant) -> Option<Duration> {
        if self.held.load(Relaxed) == 0 {
            return None;
        }
        let mut deaths = self.lock();
        let entry = *deaths.get(&digest)?;
        if entry.expired(now) {
            deaths.remove(&digest);
            self.held.store(deaths.len(), Relaxed);
            return None;
        }
        let left = (entry.last + POISON_MEMORY).saturating_duration_since(now);
        (entry.count >= POISON_DEATHS).then_some(left)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u128, Deaths>> {
        self.deaths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_death_poisons_for_a_minute() {
        let start = Instant::now();
        let poison = Poison::default();
        assert!(!poison.record_death(7, start));
        assert_eq!(poison.refuses(7, start), None);
        assert!(poison.record_death(7, start + Duration::from_secs(1)));
        assert_eq!(
            poison.refuses(7, start + Duration::from_secs(2)),
            Some(Duration::from_secs(59))
        );
        assert_eq!(poison.refuses(8, start), None);
        assert_eq!(poison.refuses(7, start + Duration::from_secs(61)), None);
        assert!(!poison.record_death(7, start + Duration::from_secs(62)));
    }

    #[test]
    fn deaths_far_apart_are_not_one_story() {
        let start = Instant::now();
        let poison = Poison::default();
        assert!(!poison.record_death(7, start));
        assert!(!poison.record_death(7, start + POISON_MEMORY));
    }

    #[test]
    fn memory_is_bounded_and_keeps_the_newest() {
        let start = Instant::now();
        let poison = Poison::default();
        for digest in 0..3000_u128 {
            let now = start + Duration::from_millis(u64::try_from(digest).unwrap());
            poison.record_death(digest, now);
        }
        assert_eq!(poison.lock().len(), POISON_ENTRIES);
        assert!(poison.lock().contains_key(&2999));
        assert!(!poison.lock().contains_key(&0));
    }
}
