//! History: what the data planes measured, every ten seconds, into the store; and what can be asked of it.

mod meter;
mod range;
mod sampler;

pub use meter::{Meter, Reading};
pub use range::{QUERY_TIME_MAX, Range, RangeError, Statistics, read, statistics};
pub use sampler::{BACKLOG_MAX, INTERVAL, Sampler};

/// The kinds of what is measured, as the store has them.
pub const BACKEND: &str = "backend";
/// As [`BACKEND`].
pub const MODEL: &str = "model";

/// What is measured. The unit is in the name, or it is a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Metric {
    /// Requests under way.
    InFlight,
    /// Requests that wait: at the server, or of a model for a free backend.
    Queue,
    /// Share of the KV cache in use, 0 to 1.
    KvUse,
    /// Bytes of the GPU's memory that loaded models take.
    Vram,
    /// Requests that ended, per second.
    Requests,
    /// Of these, those that ended in an error that was not the client's, per second.
    Errors,
    /// Mean time to the first event, milliseconds.
    FirstEventMs,
    /// Mean time to the end of an answer, milliseconds.
    DurationMs,
    /// Tokens written, per second.
    TokensPerSecond,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 9] = [
        Self::InFlight,
        Self::Queue,
        Self::KvUse,
        Self::Vram,
        Self::Requests,
        Self::Errors,
        Self::FirstEventMs,
        Self::DurationMs,
        Self::TokensPerSecond,
    ];

    /// Its word in the API and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InFlight => "in_flight",
            Self::Queue => "queue",
            Self::KvUse => "kv_use",
            Self::Vram => "vram",
            Self::Requests => "requests",
            Self::Errors => "errors",
            Self::FirstEventMs => "first_event_ms",
            Self::DurationMs => "duration_ms",
            Self::TokensPerSecond => "tokens_per_second",
        }
    }

    /// The metric that a word names.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.as_str() == word)
    }
}
