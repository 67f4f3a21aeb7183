//! What is said of Redis in the log: at most one line in ten seconds, with the number of what went unsaid.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::fault::Reason;

/// Between two lines.
const PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Voice(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    unsaid: u64,
    /// The last line was about trouble.
    trouble: bool,
}

impl Said {
    /// Whether a line may be said now.
    fn may(&mut self, now: Instant) -> bool {
        if self.last.is_some_and(|last| now.duration_since(last) < PAUSE) {
            return false;
        }
        self.last = Some(now);
        true
    }
}

impl Voice {
    pub(super) fn failed(&self, reason: Reason) {
        let mut said = self.lock();
        if !said.may(Instant::now()) {
            said.unsaid += 1;
            return;
        }
        let more = std::mem::take(&mut said.unsaid);
        said.trouble = true;
        drop(said);
        tracing::warn!(reason = reason.as_str(), more, "redis: going on without it");
    }

    /// To be called now and then while all is well: says so once, as soon as it may.
    pub(super) fn well(&self) {
        let mut said = self.lock();
        if said.trouble && said.may(Instant::now()) {
            let more = std::mem::take(&mut said.unsaid);
            said.trouble = false;
            drop(said);
            tracing::info!(more, "redis: back");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_ten_seconds() {
        let mut said = Said::default();
        let begun = Instant::now();
        let lines = (0..60_000).filter(|ms| said.may(begun + Duration::from_millis(*ms))).count();
        assert_eq!(lines, 6);
    }
}
