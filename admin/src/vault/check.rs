//! What can be wrong with sealed secrets, and the look at all of them before anything starts.

use super::{RecordId, Vault};
use crate::store::{StoreError, Tx};

/// Why a secret was not sealed or opened. Shows no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// There is no master key.
    #[error(
        "no master key is set: set `store.master_key`, or FOREBAY_MASTER_KEY with the default configuration, to 32 bytes \
         (openssl rand -hex 32)"
    )]
    NoKey,
    /// The secret is sealed under a master key that is not here.
    #[error(
        "the master key {0} is missing: set `store.master_key` (FOREBAY_MASTER_KEY with the default configuration) to the key that \
         sealed the stored secrets, or `store.master_key_previous` if it has been replaced"
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
