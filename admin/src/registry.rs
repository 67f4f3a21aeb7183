//! The registry: the desired state that file and admin API make up together, validated as one and published.
//!
//! Every change is one transaction that reads the state anew, because other processes may write as well; it is merged with the base and
//! compiled by the same step that compiles files before anything is written, and published once it is on the disk.

mod base;
mod change;
mod credentials;
mod desired;
mod draft;
mod error;
mod export;
mod follow;
mod import;
mod index;
mod kept;
mod merge;
mod object;
mod open;
mod packed;
mod patch;
mod problem;
mod referrers;
mod render;
mod state;
mod versions;
mod write;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{SystemTime, UNIX_EPOCH};

use config::Config;
use router::planes::Publish;
use router::spec::{Catalog, SnapshotSpec};

pub use self::base::Base;
pub use self::change::{Applied, Change, Imported, Written};
pub use self::credentials::Credentials;
pub use self::desired::{Conflict, Desired};
pub use self::error::RegistryError;
pub use self::follow::FOLLOW_EVERY;
pub use self::merge::merge;
pub use self::object::{Body, Etag, IfMatch, Object, Origin};
pub use self::problem::Problem;
use self::state::State;
use crate::store::{ObjectKind, Store, StoreError};
use crate::vault::Vault;

/// From a configuration to what the data plane takes.
pub type Compile = Arc<dyn Fn(&Config) -> SnapshotSpec + Send + Sync>;

/// A handle to the registry; clones share it.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    vault: Vault,
    publish: Option<Arc<dyn Publish>>,
    compile: Compile,
    /// The store's file, also when it cannot be opened.
    path: PathBuf,
    store: Mutex<Result<Store, StoreError>>,
    current: Mutex<Current>,
    /// Why the store is not in use.
    degraded: Mutex<Option<String>>,
    /// The thread that follows other writers.
    follower: Mutex<Option<Thread>>,
}

/// What is in force. Whoever holds its lock publishes, so that the data plane sees changes in their order.
struct Current {
    base: Arc<Base>,
    /// The base's configuration when the process started.
    started: Arc<Config>,
    state: Arc<State>,
    desired: Arc<Desired>,
    /// The snapshot that it became.
    applied: Option<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Unix milliseconds.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Registry {
    /// Why the store is not in use now, when it is not: the state is then that of the last good one.
    #[must_use]
    pub fn degraded(&self) -> Option<String> {
        lock(&self.inner.degraded).clone()
    }

    /// The store, if it could be opened.
    ///
    /// # Errors
    /// Why it could not.
    pub fn store(&self) -> Result<Store, StoreError> {
        lock(&self.inner.store).clone()
    }

    /// What is in force.
    #[must_use]
    pub fn desired(&self) -> Arc<Desired> {
        Arc::clone(&lock(&self.inner.current).desired)
    }

    /// The snapshot that the desired state became; `None` = no data plane runs in this process.
    #[must_use]
    pub fn applied(&self) -> Option<u64> {
        lock(&self.inner.current).applied
    }

    /// One object by its name, else by its id. Models that are only served are looked for in `catalog`.
    #[must_use]
    pub fn object(&self, kind: ObjectKind, id_or_name: &str, catalog: &Catalog) -> Option<Object> {
        self.desired().object(kind, id_or_name, catalog)
    }

    /// All objects of a kind, by name.
    #[must_use]
    pub fn objects(&self, kind: ObjectKind, catalog: &Catalog) -> Vec<Object> {
        self.desired().objects(kind, catalog)
    }

    /// Everything in force with its origin, defaults filled in, credentials hidden.
    #[must_use]
    pub fn effective(&self) -> String {
        config::effective(&self.desired().loaded)
    }
}

impl Inner {
    /// Merges a state with the base.
    fn merge(&self, base: &Base, state: &State) -> Desired {
        let credentials = state.credentials(&self.vault);
        let State { objects, overrides, .. } = state;
        merge(base, objects, overrides, &credentials, &self.compile, state.revision)
    }

    /// Hands what is desired to the data plane of this process.
    fn publish(&self, desired: &Desired) -> Result<Option<u64>, RegistryError> {
        let Some(publish) = &self.publish else { return Ok(None) };
        publish.publish(desired.spec.clone()).map(Some).map_err(|errors| {
            RegistryError::Publish(errors.iter().map(ToString::to_string).collect())
        })
    }

    /// Puts a state into force; nothing changes when the data plane refuses it.
    fn install(
        &self,
        current: &mut Current,
        state: Arc<State>,
        desired: Arc<Desired>,
    ) -> Result<(), RegistryError> {
        current.applied = self.publish(&desired)?;
        current.state = state;
        current.desired = desired;
        self.keep(&current.state);
        Ok(())
    }
}
