//! The metrics of all queues.

use metrics::{Counter, Histogram};

/// Why a queue refused a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Refusal {
    /// There were as many as may wait.
    Full,
    /// It had to go for one of a higher priority, or of a tenant with less in the queue.
    Displaced,
    /// Nothing was free for as long as it could wait.
    Timeout,
}

/// [`Refusal`] in its order, as labels.
pub(crate) const REFUSALS: [&str; 3] = ["full", "displaced", "timeout"];

/// The handles, made once.
pub(crate) struct QueueCounters {
    pub(crate) waited: Histogram,
    pub(crate) refused: [Counter; REFUSALS.len()],
}

impl QueueCounters {
    pub(crate) fn refused(&self, refusal: Refusal) {
        self.refused[refusal as usize].increment(1);
    }
}
