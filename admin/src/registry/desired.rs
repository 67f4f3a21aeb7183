//! The merged state: what is asked for now, and what of the stored objects takes no part in it.

use std::sync::Arc;

use config::{Config, Loaded};
use router::spec::SnapshotSpec;

use super::problem::Problem;
use crate::store::ObjectKind;

/// A stored object or an override that takes no part, because of what it would break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// What it is.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// The stored object's id; `None` = it is the override of an object.
    pub id: Option<String>,
    /// Why, with pointers into it.
    pub problems: Vec<Problem>,
}

/// What is asked for.
#[derive(Debug)]
pub struct Desired {
    /// Counts changes of the store; the state of the file is no part of it.
    pub revision: u64,
    /// What the data plane is given.
    pub spec: SnapshotSpec,
    /// Stored objects and overrides that take no part.
    pub conflicts: Vec<Conflict>,
    /// The base with everything that takes part.
    pub loaded: Arc<Loaded>,
}

impl Desired {
    /// The configuration with everything that takes part.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.loaded.config
    }
}
