//! Stored objects: the tables of the configuration file that were made through the admin API.

use std::fmt;
use std::str::FromStr;

use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::tx::LIST_MAX;
use super::{StoreError, Tx, json};

/// Which table of the configuration file an object would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    /// `[[backend]]`.
    Backend,
    /// `[[model]]`.
    Model,
    /// `[[head]]`.
    Head,
    /// `[[region]]`.
    Region,
    /// `[[key]]`.
    Key,
}

impl ObjectKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Backend, Self::Model, Self::Head, Self::Region, Self::Key];

    /// The name of its table in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Model => "model",
            Self::Head => "head",
            Self::Region => "region",
            Self::Key => "key",
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no kind of object: expected backend, model, head, region or key")]
pub struct UnknownKind;

impl FromStr for ObjectKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownKind)
    }
}

/// One object. Its body's names are those of the configuration file; secrets in it are references to sealed rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredObject {
    /// Stays when the name changes; unique among all kinds.
    pub id: String,
    /// Which table.
    pub kind: ObjectKind,
    /// Unique within its kind.
    pub name: String,
    /// Everything that the file's table would hold, `name` too.
    pub body: Map<String, Value>,
    /// Of the change that made it what it is: what its ETag is made of.
    pub revision: u64,
    /// Unix time, milliseconds.
    pub created_at: u64,
    /// Unix time, milliseconds.
    pub updated_at: u64,
    /// Why it takes no part: it conflicts with the file, for one.
    pub disabled: Option<String>,
}

const COLUMNS: &str = "id, kind, name, body, revision, created_at, updated_at, disabled";

fn read(row: &Row<'_>) -> Result<StoredObject, StoreError> {
    Ok(StoredObject {
        id: row.get(0)?,
        kind: json::word(row, 1)?,
        name: row.get(2)?,
        body: json::read(row, 3)?,
        revision: row.get(4)?,
        created_at: row.get(5)?,
        updated_at: row.get(6)?,
        disabled: row.get(7)?,
    })
}

impl Tx {
    /// All objects, or those of a kind, by kind and name; at most [`LIST_MAX`].
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn objects(&self, kind: Option<ObjectKind>) -> Result<Vec<StoredObject>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM objects WHERE ?1 IS NULL OR kind = ?1 ORDER BY kind, name LIMIT ?2"
        );
        self.rows(&sql, params![kind.map(ObjectKind::as_str), LIST_MAX], read)
    }

    /// One object by its id, else by its name.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn object(
        &self,
        kind: ObjectKind,
        id_or_name: &str,
    ) -> Result<Option<StoredObject>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM objects WHERE kind = ?1 AND (id = ?2 OR name = ?2)
             ORDER BY id = ?2 DESC LIMIT 1"
        );
        self.first(&sql, params![kind.as_str(), id_or_name], read)
    }

    /// Makes an object, or replaces the one with its id.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when another object of its kind has its name, [`StoreError::Other`] at [`LIST_MAX`] objects.
    pub fn put_object(&self, object: &StoredObject) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO objects (id, kind, name, body, revision, created_at, updated_at, disabled)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (id) DO UPDATE SET name = ?3, body = ?4, revision = ?5, updated_at = ?7, disabled = ?8",
            params![
                object.id,
                object.kind.as_str(),
                object.name,
                json::text(&object.body)?,
                object.revision,
                object.created_at,
                object.updated_at,
                object.disabled
            ],
        )?;
        let count = self.number("SELECT count(*) FROM objects", [])?;
        if count > LIST_MAX as u64 {
            return Err(StoreError::Other(format!("it holds {LIST_MAX} objects at most")));
        }
        Ok(())
    }

    /// Removes an object; false when there is none.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn delete_object(&self, kind: ObjectKind, id: &str) -> Result<bool, StoreError> {
        let sql = "DELETE FROM objects WHERE kind = ?1 AND id = ?2";
        Ok(self.execute(sql, params![kind.as_str(), id])? > 0)
    }
}
