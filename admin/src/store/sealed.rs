//! Rows of sealed secrets. What is in them is the vault's business.

use rusqlite::{Row, params};

use super::tx::bounded;
use super::{StoreError, Tx};

/// One sealed secret and what may be shown of it.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedRow {
    /// What stored objects refer to.
    pub id: String,
    /// The kind of what it belongs to: `backend`, for one.
    pub owner_kind: String,
    /// The id of what it belongs to.
    pub owner_id: String,
    /// The field that it is the value of: `api_key`, for one.
    pub field: String,
    /// Which master key opens it, as 16 hexadecimal digits.
    pub key_id: String,
    /// Format version, nonce, ciphertext and tag.
    pub sealed: Vec<u8>,
    /// The last four characters of a secret that is long enough to show them.
    pub last4: Option<String>,
    /// Tells equal secrets from different ones, to whoever has the master key: 16 hexadecimal digits.
    pub fingerprint: String,
    /// Unix time, milliseconds.
    pub updated_at: u64,
}

impl std::fmt::Debug for SealedRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedRow")
            .field("id", &self.id)
            .field("owner", &format_args!("{} {} {}", self.owner_kind, self.owner_id, self.field))
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

const COLUMNS: &str =
    "id, owner_kind, owner_id, field, key_id, sealed, last4, fingerprint, updated_at";

fn read(row: &Row<'_>) -> Result<SealedRow, StoreError> {
    Ok(SealedRow {
        id: row.get(0)?,
        owner_kind: row.get(1)?,
        owner_id: row.get(2)?,
        field: row.get(3)?,
        key_id: row.get(4)?,
        sealed: row.get(5)?,
        last4: row.get(6)?,
        fingerprint: row.get(7)?,
        updated_at: row.get(8)?,
    })
}

impl Tx {
    /// A sealed row by its id.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn sealed(&self, id: &str) -> Result<Option<SealedRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM sealed WHERE id = ?1");
        self.first(&sql, [id], read)
    }

    /// The sealed rows of one owner, by field.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn sealed_of(
        &self,
        owner_kind: &str,
        owner_id: &str,
    ) -> Result<Vec<SealedRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM sealed WHERE owner_kind = ?1 AND owner_id = ?2 ORDER BY field LIMIT ?3"
        );
        self.rows(&sql, params![owner_kind, owner_id, bounded(usize::MAX)], read)
    }

    /// Sealed rows by id, after `after`.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn sealed_rows(&self, limit: usize, after: &str) -> Result<Vec<SealedRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM sealed WHERE id > ?1 ORDER BY id LIMIT ?2");
        self.rows(&sql, params![after, bounded(limit)], read)
    }

    /// Sealed rows under other master keys than this one, by id, after `after`.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn sealed_under_others(
        &self,
        key_id: &str,
        limit: usize,
        after: &str,
    ) -> Result<Vec<SealedRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM sealed WHERE id > ?1 AND key_id <> ?2 ORDER BY id LIMIT ?3"
        );
        self.rows(&sql, params![after, key_id, bounded(limit)], read)
    }

    /// One sealed row of each master key in use.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn sealed_samples(&self) -> Result<Vec<SealedRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM sealed WHERE id IN (SELECT min(id) FROM sealed GROUP BY key_id)
             ORDER BY key_id LIMIT ?1"
        );
        self.rows(&sql, [bounded(usize::MAX)], read)
    }

    /// Makes a sealed row, or replaces the one with its id.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when another row is the value of this owner's field.
    pub fn put_sealed(&self, row: &SealedRow) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO sealed (id, owner_kind, owner_id, field, key_id, sealed, last4, fingerprint, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (id) DO UPDATE SET owner_kind = ?2, owner_id = ?3, field = ?4, key_id = ?5, sealed = ?6,
                                            last4 = ?7, fingerprint = ?8, updated_at = ?9",
            params![
                row.id,
                row.owner_kind,
                row.owner_id,
                row.field,
                row.key_id,
                row.sealed,
                row.last4,
                row.fingerprint,
                row.updated_at
            ],
        )?;
        Ok(())
    }

    /// Removes a sealed row; false when there is none.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn delete_sealed(&self, id: &str) -> Result<bool, StoreError> {
        Ok(self.execute("DELETE FROM sealed WHERE id = ?1", [id])? > 0)
    }
}
