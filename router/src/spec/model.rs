//! Public models and how they are served.

use std::time::Duration;

use super::{ModelCache, Secret, TimeoutOverrides};
use crate::ids::{BackendName, HeadName, ModelName, RegionName};

/// How the next candidate of a tier is drawn.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Policy {
    /// Two random choices over peak-EWMA of time to first event x (in-flight + 1) / weight.
    #[default]
    LeastLoad,
    /// In turn, by weight.
    RoundRobin,
    /// Consistent hashing with bounded load over the start of the prompt.
    PrefixHash,
    /// The same value goes to the same backend.
    Session(SessionSource),
}

/// Where a session's identity is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionSource {
    /// A request header, lower case.
    Header(String),
    /// The body's `user` field.
    User,
}

/// Whether attempts may leave a model's allowed regions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Residency {
    /// They may.
    #[default]
    Prefer,
    /// They never do.
    Strict,
}

/// A backend's own name for a model, and what differs there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentSpec {
    /// Which backend.
    pub backend: BackendName,
    /// Its name for the model; `None` = the model's `upstream_model`, else the model's name.
    pub upstream_model: Option<ModelName>,
    /// Instead of the backend's weight.
    pub weight: Option<u32>,
    /// Instead of the backend's credential.
    pub api_key: Option<Secret>,
}

/// A public model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSpec {
    /// The name that clients send.
    pub name: ModelName,
    /// Further names.
    pub aliases: Vec<ModelName>,
    /// Home region.
    pub region: Option<RegionName>,
    /// Further allowed regions.
    pub regions: Vec<RegionName>,
    /// Whether they are a wish or a wall.
    pub residency: Residency,
    /// Tried first.
    pub priority_head: Option<HeadName>,
    /// Tried next, in order.
    pub heads: Vec<HeadName>,
    /// Other models to try when all heads fail.
    pub fallbacks: Vec<ModelName>,
    /// The backends' name for the model, where it is not its public one.
    pub upstream_model: Option<ModelName>,
    /// Declared deployments; where empty, the backends that are found to serve the model.
    pub deployments: Vec<DeploymentSpec>,
    /// How candidates are drawn; `None` = the global policy.
    pub policy: Option<Policy>,
    /// Its own deadlines.
    pub timeouts: TimeoutOverrides,
    /// A model with a larger context, tried when the prompt is refused as too long.
    pub context_fallback: Option<ModelName>,
    /// Largest context in tokens, where the operator knows it.
    pub context_length: Option<u64>,
    /// Only backends with `local = true`.
    pub local_inference: bool,
    /// The response cache.
    pub cache: ModelCache,
    /// Longest wait for a free backend; `None` inherits.
    pub queue_timeout: Option<Duration>,
    /// Most waiting requests; `None` inherits.
    pub queue_size: Option<u32>,
    /// Most requests at once on all backends; `None` = no cap.
    pub max_in_flight: Option<u32>,
}

impl ModelSpec {
    /// A model with every default.
    #[must_use]
    pub const fn new(name: ModelName) -> Self {
        Self {
            name,
            aliases: Vec::new(),
            region: None,
            regions: Vec::new(),
            residency: Residency::Prefer,
            priority_head: None,
            heads: Vec::new(),
            fallbacks: Vec::new(),
            upstream_model: None,
            deployments: Vec::new(),
            policy: None,
            timeouts: TimeoutOverrides {
                connect: None,
                first_event: None,
                load: None,
                idle: None,
                response: None,
                total: None,
            },
            context_fallback: None,
            context_length: None,
            local_inference: false,
            cache: ModelCache { enabled: None, ttl: None, when: None, scope: None },
            queue_timeout: None,
            queue_size: None,
            max_in_flight: None,
        }
    }
}
