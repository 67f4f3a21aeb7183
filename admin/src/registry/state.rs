//! Everything of the store that the desired state is made of, as one value.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::credentials::{SealedRows, references};
use super::desired::Conflict;
use super::error::RegistryError;
use crate::store::{LIST_MAX, ObjectKind, SealedRow, StoreError, StoredObject, StoredOverride, Tx};
use crate::vault::Vault;

/// The fact that a key was ever configured, so that open access has to be said from then on.
const KEYS: &str = "keys_ever";

/// What is stored.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct State {
    pub(super) revision: u64,
    pub(super) objects: Vec<StoredObject>,
    pub(super) overrides: Vec<StoredOverride>,
    /// Those that objects refer to, by id.
    pub(super) sealed: BTreeMap<String, SealedRow>,
    /// A key was configured once.
    pub(super) keys_ever: bool,
}

/// What a version holds.
#[derive(Serialize, Deserialize)]
struct Kept<O, V> {
    format: u32,
    objects: O,
    overrides: V,
}

/// Of [`Kept`].
const FORMAT: u32 = 1;

impl State {
    pub(super) fn read(tx: &Tx) -> Result<Self, StoreError> {
        let mut sealed = BTreeMap::new();
        let mut after = String::new();
        loop {
            let page = tx.sealed_rows(LIST_MAX, &after)?;
            let full = page.len() == LIST_MAX;
            if let Some(last) = page.last() {
                after.clone_from(&last.id);
            }
            sealed.extend(page.into_iter().map(|row| (row.id.clone(), row)));
            if !full {
                break;
            }
        }
        let mut state = Self {
            revision: tx.revision()?,
            objects: tx.objects(None)?,
            overrides: tx.overrides()?,
            sealed,
            keys_ever: tx.meta(KEYS)?.is_some(),
        };
        state.forget_unused();
        Ok(state)
    }

    /// Former values of credentials stay in the store for its versions, but not here.
    pub(super) fn forget_unused(&mut self) {
        let used: BTreeSet<String> = self
            .objects
            .iter()
            .flat_map(|object| references(object.kind, &object.body))
            .map(|(_, id)| id)
            .collect();
        self.sealed.retain(|id, _| used.contains(id));
    }

    /// References to sealed values that are not here.
    pub(super) fn missing_credentials(&self) -> Vec<String> {
        let all = self.objects.iter().flat_map(|object| references(object.kind, &object.body));
        all.map(|(_, id)| id).filter(|id| !self.sealed.contains_key(id)).collect()
    }

    pub(super) fn remember_keys(tx: &Tx) -> Result<(), StoreError> {
        tx.set_meta(KEYS, "true")
    }

    pub(super) const fn credentials<'a>(&'a self, vault: &'a Vault) -> SealedRows<'a> {
        SealedRows { vault, rows: &self.sealed }
    }

    /// Its objects by id, to compare many.
    pub(super) fn by_id(&self) -> HashMap<&str, &StoredObject> {
        self.objects.iter().map(|object| (object.id.as_str(), object)).collect()
    }

    pub(super) fn object(&self, id: &str) -> Option<&StoredObject> {
        self.objects.iter().find(|object| object.id == id)
    }

    pub(super) fn object_mut(&mut self, id: &str) -> Option<&mut StoredObject> {
        self.objects.iter_mut().find(|object| object.id == id)
    }

    pub(super) fn over(&self, kind: ObjectKind, name: &str) -> Option<&StoredOverride> {
        self.overrides.iter().find(|over| over.kind == kind && over.name == name)
    }

    /// The JSON that a version keeps.
    pub(super) fn to_json(&self) -> Result<String, RegistryError> {
        let kept = Kept { format: FORMAT, objects: &self.objects, overrides: &self.overrides };
        serde_json::to_string(&kept).map_err(|_| RegistryError::Damaged("not JSON".to_owned()))
    }

    /// What a version kept; its credentials are those of `sealed` that are still there.
    pub(super) fn of_json(text: &str) -> Result<Self, RegistryError> {
        let kept: Kept<Vec<StoredObject>, Vec<StoredOverride>> = serde_json::from_str(text)
            .map_err(|_| RegistryError::Damaged("this version cannot be read".to_owned()))?;
        if kept.format != FORMAT {
            return Err(RegistryError::Damaged("this version is of another format".to_owned()));
        }
        Ok(Self { objects: kept.objects, overrides: kept.overrides, ..Self::default() })
    }

    /// Gives every object and override that differs from `before` the new revision.
    pub(super) fn stamp(&mut self, before: &Self, revision: u64, now: u64) {
        self.revision = revision;
        let known = before.by_id();
        for object in &mut self.objects {
            let old = known.get(object.id.as_str());
            if !old.is_some_and(|old| old.name == object.name && old.body == object.body) {
                object.revision = revision;
                object.updated_at = now;
            }
        }
        for over in &mut self.overrides {
            if before.over(over.kind, &over.name).is_none_or(|old| old.body != over.body) {
                over.revision = revision;
                over.updated_at = now;
            }
        }
    }

    /// Keeps with each object why it takes no part.
    pub(super) fn set_disabled(&mut self, conflicts: &[Conflict]) {
        for object in &mut self.objects {
            let of = |conflict: &&Conflict| conflict.id.as_ref() == Some(&object.id);
            object.disabled = conflicts.iter().find(of).map(Conflict::text);
        }
    }

    /// Writes what differs from `before`.
    pub(super) fn write(&self, before: &Self, tx: &Tx) -> Result<(), StoreError> {
        let (old, new) = (before.by_id(), self.by_id());
        // Names first become free, then taken.
        for gone in before.objects.iter().filter(|object| !new.contains_key(object.id.as_str())) {
            tx.delete_object(gone.kind, &gone.id)?;
        }
        for object in &self.objects {
            if old.get(object.id.as_str()) != Some(&object) {
                tx.put_object(object)?;
            }
        }
        for gone in &before.overrides {
            if self.over(gone.kind, &gone.name).is_none() {
                tx.delete_override(gone.kind, &gone.name)?;
            }
        }
        for over in &self.overrides {
            if before.over(over.kind, &over.name) != Some(over) {
                tx.put_override(over)?;
            }
        }
        Ok(())
    }
}
