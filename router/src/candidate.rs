//! What a plan gives: one backend at a time, or the reason why there is none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::backend::Slot;
use crate::breaker::Permit;
use crate::ids::{HeadName, ModelName, RegionName};
use crate::model::Model;
use crate::snapshot::Member;
use crate::spec::{Secret, Timeouts};

/// A backend to try now. Dropping it gives back its slot and its permit.
#[derive(Debug)]
pub struct Candidate<A> {
    /// The backend.
    pub member: Member<A>,
    /// The model that is served: the one asked for, or one of its fallbacks.
    pub model: Arc<Model>,
    /// The backend's name for it.
    pub upstream_model: ModelName,
    /// The deployment's own credential, else the backend's.
    pub api_key: Option<Secret>,
    /// Where the backend stands.
    pub region: RegionName,
    /// The head that it was drawn from, unless that is implicit.
    pub head: Option<HeadName>,
    /// The deadlines of this attempt: the model's over the backend's over the global ones.
    pub timeouts: Timeouts,
    /// The model has to be loaded first: `timeouts.load` takes the place of `timeouts.first_event`.
    pub first_event_is_load: bool,
    /// To be held until the response body ends.
    pub slot: Slot<A>,
    /// To be resolved by [`crate::backend::Backend::report`].
    pub permit: Permit,
}

/// There is no further candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exhausted {
    /// Why.
    pub reason: ExhaustedReason,
    /// After which time another try may go better.
    pub retry_after: Option<Duration>,
    /// Someone who was not tried is well but busy: waiting may help.
    pub busy: Option<Busy>,
    /// Every backend of the plan is open or offline now, those that were tried too.
    pub down: bool,
}

/// What there is to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy {
    /// Someone is at a cap: a place may be free any moment.
    pub full: bool,
    /// The first that asked to be left alone is back then.
    pub rest: Option<Instant>,
}

impl Busy {
    /// Whether anything can become free before `deadline`.
    #[must_use]
    pub fn may_end_before(&self, deadline: Instant) -> bool {
        self.full || self.rest.is_some_and(|until| until < deadline)
    }
}

/// Why there is no further candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExhaustedReason {
    /// All were tried, or as many as may be.
    Tried,
    /// Those that are well are at their limit, or asked to be left alone.
    Saturated,
    /// All are open or offline.
    Unavailable,
    /// Retries are spent.
    BudgetSpent,
    /// None serves the model just now.
    NotServed,
}
