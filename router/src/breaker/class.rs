//! Which outcome means what to a breaker.

use crate::outcome::{Failure, FailureKind, Origin, Outcome, Retry};

/// What an attempt's end says about the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakerClass {
    /// It works.
    Success,
    /// It is broken: counts in a row and in the rate.
    Failure,
    /// It is there but refuses: counts in the rate only.
    Refusal,
    /// Nothing.
    Neutral,
}

/// The breaker's column of the table of outcomes. A first-event timeout is a [`BreakerClass::Failure`] here; whether the
/// backend was only busy is decided where its last event is known ([`crate::backend::Backend::report`]).
#[must_use]
pub const fn breaker_class(outcome: &Outcome) -> BreakerClass {
    match outcome {
        Outcome::Success => BreakerClass::Success,
        Outcome::Abandoned => BreakerClass::Neutral,
        Outcome::Failure(failure) => failure_class(failure),
    }
}

const fn failure_class(failure: &Failure) -> BreakerClass {
    if !matches!(failure.origin, Origin::Upstream) || matches!(failure.retry, Retry::SameBackend) {
        return BreakerClass::Neutral;
    }
    match failure.kind {
        FailureKind::ConnectFailed
        | FailureKind::ConnectTimeout
        | FailureKind::TlsFailed
        | FailureKind::ConnectionLost
        | FailureKind::BadResponse
        | FailureKind::FirstEventTimeout
        | FailureKind::IdleTimeout
        | FailureKind::ServerError
        | FailureKind::Unauthorized
        | FailureKind::ErrorEvent
        | FailureKind::Unfinished => BreakerClass::Failure,
        FailureKind::Overloaded => BreakerClass::Refusal,
        FailureKind::ResponseTimeout
        | FailureKind::TotalTimeout
        | FailureKind::ModelAbsent
        | FailureKind::ClientFault => BreakerClass::Neutral,
    }
}
