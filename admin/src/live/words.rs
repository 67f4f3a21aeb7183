//! What is said over the socket of a data plane. Both ends are the same build, or say so when they are not.

use std::collections::BTreeMap;
use std::sync::Arc;

use router::plan::Query;
use router::planes::{BackendView, ProcessView, PurgeScope, QueueView, Totals};
use router::spec::{Catalog, DiscoveredModel};
use router::{BackendName, Operation, RegionName};
use serde::{Deserialize, Serialize};

/// Everything but the catalogue, which is large and seldom new: `GET /live/state`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) version: u64,
    pub(super) process: ProcessView,
    pub(super) backends: Vec<BackendView>,
    pub(super) totals: Totals,
    pub(super) queues: Vec<QueueView>,
}

/// What was discovered: `GET /live/catalog`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Discovered(BTreeMap<BackendName, Vec<DiscoveredModel>>);

impl From<&Catalog> for Discovered {
    fn from(catalog: &Catalog) -> Self {
        Self(catalog.iter().map(|(name, models)| (name.clone(), models.to_vec())).collect())
    }
}

impl From<Discovered> for Catalog {
    fn from(discovered: Discovered) -> Self {
        discovered.0.into_iter().map(|(name, models)| (name, Arc::from(models))).collect()
    }
}

/// `POST /live/explain`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Asked {
    model: String,
    operation: Operation,
    region: Option<String>,
    key_region: Option<RegionName>,
    key_regions: Option<Vec<RegionName>>,
    affinity: Option<u64>,
    repeatable: bool,
}

impl From<&Query<'_>> for Asked {
    fn from(query: &Query<'_>) -> Self {
        Self {
            model: query.model.to_owned(),
            operation: query.operation,
            region: query.region.map(ToOwned::to_owned),
            key_region: query.key_region.cloned(),
            key_regions: query.key_regions.map(<[_]>::to_vec),
            affinity: query.affinity,
            repeatable: query.repeatable,
        }
    }
}

impl Asked {
    pub(super) fn query(&self) -> Query<'_> {
        Query {
            model: &self.model,
            operation: self.operation,
            region: self.region.as_deref(),
            key_region: self.key_region.as_ref(),
            key_regions: self.key_regions.as_deref(),
            affinity: self.affinity,
            repeatable: self.repeatable,
        }
    }
}

/// What is to be done: `POST /live/operate`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    Probe(Option<String>),
    Drain(String),
    Resume(String),
    Purge(PurgeScope),
}

/// Which events: `POST /live/events`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct After {
    pub(super) number: u64,
    pub(super) most: usize,
}
