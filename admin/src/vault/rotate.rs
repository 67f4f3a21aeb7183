//! A new master key: everything is sealed again under it, a few rows at a time, while reads go on.
//!
//! Each batch is one transaction, and a row is under the old key or under the new one. So an interruption anywhere leaves every secret
//! readable to whoever has both, and a second run does the rest.

use super::{RecordId, Vault, VaultError};
use crate::store::{SealedRow, Store, Tx};

/// Rows that one transaction seals again.
pub const ROTATE_BATCH: usize = 64;
/// Rows that would not open and are named in the result.
pub const REFUSED_SHOWN: usize = 100;

/// What a rotation did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rotated {
    /// Rows that are now under the first key and were not before.
    pub resealed: u64,
    /// Rows that did not open and were left as they are; at most [`REFUSED_SHOWN`] are named.
    pub refused: Vec<RecordId>,
}

impl Rotated {
    fn report(&self) {
        let Self { resealed, refused } = self;
        if *resealed > 0 {
            tracing::info!(resealed, "stored secrets were sealed again under the new master key");
        }
        for record in refused {
            let RecordId { owner_kind, owner_id, field } = record;
            tracing::warn!(
                owner_kind,
                owner_id,
                field,
                "a stored secret does not open and stays as it is"
            );
        }
    }
}

/// Seals all rows again under the vault's first key. To be run after `store.master_key` was replaced and the former one is
/// `store.master_key_previous`.
///
/// # Errors
/// [`VaultError::NoKey`]; [`VaultError::Store`]. Rows that do not open are no error.
pub async fn rotate(store: &Store, vault: &std::sync::Arc<Vault>) -> Result<Rotated, VaultError> {
    let mut rotated = Rotated::default();
    let mut after = String::new();
    loop {
        let (vault, from) = (vault.clone(), after);
        let batch = store.write(move |tx| rotate_batch(tx, &vault, &from, ROTATE_BATCH)).await?;
        rotated.resealed += batch.resealed;
        let room = REFUSED_SHOWN.saturating_sub(rotated.refused.len());
        rotated.refused.extend(batch.refused.into_iter().take(room));
        match batch.last {
            Some(last) => after = last,
            None => {
                rotated.report();
                return Ok(rotated);
            }
        }
    }
}

/// What one transaction did.
pub(super) struct Batch {
    pub(super) resealed: u64,
    refused: Vec<RecordId>,
    /// The last row that was looked at; `None` at the end.
    pub(super) last: Option<String>,
}

pub(super) fn rotate_batch(
    tx: &Tx,
    vault: &Vault,
    after: &str,
    limit: usize,
) -> Result<Batch, VaultError> {
    let rows = tx.sealed_under_others(vault.first()?.id().as_str(), limit, after)?;
    let mut batch =
        Batch { resealed: 0, refused: Vec::new(), last: rows.last().map(|row| row.id.clone()) };
    for row in rows {
        let record = RecordId::new(&row.owner_kind, &row.owner_id, &row.field);
        match vault.open_row(&row) {
            Ok(secret) => {
                let sealed = vault.seal(&record, &secret)?;
                let row: SealedRow = sealed.into_row(&row.id, &record, row.updated_at);
                tx.put_sealed(&row)?;
                batch.resealed += 1;
            }
            Err(_) => batch.refused.push(record),
        }
    }
    Ok(batch)
}
