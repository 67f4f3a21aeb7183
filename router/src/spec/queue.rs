//! Waiting for a free backend.

use std::time::Duration;

/// Waiting for a free backend when all are at their cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSpec {
    /// Longest wait.
    pub timeout: Duration,
    /// Most waiting requests of one model.
    pub size: u32,
}

impl QueueSpec {
    /// Whether anyone may wait.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        !self.timeout.is_zero() && self.size > 0
    }
}

impl Default for QueueSpec {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), size: 256 }
    }
}
