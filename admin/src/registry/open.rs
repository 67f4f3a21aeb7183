//! The start of a registry, and new bases while it runs.

use std::path::Path;
use std::sync::{Arc, Mutex};

use config::Config;
use router::planes::Publish;
use serde_json::json;

use super::base::Base;
use super::change::Applied;
use super::desired::{Conflict, Desired};
use super::error::RegistryError;
use super::state::State;
use super::{Compile, Current, Inner, Registry, lock, now};
use crate::store::{Role, Store, StoreError, Tx};
use crate::vault::Vault;

impl Registry {
    /// Merges the base with what is stored, and publishes it. Where the store cannot be opened or read, the last good state beside
    /// `path` stands in, and [`Registry::degraded`] says so. `publish` is `None` where no data plane runs in this process.
    ///
    /// # Errors
    /// [`RegistryError::AuthUnsaid`], [`RegistryError::Publish`]; a store that is damaged or gone is no error here.
    pub fn open(
        store: Result<Store, StoreError>,
        path: &Path,
        vault: Vault,
        base: Base,
        publish: Option<Arc<dyn Publish>>,
        compile: Compile,
    ) -> Result<Self, RegistryError> {
        let read = store.as_ref().map_err(Clone::clone);
        let read = read.and_then(|store| store.read_blocking(State::read));
        let (state, degraded) = match read {
            Ok(state) => (state, None),
            Err(error) => {
                let (state, found) = Self::last_good(path);
                let degraded = format!("the store is not in use ({error}); {found}");
                (state, Some(degraded))
            }
        };
        if let Some(why) = &degraded {
            tracing::error!(store = %path.display(), "{why}");
        }
        let started = Arc::new(base.loaded.config.clone());
        let inner = Inner {
            vault,
            publish,
            compile,
            path: path.to_owned(),
            store: Mutex::new(store),
            degraded: Mutex::new(degraded),
            follower: Mutex::new(None),
            current: Mutex::new(Current {
                state: Arc::new(State::default()),
                desired: Arc::new(Desired::nothing(&base)),
                base: Arc::new(base),
                started,
                applied: None,
            }),
        };
        let registry = Self { inner: Arc::new(inner) };
        registry.renew(Some((state, 0)), None)?;
        Ok(registry)
    }

    /// Merges a new base, a file that was read again for one, and publishes it. Stored objects that conflict with it take no part
    /// until the conflict is gone.
    ///
    /// # Errors
    /// [`RegistryError::AuthUnsaid`], [`RegistryError::Publish`]; the old base stays.
    pub fn set_base(&self, base: Base) -> Result<Applied, RegistryError> {
        self.renew(None, Some(base))?;
        let current = lock(&self.inner.current);
        Ok(Applied {
            version: current.applied,
            needs_restart: config::needs_restart(&current.started, &current.base.loaded.config),
            conflicts: current.desired.conflicts.clone(),
        })
    }

    /// Puts a new base, or what was read of the store, into force, and writes down which objects take no part. With what was read comes
    /// the revision that it is meant to replace: where something else has come into force since, nothing is done, and `false` says so.
    pub(super) fn renew(
        &self,
        read: Option<(State, u64)>,
        base: Option<Base>,
    ) -> Result<bool, RegistryError> {
        let mut current = lock(&self.inner.current);
        let mut state = match read {
            None => State::clone(&current.state),
            Some((state, known)) if known == current.state.revision => state,
            Some(_) => return Ok(false),
        };
        let base = base.map_or_else(|| Arc::clone(&current.base), Arc::new);
        check_auth(&base.loaded.config, &state)?;
        let desired = Arc::new(self.inner.merge(&base, &state));
        let read = state.clone();
        state.set_disabled(&desired.conflicts);
        let keys = !base.loaded.config.keys.is_empty() && !state.keys_ever;
        state.keys_ever |= keys;
        let (before, now) = (current.desired.conflicts.clone(), desired.conflicts.clone());
        let state = Arc::new(state);
        self.inner.install(&mut current, Arc::clone(&state), desired)?;
        current.base = base;
        // The store's thread takes this lock too, so it must not be held while that thread is waited for.
        drop(current);
        self.note(&read, &state, &before, now);
        Ok(true)
    }

    /// Writes down what took part and what did not. Best effort: no merge needs it.
    fn note(
        &self,
        read: &State,
        state: &Arc<State>,
        before: &[Conflict],
        conflicts: Vec<Conflict>,
    ) {
        let Ok(store) = self.store() else { return };
        let same = *read == **state && changed(before, &conflicts).next().is_none();
        if store.role() != Role::Writer || same {
            return;
        }
        let (state, keys) = (Arc::clone(state), state.keys_ever && !read.keys_ever);
        let (read, before) = (read.clone(), before.to_vec());
        let written = store.write_blocking(move |tx| {
            if keys {
                State::remember_keys(tx)?;
            }
            // What another process has written since, it has also looked at.
            if tx.revision()? == state.revision {
                state.write(&read, tx)?;
            }
            tell_conflicts(&conflicts, &before, now(), tx)
        });
        if let Err(error) = written {
            tracing::warn!(%error, "which stored objects are disabled cannot be written down");
        }
    }
}

/// What takes no part any more, or takes part again: the word for it and the conflict.
fn changed<'a>(
    before: &'a [Conflict],
    now: &'a [Conflict],
) -> impl Iterator<Item = (&'static str, &'a Conflict)> {
    let new = now.iter().filter(|one| !before.iter().any(|old| old.is_of(one)));
    let gone = before.iter().filter(|old| !now.iter().any(|one| one.is_of(old)));
    new.map(|one| ("disabled", one)).chain(gone.map(|one| ("enabled", one)))
}

/// Adds events about conflicts that are new or gone.
pub(super) fn tell_conflicts(
    conflicts: &[Conflict],
    before: &[Conflict],
    now: u64,
    tx: &Tx,
) -> Result<(), StoreError> {
    for (word, conflict) in changed(before, conflicts) {
        let what = if conflict.id.is_some() { "object" } else { "override" };
        let detail = json!({"kind": conflict.kind.as_str(), "what": what, "why": conflict.text()});
        tx.add_event(now, &format!("registry.{word}"), &conflict.name, &detail)?;
    }
    Ok(())
}

/// Open access is the default only as long as no key was ever configured (DESIGN 9).
fn check_auth(config: &Config, state: &State) -> Result<(), RegistryError> {
    if state.keys_ever && !config.auth.said {
        return Err(RegistryError::AuthUnsaid);
    }
    Ok(())
}
