//! Overrides: what the admin API changes on objects that it does not own, of the file or discovered.

use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::tx::LIST_MAX;
use super::{ObjectKind, StoreError, Tx, json};

/// What is changed on one object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredOverride {
    /// Of the object.
    pub kind: ObjectKind,
    /// Of the object.
    pub name: String,
    /// The keys that are overridden, with their values.
    pub body: Map<String, Value>,
    /// Of the last change.
    pub revision: u64,
    /// Unix time, milliseconds.
    pub updated_at: u64,
    /// Whose token made the last change.
    pub author: String,
}

const COLUMNS: &str = "kind, name, body, revision, updated_at, author";

fn read(row: &Row<'_>) -> Result<StoredOverride, StoreError> {
    Ok(StoredOverride {
        kind: json::word(row, 0)?,
        name: row.get(1)?,
        body: json::read(row, 2)?,
        revision: row.get(3)?,
        updated_at: row.get(4)?,
        author: row.get(5)?,
    })
}

impl Tx {
    /// All overrides, by kind and name; at most [`LIST_MAX`].
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn overrides(&self) -> Result<Vec<StoredOverride>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM overrides ORDER BY kind, name LIMIT ?1");
        self.rows(&sql, params![LIST_MAX], read)
    }

    /// The override of one object.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn override_of(
        &self,
        kind: ObjectKind,
        name: &str,
    ) -> Result<Option<StoredOverride>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM overrides WHERE kind = ?1 AND name = ?2");
        self.first(&sql, params![kind.as_str(), name], read)
    }

    /// Makes or replaces the override of an object.
    ///
    /// # Errors
    /// [`StoreError::Other`] at [`LIST_MAX`] overrides.
    pub fn put_override(&self, change: &StoredOverride) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO overrides (kind, name, body, revision, updated_at, author)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (kind, name) DO UPDATE SET body = ?3, revision = ?4, updated_at = ?5, author = ?6",
            params![
                change.kind.as_str(),
                change.name,
                json::text(&change.body)?,
                change.revision,
                change.updated_at,
                change.author
            ],
        )?;
        if self.number("SELECT count(*) FROM overrides", [])? > LIST_MAX as u64 {
            return Err(StoreError::Other(format!("it holds {LIST_MAX} overrides at most")));
        }
        Ok(())
    }

    /// Removes the override of an object; false when there is none.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn delete_override(&self, kind: ObjectKind, name: &str) -> Result<bool, StoreError> {
        let sql = "DELETE FROM overrides WHERE kind = ?1 AND name = ?2";
        Ok(self.execute(sql, params![kind.as_str(), name])? > 0)
    }
}
