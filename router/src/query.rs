//! What a plan is made from, and why there may be none.

use serde::{Deserialize, Serialize};

use crate::ids::RegionName;
use crate::operation::Operation;

/// What routing needs to know of a request.
#[derive(Debug, Clone, Copy)]
pub struct Query<'q> {
    /// The model's name as the client sent it.
    pub model: &'q str,
    /// What is asked for.
    pub operation: Operation,
    /// The region that the client asked for.
    pub region: Option<&'q str>,
    /// The region of the client's key.
    pub key_region: Option<&'q RegionName>,
    /// The only regions that the client's key may use.
    pub key_regions: Option<&'q [RegionName]>,
    /// What ties it to a backend, for `prefix_hash` and `session`.
    pub affinity: Option<u64>,
    /// It may be sent again after a failure that may have had effects.
    pub repeatable: bool,
}

/// Why there is no route at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum PlanError {
    /// Nobody knows the model.
    #[error("unknown model")]
    UnknownModel,
    /// The client asked for a region that does not exist.
    #[error("unknown region")]
    UnknownRegion {
        /// Those that exist.
        known: Vec<RegionName>,
    },
    /// Residency, or the client's key, leaves nothing.
    #[error("no backend in the allowed regions")]
    RegionUnavailable {
        /// Those that are left.
        allowed: Vec<RegionName>,
    },
    /// No backend is known to serve the model, or this operation of it.
    #[error("not served")]
    NotServed,
    /// A plane in another process was asked to explain, and did not answer. No request meets this.
    #[error("the data plane does not answer")]
    NoAnswer,
}
