//! Deadlines.

use std::time::Duration;

/// Deadlines that a backend or a model may set for itself; `None` inherits (model over backend over global).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeoutOverrides {
    /// See [`Timeouts::connect`].
    pub connect: Option<Duration>,
    /// See [`Timeouts::first_event`].
    pub first_event: Option<Duration>,
    /// See [`Timeouts::load`].
    pub load: Option<Duration>,
    /// See [`Timeouts::idle`].
    pub idle: Option<Duration>,
    /// See [`Timeouts::response`].
    pub response: Option<Duration>,
    /// See [`Timeouts::total`].
    pub total: Option<Duration>,
}

/// The deadlines of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP and TLS handshake.
    pub connect: Duration,
    /// From the request written to the first content event of a stream.
    pub first_event: Duration,
    /// Instead of `first_event` while an Ollama model has to be loaded.
    pub load: Duration,
    /// Between two events of a stream; comments do not count.
    pub idle: Duration,
    /// A plain answer, complete.
    pub response: Duration,
    /// The whole request with all its attempts; `None` = no such limit.
    pub total: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            first_event: Duration::from_secs(120),
            load: Duration::from_secs(600),
            idle: Duration::from_secs(60),
            response: Duration::from_secs(600),
            total: None,
        }
    }
}

impl Timeouts {
    /// These deadlines with another layer's own values put over them.
    #[must_use]
    pub fn with(self, over: &TimeoutOverrides) -> Self {
        Self {
            connect: over.connect.unwrap_or(self.connect),
            first_event: over.first_event.unwrap_or(self.first_event),
            load: over.load.unwrap_or(self.load),
            idle: over.idle.unwrap_or(self.idle),
            response: over.response.unwrap_or(self.response),
            total: over.total.or(self.total),
        }
    }
}
