//! Public models, with everything about their routes worked out beforehand.

use std::sync::Arc;

use crate::balance::Turns;
use crate::cap::Cap;
use crate::ids::{HeadName, ModelName};
use crate::regions::{Region, RegionSet};
use crate::spec::{ModelSpec, Policy, Secret};

/// A model that clients may name.
#[derive(Debug)]
pub struct Model {
    /// Its public name.
    pub name: ModelName,
    /// What was asked for; the defaults where it was only discovered.
    pub spec: Arc<ModelSpec>,
    /// Configured, not only discovered.
    pub declared: bool,
    /// Unix seconds, where a backend says.
    pub created: Option<u64>,
    /// Who owns it, where a backend says.
    pub owned_by: Option<String>,
    /// Largest context in tokens: as configured, else the smallest that a backend says.
    pub context_length: Option<u64>,
    /// The base model of an adapter.
    pub parent: Option<String>,
    pub(crate) route: Route,
    /// Its running requests; survives reloads.
    pub(crate) cap: Arc<Cap>,
}

impl Model {
    /// Requests under way that are served with this model, streams included.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.cap.taken()
    }

    /// Whether anyone may be waiting for it; one load.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        !self.cap.audience().is_empty()
    }
}

/// Where a model's requests may go.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) home: Option<Region>,
    /// Every region where attempts may go.
    pub(crate) allowed: RegionSet,
    /// `allowed` is a wall: what leaves a backend's machine is no candidate either.
    pub(crate) strict: bool,
    pub(crate) local_only: bool,
    pub(crate) policy: Policy,
    /// In the order of declaration, the priority head first.
    pub(crate) tiers: Vec<Tier>,
    /// Numbers of the models to try next, in order.
    pub(crate) chain: Vec<u32>,
    /// Number of the model to try when the prompt is too long.
    pub(crate) context_fallback: Option<u32>,
}

/// Backends that are equally good for a model: a head, or all of a region where there are no heads.
#[derive(Debug)]
pub(crate) struct Tier {
    /// `None` = implicit.
    pub(crate) head: Option<HeadName>,
    pub(crate) region: Region,
    /// Members are tried strictly in order.
    pub(crate) listed: bool,
    pub(crate) priority: bool,
    pub(crate) members: Vec<Deployment>,
    /// Members of the head that were found not to serve the model (numbers of backends).
    pub(crate) without: Vec<u32>,
    pub(crate) turns: Turns,
}

/// The model on one backend.
#[derive(Debug, Clone)]
pub(crate) struct Deployment {
    /// The backend's number.
    pub(crate) backend: u32,
    /// The hash of its name.
    pub(crate) key: u64,
    pub(crate) weight: u32,
    /// Its name for the model.
    pub(crate) upstream: ModelName,
    pub(crate) api_key: Option<Secret>,
    /// Of the weights, where the backend says.
    pub(crate) digest: Option<Arc<str>>,
    /// It runs elsewhere than on the backend.
    pub(crate) remote: bool,
}
