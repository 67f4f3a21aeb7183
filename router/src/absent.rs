//! Models that a backend said it does not have.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A model that a backend said it does not have is not asked for there for this long, or until its next model list.
pub const ABSENT_MEMORY: Duration = Duration::from_secs(60);
/// Most models remembered as absent from one backend; beyond that the oldest is forgotten.
pub const ABSENT_ENTRIES: usize = 64;
/// Models that a backend said it does not have.
#[derive(Debug, Default)]
pub(crate) struct Absent {
    /// Entries held, so that the common case takes no lock.
    held: AtomicU32,
    models: Mutex<Vec<(String, Instant)>>,
}

impl Absent {
    pub(crate) fn mark(&self, model: &str, now: Instant) {
        let mut models = self.lock();
        models.retain(|(name, at)| {
            name != model && now.saturating_duration_since(*at) < ABSENT_MEMORY
        });
        if models.len() >= ABSENT_ENTRIES {
            models.remove(0);
        }
        models.push((model.to_owned(), now));
        self.held.store(u32::try_from(models.len()).unwrap_or(u32::MAX), Relaxed);
    }

    pub(crate) fn has(&self, model: &str, now: Instant) -> bool {
        self.held.load(Relaxed) != 0
            && self.lock().iter().any(|(name, at)| {
                name == model && now.saturating_duration_since(*at) < ABSENT_MEMORY
            })
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
        self.held.store(0, Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(String, Instant)>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absence_is_forgotten_after_a_while_and_by_a_new_list() {
        let start = Instant::now();
        let absent = Absent::default();
        absent.mark("m", start);
        assert!(absent.has("m", start) && !absent.has("n", start));
        assert!(!absent.has("m", start + ABSENT_MEMORY));
        absent.clear();
        assert!(!absent.has("m", start));
    }

    #[test]
    fn memory_is_bounded_and_keeps_the_newest() {
        let start = Instant::now();
        let absent = Absent::default();
        for number in 0..1000 {
            absent.mark(&number.to_string(), start);
        }
        assert_eq!(absent.lock().len(), ABSENT_ENTRIES);
        assert!(absent.has("999", start) && !absent.has("0", start));
    }
}
