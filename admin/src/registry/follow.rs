//! What other processes write takes effect here too.

use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use super::error::RegistryError;
use super::state::State;
use super::{Inner, Registry, lock};
use crate::store::{Role, Store, StoreError};

/// How often the store is looked at (DESIGN 11).
pub const FOLLOW_EVERY: Duration = Duration::from_millis(500);

impl Registry {
    /// Looks for changes by other processes on a thread of its own, which ends with the registry's last handle. While there is no
    /// store, or another one was put in its place, `reopen` is tried each time. A store that is gone or cannot be read changes nothing here.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn follow(
        &self,
        every: Duration,
        reopen: impl Fn() -> Result<Store, StoreError> + Send + 'static,
    ) -> io::Result<()> {
        let inner = Arc::downgrade(&self.inner);
        let thread = thread::Builder::new().name("registry".to_owned());
        let started = thread.spawn(move || run(&inner, every, &reopen))?;
        *lock(&self.inner.follower) = Some(started.thread().clone());
        Ok(())
    }

    /// Has the store looked at now: somebody met a state of it that is not known here yet.
    pub(super) fn hurry(&self) {
        if let Some(follower) = &*lock(&self.inner.follower) {
            follower.unpark();
        }
    }

    /// Looks once. `seen` is the store's version at the last look.
    pub(super) fn look(&self, seen: &mut Option<u64>) -> Result<(), RegistryError> {
        let store = self.store()?;
        let version = store.data_version_blocking()?;
        if *seen == Some(version) {
            return Ok(());
        }
        let known = lock(&self.inner.current).state.revision;
        let state = store.read_blocking(move |tx| {
            // Most changes of the file are not the registry's: samples, events.
            if tx.revision()? == known {
                Ok::<_, StoreError>(None)
            } else {
                State::read(tx).map(Some)
            }
        })?;
        if let Some(state) = state {
            // Where a write of this process came in between, the next look finds out.
            if !self.renew(Some((state, known)), None)? {
                return Ok(());
            }
            tracing::info!("the registry follows a change by another process");
        }
        *seen = Some(version);
        Ok(())
    }

    /// Says what is wrong, once for as long as it stays the same.
    fn report(&self, outcome: Result<(), RegistryError>) {
        let mut degraded = lock(&self.inner.degraded);
        match outcome {
            Ok(()) => {
                if degraded.take().is_some() {
                    tracing::info!("the store is in use again");
                }
            }
            // A writer that holds the lock is no fault.
            Err(RegistryError::Store(StoreError::Busy)) => {}
            Err(error) => {
                let text = error.to_string();
                if !degraded.as_ref().is_some_and(|said| said.contains(&text)) {
                    tracing::error!(%error, "the store is not in use; what is in force stays");
                    *degraded =
                        Some(format!("the store is not in use ({text}); what is in force stays"));
                }
            }
        }
    }
}

fn run(inner: &Weak<Inner>, every: Duration, reopen: &dyn Fn() -> Result<Store, StoreError>) {
    let mut seen = None;
    loop {
        thread::park_timeout(every);
        let Some(inner) = inner.upgrade() else { return };
        let registry = Registry { inner };
        // A writer's files are not replaced while it runs; followers need not be stopped for it.
        let replaced = |store: Store| store.role() == Role::Follower && store.is_replaced();
        if registry.store().map_or(true, replaced) {
            let opened = reopen();
            if opened.is_ok() {
                seen = None;
            }
            *lock(&registry.inner.store) = opened;
        }
        let outcome = registry.look(&mut seen);
        registry.report(outcome);
    }
}
