//! Single facts about the whole store, and the counter that every change draws its revision from.

use rusqlite::params;

use super::{StoreError, Tx};

const REVISION: &str = "revision";

impl Tx {
    /// A fact by its name, "a key was ever configured" for one.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn meta(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.first("SELECT value FROM meta WHERE name = ?1", [name], |row| Ok(row.get(0)?))
    }

    /// Remembers a fact.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn set_meta(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2",
            params![name, value],
        )?;
        Ok(())
    }

    /// The last revision that was committed; 0 in a new store.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn revision(&self) -> Result<u64, StoreError> {
        match self.meta(REVISION)? {
            None => Ok(0),
            Some(text) => text
                .parse()
                .map_err(|_| StoreError::Corrupt("its revision is no number".to_owned())),
        }
    }

    /// Draws the next revision. No number is given out twice by this process, not even one whose transaction was rolled back:
    /// a client may have seen it in an answer.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn next_revision(&self) -> Result<u64, StoreError> {
        let next = self.revision()?.max(self.given.get()) + 1;
        self.given.set(next);
        self.set_meta(REVISION, &next.to_string())?;
        Ok(next)
    }
}
