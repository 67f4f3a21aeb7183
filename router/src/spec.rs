//! What the operator asked for: plain data, made by `config` or `admin`, turned into a snapshot by [`crate::snapshot`].
//!
//! Every field has a [`Default`] where one makes sense; the numbers are those of `config/default.toml`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{BackendName, ModelName, RegionName};

mod backend;
mod cache;
mod head;
mod key;
mod limits;
mod model;
mod queue;
mod redis;
mod secret;
mod service;
mod timeouts;

pub use backend::{BackendSpec, Kind, ProbeMode};
pub use cache::{CacheScope, CacheSpec, CacheWhen, ModelCache};
pub use head::{HeadOrder, HeadSpec, RegionSpec};
pub use key::{AuthSpec, KeyDigest, KeyLimits, KeySpec, ModelPattern};
pub use limits::{BreakerSpec, DiscoverySpec, HealthSpec, RetrySpec};
pub use model::{DeploymentSpec, ModelSpec, Policy, Residency, SessionSource};
pub use queue::QueueSpec;
pub use redis::RedisSpec;
pub use secret::Secret;
pub use service::ServiceSpec;
pub use timeouts::{TimeoutOverrides, Timeouts};

/// Everything that was asked for, in one value.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SnapshotSpec {
    /// Counts the desired states of a registry, of which this is one; 0 = made without one. Routing does not look at it.
    pub revision: u64,
    /// Where this gateway itself stands.
    pub server_region: Option<RegionName>,
    /// The region of what names none.
    pub default_region: Option<RegionName>,
    /// Regions; all that are named anywhere are here.
    pub regions: Vec<RegionSpec>,
    /// Backends.
    pub backends: Vec<BackendSpec>,
    /// Heads.
    pub heads: Vec<HeadSpec>,
    /// Models.
    pub models: Vec<ModelSpec>,
    /// The policy of models that name none.
    pub policy: Policy,
    /// Global deadlines.
    pub timeouts: Timeouts,
    /// Bounds on retries.
    pub retry: RetrySpec,
    /// Breakers.
    pub breaker: BreakerSpec,
    /// Health.
    pub health: HealthSpec,
    /// Discovery.
    pub discovery: DiscoverySpec,
    /// The public API.
    pub service: ServiceSpec,
    /// Whether callers need a key.
    pub auth: AuthSpec,
    /// The keys.
    pub keys: Vec<KeySpec>,
    /// The response cache.
    pub cache: CacheSpec,
    /// Waiting for a free backend.
    pub queue: QueueSpec,
    /// What several gateways share; `None` = everything is local.
    pub redis: Option<RedisSpec>,
}

/// A model that was found on a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveredModel {
    /// The backend's name for it.
    pub name: ModelName,
    /// Unix seconds, where the backend says.
    pub created: Option<u64>,
    /// Who owns it, where the backend says.
    pub owned_by: Option<String>,
    /// Largest context in tokens, where the backend says.
    pub context_length: Option<u64>,
    /// The base model of an adapter.
    pub parent: Option<String>,
    /// Digest of the weights (Ollama): names that share it share a runner.
    pub digest: Option<String>,
    /// It runs elsewhere than on this backend (Ollama's cloud and remote models).
    pub remote: bool,
}

/// What discovery knows: the models of each backend that has answered so far.
pub type Catalog = BTreeMap<BackendName, Arc<[DiscoveredModel]>>;
