//! What became of the configurations that were offered while running: counted, and the last refusal kept.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use router::planes::{EventKind, EventRing};

use crate::telemetry::Counters;

/// Longest text that is kept of a refusal, bytes.
pub const REFUSAL_MAX: usize = 64 << 10;

/// Why the last configuration that was offered is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// When it was offered.
    pub at: SystemTime,
    /// Every diagnostic as `forebay check` prints it, cut at [`REFUSAL_MAX`]; holds no credential.
    pub diagnostics: Arc<str>,
}

/// The account of all reloads of a data plane.
pub struct Reloads {
    counters: Arc<Counters>,
    events: Arc<EventRing>,
    refusal: Mutex<Option<Refusal>>,
}

impl Reloads {
    pub(crate) const fn new(counters: Arc<Counters>, events: Arc<EventRing>) -> Self {
        Self { counters, events, refusal: Mutex::new(None) }
    }

    /// A configuration was taken over.
    pub(crate) fn applied(&self) {
        *self.lock() = None;
        self.counters.reloaded(true);
    }

    /// A configuration was refused; the one before stays in force.
    pub fn refused(&self, diagnostics: &str) {
        let mut end = diagnostics.len().min(REFUSAL_MAX);
        while !diagnostics.is_char_boundary(end) {
            end -= 1;
        }
        let (at, diagnostics) = (SystemTime::now(), Arc::<str>::from(&diagnostics[..end]));
        let kind = EventKind::Refused { diagnostics: diagnostics.to_string() };
        self.events.push(kind, at);
        *self.lock() = Some(Refusal { at, diagnostics });
        self.counters.reloaded(false);
    }

    /// What is wrong with the last configuration that was offered; `None` = it is in force.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Refusal>> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_refusal_is_kept_within_its_bound_until_a_good_one_comes() {
        let reloads = Reloads::new(Arc::new(Counters::new().unwrap()), Arc::default());
        assert_eq!(reloads.refusal(), None);
        reloads.refused("first");
        // 3 bytes each: the bound falls inside one.
        reloads.refused(&"漢".repeat(REFUSAL_MAX));
        let kept = reloads.refusal().unwrap().diagnostics;
        assert_eq!(kept.len(), REFUSAL_MAX - REFUSAL_MAX % 3);
        reloads.applied();
        assert_eq!(reloads.refusal(), None);
    }
}
