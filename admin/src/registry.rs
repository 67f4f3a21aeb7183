//! The registry: the desired state that file and admin API make up together, validated as one and published.

mod base;
mod change;
mod credentials;
mod desired;
mod error;
mod object;
mod problem;
mod render;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use config::{Config, Loaded};
use router::planes::Publish;
use router::spec::{Catalog, SnapshotSpec};

pub use self::base::Base;
pub use self::change::{Applied, Change, Imported, Written};
pub use self::desired::{Conflict, Desired};
pub use self::error::RegistryError;
pub use self::object::{Body, Etag, IfMatch, Object, Origin};
pub use self::problem::Problem;
use crate::store::{ObjectKind, Store, StoreError, VersionHead};

/// From a configuration to what the data plane takes.
pub type Compile = Arc<dyn Fn(&Config) -> SnapshotSpec + Send + Sync>;

/// A handle to the registry; clones share it.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    desired: Arc<Desired>,
}

fn later<T>() -> Result<T, RegistryError> {
    Err(RegistryError::Follower)
}

#[expect(clippy::unused_async, clippy::missing_errors_doc, reason = "the bodies follow")]
impl Registry {
    /// Merges the base with what is stored, and publishes it. Without a store that can be read, the last good state beside
    /// `path` stands in, and [`Registry::degraded`] says so. `publish` is `None` where no data plane runs in this process.
    pub fn open(
        _store: Result<Store, StoreError>,
        _path: &Path,
        _base: Base,
        _publish: Option<Arc<dyn Publish>>,
        _compile: Compile,
    ) -> Result<Self, RegistryError> {
        later()
    }

    /// Why the store is not in use, when it is not.
    #[must_use]
    pub fn degraded(&self) -> Option<String> {
        None
    }

    /// What is in force.
    #[must_use]
    pub fn desired(&self) -> Arc<Desired> {
        Arc::clone(&self.inner.desired)
    }

    /// One object by its id, else by its name.
    #[must_use]
    pub fn object(
        &self,
        _kind: ObjectKind,
        _id_or_name: &str,
        _catalog: &Catalog,
    ) -> Option<Object> {
        None
    }

    /// All objects of a kind, by name.
    #[must_use]
    pub fn objects(&self, _kind: ObjectKind, _catalog: &Catalog) -> Vec<Object> {
        Vec::new()
    }

    /// Makes an object; a name that is only discovered is declared by it.
    pub async fn create(
        &self,
        _kind: ObjectKind,
        _body: Body,
        _change: Change,
    ) -> Result<Written, RegistryError> {
        later()
    }

    /// Puts another object in an object's place; credentials that are absent (or sent as they are shown) stay.
    pub async fn replace(
        &self,
        _kind: ObjectKind,
        _id: &str,
        _body: Body,
        _change: Change,
    ) -> Result<Written, RegistryError> {
        later()
    }

    /// Applies a merge patch (RFC 7396). Of a file's or a discovered object it changes the override.
    pub async fn patch(
        &self,
        _kind: ObjectKind,
        _id: &str,
        _patch: Body,
        _change: Change,
    ) -> Result<Written, RegistryError> {
        later()
    }

    /// Removes a stored object that nothing refers to.
    pub async fn delete(
        &self,
        _kind: ObjectKind,
        _id: &str,
        _change: Change,
    ) -> Result<Written, RegistryError> {
        later()
    }

    /// Gives a model its home region.
    pub async fn set_region(
        &self,
        _model: &str,
        _region: &str,
        _change: Change,
    ) -> Result<Written, RegistryError> {
        later()
    }

    /// Gives a model the head that is tried first; one outside of its regions is refused, naming those that would do.
    pub async fn set_priority_head(
        &self,
        _model: &str,
        _head: &str,
        _change: Change,
    ) -> Result<Written, RegistryError> {
        later()
    }

    /// Puts an override in the place of an object's former one.
    pub async fn set_override(
        &self,
        _kind: ObjectKind,
        _id: &str,
        _body: Body,
        _change: Change,
    ) -> Result<Written, RegistryError> {
        later()
    }

    /// Removes an object's override.
    pub async fn clear_override(
        &self,
        _kind: ObjectKind,
        _id: &str,
        _change: Change,
    ) -> Result<Written, RegistryError> {
        later()
    }

    /// Gives a key a new secret; the old one is refused from then on.
    pub async fn rotate_key(&self, _id: &str, _change: Change) -> Result<Written, RegistryError> {
        later()
    }

    /// Makes the stored objects those of an exported text, all or none of them.
    pub async fn import(
        &self,
        _toml: String,
        _dry_run: bool,
        _change: Change,
    ) -> Result<Imported, RegistryError> {
        later()
    }

    /// Makes stored objects and overrides what they were in a version.
    pub async fn rollback(&self, _version: u64, _change: Change) -> Result<Written, RegistryError> {
        later()
    }

    /// Versions, newest first.
    pub async fn versions(
        &self,
        _limit: usize,
        _before: Option<u64>,
    ) -> Result<Vec<VersionHead>, RegistryError> {
        later()
    }

    /// One version, its stored objects and overrides as TOML without credentials.
    pub async fn version(&self, _number: u64) -> Result<(VersionHead, String), RegistryError> {
        later()
    }

    /// What differs between two versions, as a unified diff of their TOML.
    pub async fn diff(&self, _from: u64, _to: u64) -> Result<String, RegistryError> {
        later()
    }

    /// The whole registry as one TOML file; credentials are `${file:secrets/..}`.
    #[must_use]
    pub fn export(&self) -> String {
        String::new()
    }

    /// Everything in force with its origin, defaults filled in, credentials hidden.
    #[must_use]
    pub fn effective(&self) -> String {
        String::new()
    }

    /// Merges a new base, a file that was read again for one, and publishes it.
    pub fn set_base(&self, _base: Base) -> Result<Applied, RegistryError> {
        later()
    }

    /// Looks for changes of the store by others on a thread of its own, which ends with the last handle; `reopen` is tried
    /// while there is no store.
    pub fn follow(
        &self,
        _every: Duration,
        _reopen: impl Fn() -> Result<Store, StoreError> + Send + 'static,
    ) -> Result<(), RegistryError> {
        later()
    }

    /// The base's configuration with everything that is stored.
    #[must_use]
    pub fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.inner.desired.loaded)
    }
}
