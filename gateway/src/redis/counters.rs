//! The metrics of Redis.

use metrics::{Counter, Gauge};

use super::fault::{REASONS, Reason};

/// Their handles.
pub(crate) struct RedisCounters {
    errors: [Counter; REASONS.len()],
    pub(crate) dropped: Counter,
    pub(crate) up: Gauge,
}

impl RedisCounters {
    /// Registers them; `counter` takes a name, and a label with its value.
    pub(crate) fn new(
        counter: impl Fn(&'static str, Option<&'static str>, &'static str) -> Counter,
        up: Gauge,
    ) -> Self {
        let errors =
            REASONS.map(|reason| counter("forebay_redis_errors_total", Some("reason"), reason));
        Self { errors, dropped: counter("forebay_redis_writes_dropped_total", None, ""), up }
    }

    pub(crate) fn error(&self, reason: Reason) {
        self.errors[reason as usize].increment(1);
    }
}
