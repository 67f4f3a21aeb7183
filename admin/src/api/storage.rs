//! The store as the API reaches it: it may be out of reach, and come back.

use std::sync::Arc;

use crate::store::{Store, StoreError, Tx};

/// Gives the store where it is open, and otherwise why it is not. Called for every access, so it must be quick.
pub type StoreSource = Arc<dyn Fn() -> Result<Store, StoreError> + Send + Sync>;

/// The store, or the reason why there is none.
pub(crate) struct Storage(pub(crate) StoreSource);

impl Storage {
    /// The store itself, for longer work.
    ///
    /// # Errors
    /// The reason why there is none.
    pub(crate) fn get(&self) -> Result<Store, StoreError> {
        (self.0)()
    }

    /// As [`Store::read`].
    ///
    /// # Errors
    /// As [`Store::read`], and the reason why there is no store.
    pub(crate) async fn read<T, E, F>(&self, job: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Tx) -> Result<T, E> + Send + 'static,
    {
        let store = (self.0)()?;
        store.read(job).await
    }

    /// As [`Store::write`].
    ///
    /// # Errors
    /// As [`Store::write`], and the reason why there is no store.
    pub(crate) async fn write<T, E, F>(&self, job: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Tx) -> Result<T, E> + Send + 'static,
    {
        let store = (self.0)()?;
        store.write(job).await
    }
}
