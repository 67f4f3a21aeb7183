//! What can be wrong with sealed secrets, and the look at all of them before anything starts.

use std::sync::Arc;

use super::{RecordId, Vault};
use crate::store::{Store, StoreError, Tx};

/// Why a secret was not sealed or opened. Shows no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// There is no master key.
    #[error(
        "no master key is set: set FOREBAY_MASTER_KEY, or `store.master_key` in the file, to 32 bytes as hexadecimal digits or \
         base64 (openssl rand -hex 32)"
    )]
    NoKey,
    /// The secret is sealed under a master key that is not here.
    #[error(
        "the master key with the id {0} is missing: set FOREBAY_MASTER_KEY (`store.master_key` in the file) to the key that sealed \
         the stored secrets, or FOREBAY_MASTER_KEY_PREVIOUS (`store.master_key_previous`) if it has been replaced"
    )]
    UnknownKey(String),
    /// The secret was sealed for something else, or it was changed.
    #[error("the stored secret of {} {}, field {}, does not open: it was changed or moved", .0.owner_kind, .0.owner_id, .0.field)]
    Refused(RecordId),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Vault {
    /// The vault of a store that was just opened, if it opens what is sealed there: see [`Vault::check`]. Blocks.
    ///
    /// # Errors
    /// As [`Vault::check`].
    pub fn of_store(self, store: &Store) -> Result<Arc<Self>, VaultError> {
        let vault = Arc::new(self);
        let checked = vault.clone();
        store.read_blocking(move |tx| checked.check(tx))?;
        Ok(vault)
    }

    /// Looks before anything starts whether every sealed secret could be opened: every key must be here, and the first row of each
    /// must open.
    ///
    /// # Errors
    /// Which master key is missing and how to set it; as [`VaultError`].
    pub fn check(&self, tx: &Tx) -> Result<(), VaultError> {
        for row in tx.sealed_samples()? {
            // With no key at all, too, the answer names the one that is missing.
            self.key(&row.key_id).map_err(|_| VaultError::UnknownKey(row.key_id.clone()))?;
            self.open_row(&row)?;
        }
        Ok(())
    }
}
