//! Versions: what all stored objects and overrides were after each change, to compare and to go back to.

use rusqlite::{Row, params};

use super::tx::bounded;
use super::{StoreError, Tx};

/// Versions that are kept.
pub const VERSIONS_MAX: u64 = 1000;

/// What a list shows of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionHead {
    /// Counts up from 1.
    pub number: u64,
    /// Unix time, milliseconds.
    pub at: u64,
    /// Whose token made the change.
    pub author: String,
    /// The change in a few words.
    pub summary: String,
}

/// A version whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVersion {
    /// What a list shows of it.
    pub head: VersionHead,
    /// JSON of all stored objects and overrides; secrets are references.
    pub state: String,
}

fn head(row: &Row<'_>) -> Result<VersionHead, StoreError> {
    Ok(VersionHead {
        number: row.get(0)?,
        at: row.get(1)?,
        author: row.get(2)?,
        summary: row.get(3)?,
    })
}

impl Tx {
    /// Adds a version and gives its number; drops what is older than the last [`VERSIONS_MAX`].
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn add_version(
        &self,
        now: u64,
        author: &str,
        summary: &str,
        state: &str,
    ) -> Result<u64, StoreError> {
        self.execute(
            "INSERT INTO versions (at, author, summary, state) VALUES (?1, ?2, ?3, ?4)",
            params![now, author, summary, state],
        )?;
        let number = self.number("SELECT max(number) FROM versions", [])?;
        let oldest = number.saturating_sub(VERSIONS_MAX);
        self.execute("DELETE FROM versions WHERE number <= ?1", [oldest])?;
        Ok(number)
    }

    /// One version.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn version(&self, number: u64) -> Result<Option<StoredVersion>, StoreError> {
        // SQLite's integers end there.
        let Ok(number) = i64::try_from(number) else { return Ok(None) };
        let sql = "SELECT number, at, author, summary, state FROM versions WHERE number = ?1";
        self.first(sql, [number], |row| Ok(StoredVersion { head: head(row)?, state: row.get(4)? }))
    }

    /// Versions, newest first, older than `before`.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn versions(
        &self,
        limit: usize,
        before: Option<u64>,
    ) -> Result<Vec<VersionHead>, StoreError> {
        let before = before.map(|before| i64::try_from(before).unwrap_or(i64::MAX));
        let sql = "SELECT number, at, author, summary FROM versions
                   WHERE ?1 IS NULL OR number < ?1 ORDER BY number DESC LIMIT ?2";
        self.rows(sql, params![before, bounded(limit)], head)
    }
}
