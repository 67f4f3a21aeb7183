//! The vault: secrets of stored objects, sealed under a master key that is nowhere in the store.
//!
//! A sealed secret belongs to one field of one record: moved to another it does not open, nor with a changed bit, nor under another
//! key. Nothing here can be printed so that a secret shows.

mod check;
mod master;
mod rotate;
mod seal;

use std::fmt;

pub use self::check::VaultError;
pub use self::master::{KeyError, KeyId, MasterKey};
pub use self::rotate::{REFUSED_SHOWN, ROTATE_BATCH, Rotated, rotate};
pub use self::seal::{LAST4_FROM, RecordId, Sealed};

/// Seals and opens secrets. Without a key it does neither.
pub struct Vault {
    /// The first seals, all of them open.
    keys: Vec<MasterKey>,
}

impl Vault {
    /// A vault with these keys: the first seals, all of them open.
    #[must_use]
    pub const fn new(keys: Vec<MasterKey>) -> Self {
        Self { keys }
    }

    /// A vault without a key: it seals nothing, and opens nothing.
    #[must_use]
    pub const fn none() -> Self {
        Self { keys: Vec::new() }
    }

    /// The vault of a configuration: `store.master_key`, and `store.master_key_previous` while it is being replaced.
    ///
    /// # Errors
    /// A key that is not 32 bytes.
    pub fn of_config(store: &config::StoreConfig) -> Result<Self, KeyError> {
        let keys = [&store.master_key, &store.master_key_previous];
        let keys = keys.into_iter().flatten().map(|key| MasterKey::parse(key.expose()));
        Ok(Self::new(keys.collect::<Result<_, _>>()?))
    }

    /// Whether it can seal.
    #[must_use]
    pub const fn can_seal(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The key that seals.
    fn first(&self) -> Result<&MasterKey, VaultError> {
        self.keys.first().ok_or(VaultError::NoKey)
    }

    /// The key of this id.
    fn key(&self, id: &str) -> Result<&MasterKey, VaultError> {
        let unknown = || match self.keys.is_empty() {
            true => VaultError::NoKey,
            false => VaultError::UnknownKey(id.to_owned()),
        };
        self.keys.iter().find(|key| key.id().as_str() == id).ok_or_else(unknown)
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(MasterKey::id)).finish()
    }
}

#[cfg(test)]
mod tests;
