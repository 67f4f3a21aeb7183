//! The merged state: what is asked for now, and what of the stored objects takes no part in it.

use std::sync::Arc;

use config::{Config, Loaded};
use router::spec::{Catalog, SnapshotSpec};

use super::base::Base;
use super::index::{Index, discovered};
use super::object::Object;
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

impl Conflict {
    /// The same thing, whatever is wrong with it.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        (self.kind, &self.name, &self.id) == (other.kind, &other.name, &other.id)
    }

    /// All of its problems in a line.
    #[must_use]
    pub fn text(&self) -> String {
        let texts: Vec<String> = self.problems.iter().map(Problem::to_string).collect();
        texts.join("; ")
    }
}

/// What is asked for.
#[derive(Debug)]
pub struct Desired {
    /// Of the last change of the store that is in it; the state of the file is no part of it.
    pub revision: u64,
    /// What the data plane is given.
    pub spec: SnapshotSpec,
    /// Stored objects and overrides that take no part.
    pub conflicts: Vec<Conflict>,
    /// The base with everything that takes part.
    pub loaded: Arc<Loaded>,
    pub(super) index: Index,
}

impl Desired {
    /// The base alone, before anything was merged or published.
    pub(super) fn nothing(base: &Base) -> Self {
        Self {
            revision: 0,
            spec: SnapshotSpec::default(),
            conflicts: Vec::new(),
            loaded: Arc::new(base.loaded.clone()),
            index: Index::default(),
        }
    }

    /// The configuration with everything that takes part.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.loaded.config
    }

    /// One object by its name, else by its id. Models that are only served are looked for in `catalog`.
    #[must_use]
    pub fn object(&self, kind: ObjectKind, id_or_name: &str, catalog: &Catalog) -> Option<Object> {
        if let Some(object) = self.index.find(kind, id_or_name) {
            return Some(object.clone());
        }
        match kind {
            ObjectKind::Model => discovered(&self.spec, catalog).remove(id_or_name),
            _ => None,
        }
    }

    /// All objects of a kind, by name.
    #[must_use]
    pub fn objects(&self, kind: ObjectKind, catalog: &Catalog) -> Vec<Object> {
        let declared = self.index.all(kind);
        if kind != ObjectKind::Model {
            return declared.to_vec();
        }
        let mut found = discovered(&self.spec, catalog);
        // One that is stored but disabled is shown as such.
        declared.iter().for_each(|object| drop(found.remove(&object.name)));
        let mut all: Vec<Object> = declared.iter().cloned().chain(found.into_values()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}
