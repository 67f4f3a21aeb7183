//! Tokens of the admin API. A token itself is nowhere in the store, only its digest.

use rusqlite::{Row, params};

use super::tx::bounded;
use super::{StoreError, Tx, json};
use crate::role::Role;

/// Most tokens.
pub const TOKENS_MAX: u64 = 1000;
/// Longest line of makers that is followed. A name that became free can be taken again, so the line may be a circle.
const MAKERS_MAX: usize = 100;

/// A token without itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// Its id.
    pub id: String,
    /// Unique.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Of the token.
    pub digest: [u8; 32],
    /// Unix time, milliseconds.
    pub created_at: u64,
    /// The name of the token that made it.
    pub created_by: String,
    /// From when on it is refused, unix time in milliseconds.
    pub expires: Option<u64>,
    /// Unix time, milliseconds.
    pub last_used: Option<u64>,
    /// Refused until an admin enables it.
    pub disabled: bool,
}

const COLUMNS: &str =
    "id, name, role, digest, created_at, created_by, expires, last_used, disabled";

fn read(row: &Row<'_>) -> Result<StoredToken, StoreError> {
    Ok(StoredToken {
        id: row.get(0)?,
        name: row.get(1)?,
        role: json::word(row, 2)?,
        digest: row.get(3)?,
        created_at: row.get(4)?,
        created_by: row.get(5)?,
        expires: row.get(6)?,
        last_used: row.get(7)?,
        disabled: row.get(8)?,
    })
}

impl Tx {
    /// Adds a token.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when another has its id, name or digest; [`StoreError::Other`] at [`TOKENS_MAX`].
    pub fn add_token(&self, token: &StoredToken) -> Result<(), StoreError> {
        if self.number("SELECT count(*) FROM tokens", [])? >= TOKENS_MAX {
            return Err(StoreError::Other(format!("it holds {TOKENS_MAX} tokens at most")));
        }
        self.execute(
            "INSERT INTO tokens (id, name, role, digest, created_at, created_by, expires, last_used, disabled)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                token.id,
                token.name,
                token.role.as_str(),
                token.digest,
                token.created_at,
                token.created_by,
                token.expires,
                token.last_used,
                token.disabled
            ],
        )?;
        Ok(())
    }

    /// All tokens by name.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn tokens(&self) -> Result<Vec<StoredToken>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM tokens ORDER BY name LIMIT ?1");
        self.rows(&sql, [bounded(usize::MAX)], read)
    }

    /// A token by its id, else by its name.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn token(&self, id_or_name: &str) -> Result<Option<StoredToken>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM tokens WHERE id = ?1 OR name = ?1 ORDER BY id = ?1 DESC LIMIT 1"
        );
        self.first(&sql, [id_or_name], read)
    }

    /// A token by its digest.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn token_by_digest(&self, digest: &[u8; 32]) -> Result<Option<StoredToken>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM tokens WHERE digest = ?1");
        self.first(&sql, [digest], read)
    }

    /// What a token may do now: nothing that the one that made it may not, nor the one that made that one.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn worth(&self, token: &StoredToken) -> Result<Role, StoreError> {
        let sql = "SELECT role, created_by FROM tokens WHERE name = ?1";
        let (mut role, mut maker) = (token.role, token.created_by.clone());
        for _ in 0..MAKERS_MAX {
            let found = self.first(sql, [&maker], |row| Ok((json::word(row, 0)?, row.get(1)?)))?;
            let Some((own, by)) = found else { return Ok(role) };
            (role, maker) = (role.min(own), by);
        }
        Ok(role)
    }

    /// Changes name, role, expiry, last use and whether it is refused; false when there is none with its id. Tokens that it made
    /// know it by its new name.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when another has its name.
    pub fn update_token(&self, token: &StoredToken) -> Result<bool, StoreError> {
        self.execute(
            "UPDATE tokens SET created_by = ?2 WHERE created_by = (SELECT name FROM tokens WHERE id = ?1)",
            params![token.id, token.name],
        )?;
        let changed = self.execute(
            "UPDATE tokens SET name = ?2, role = ?3, expires = ?4, last_used = ?5, disabled = ?6 WHERE id = ?1",
            params![
                token.id,
                token.name,
                token.role.as_str(),
                token.expires,
                token.last_used,
                token.disabled
            ],
        )?;
        Ok(changed > 0)
    }

    /// Remembers the last use of a token and touches nothing else of it.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn touch_token(&self, id: &str, now: u64) -> Result<(), StoreError> {
        self.execute("UPDATE tokens SET last_used = ?2 WHERE id = ?1", params![id, now])?;
        Ok(())
    }

    /// Removes a token; false when there is none. Tokens that it made keep what they are worth at that moment.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn delete_token(&self, id: &str) -> Result<bool, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM tokens WHERE created_by = (SELECT name FROM tokens WHERE id = ?1) LIMIT ?2"
        );
        for mut made in self.rows(&sql, params![id, bounded(usize::MAX)], read)? {
            made.role = self.worth(&made)?;
            self.update_token(&made)?;
        }
        Ok(self.execute("DELETE FROM tokens WHERE id = ?1", [id])? > 0)
    }
}
