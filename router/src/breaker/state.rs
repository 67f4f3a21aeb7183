//! The words that a breaker speaks.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The three states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BreakerState {
    /// Everything is admitted.
    Closed,
    /// Nothing is admitted, save a panic trial.
    Open,
    /// One trial at a time is admitted.
    HalfOpen,
}

impl BreakerState {
    /// The word in metrics, logs and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// A change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// Before.
    pub from: BreakerState,
    /// After.
    pub to: BreakerState,
    /// For how long it opened, where it did.
    pub open_for: Option<Duration>,
}

/// Why nothing is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// Open until then.
    Open {
        /// When the next trial is due.
        until: Instant,
    },
    /// A trial is under way.
    TrialUnderWay,
}

/// What [`Breaker::admit`] would say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Closed: admitted like everyone.
    Free,
    /// Admitted as the one trial.
    Trial,
    /// Not admitted.
    Rejected(Rejected),
}
