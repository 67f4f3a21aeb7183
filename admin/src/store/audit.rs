//! The audit trail: append-only, each row chained to the one before it, so that a row that was changed, removed or
//! slipped in shows.
//!
//! Triggers refuse UPDATE and DELETE, and [`Tx::verify_audit`] finds what was done around them. The chain has no secret: whoever
//! may write the file and rewrites every later row as well is found only by comparing the newest hash with one kept elsewhere.

use rusqlite::{Row, params};
use serde_json::Value;

use super::tx::bounded;
use super::{StoreError, Tx, json};

/// Who did what.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// Counts up from 1 without a gap; given by the store, and ignored when an entry is added.
    pub id: u64,
    /// Unix time, milliseconds.
    pub at: u64,
    /// The name of the token.
    pub actor: String,
    /// The role that it had then.
    pub role: String,
    /// What was asked for.
    pub action: String,
    /// Of which object.
    pub target: String,
    /// How it ended.
    pub outcome: String,
    /// Of the HTTP request.
    pub request_id: String,
    /// What changed; no secret.
    pub detail: Value,
}

/// Which entries; a field that is `None` leaves all of them in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// By this token.
    pub actor: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// Of this object.
    pub target: Option<String>,
    /// With this end.
    pub outcome: Option<String>,
    /// Not before, unix time in milliseconds.
    pub since: Option<u64>,
    /// Before, unix time in milliseconds.
    pub until: Option<u64>,
}

/// What [`Tx::verify_audit`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditCheck {
    /// All of so many entries are as they were written; the newest one's hash, as hexadecimal digits.
    Whole {
        /// How many.
        entries: u64,
        /// To be compared with one kept elsewhere.
        newest: String,
    },
    /// This entry is not what was written there, or is not there.
    Broken {
        /// Its id.
        at: u64,
    },
}

/// What the first row's hash covers in place of a former one.
const GENESIS: [u8; 32] = [0; 32];
/// Rows that a check reads at a time.
const CHECK_PAGE: usize = 1000;
const COLUMNS: &str = "id, at, actor, role, action, target, outcome, request_id, detail, hash";

fn read(row: &Row<'_>) -> Result<AuditEntry, StoreError> {
    Ok(AuditEntry {
        id: row.get(0)?,
        at: row.get(1)?,
        actor: row.get(2)?,
        role: row.get(3)?,
        action: row.get(4)?,
        target: row.get(5)?,
        outcome: row.get(6)?,
        request_id: row.get(7)?,
        detail: json::read(row, 8)?,
    })
}

/// The hash of one row: over the former row's, and over every column with its length before it.
fn chained(former: &[u8; 32], entry: &AuditEntry, detail: &str) -> [u8; 32] {
    let mut hash = blake3::Hasher::new();
    hash.update(former);
    hash.update(&entry.id.to_le_bytes());
    hash.update(&entry.at.to_le_bytes());
    let texts: [&str; 7] = [
        &entry.actor,
        &entry.role,
        &entry.action,
        &entry.target,
        &entry.outcome,
        &entry.request_id,
        detail,
    ];
    for text in texts {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    *hash.finalize().as_bytes()
}

impl Tx {
    /// Appends an entry and gives its id.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn add_audit(&self, entry: &AuditEntry) -> Result<u64, StoreError> {
        let newest =
            self.first("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1", [], |row| {
                Ok((row.get::<_, u64>(0)?, row.get::<_, [u8; 32]>(1)?))
            })?;
        let (last, former) = newest.unwrap_or((0, GENESIS));
        let entry = AuditEntry { id: last + 1, ..entry.clone() };
        let detail = json::text(&entry.detail)?;
        let hash = chained(&former, &entry, &detail);
        self.execute(
            "INSERT INTO audit (id, at, actor, role, action, target, outcome, request_id, detail, hash)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                entry.id,
                entry.at,
                entry.actor,
                entry.role,
                entry.action,
                entry.target,
                entry.outcome,
                entry.request_id,
                detail,
                hash
            ],
        )?;
        Ok(entry.id)
    }

    /// Entries, newest first, older than the id `before`.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn audit(
        &self,
        filter: &AuditFilter,
        limit: usize,
        before: Option<u64>,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM audit
             WHERE (?1 IS NULL OR id < ?1) AND (?2 IS NULL OR actor = ?2) AND (?3 IS NULL OR action = ?3)
               AND (?4 IS NULL OR target = ?4) AND (?5 IS NULL OR outcome = ?5)
               AND (?6 IS NULL OR at >= ?6) AND (?7 IS NULL OR at < ?7)
             ORDER BY id DESC LIMIT ?8"
        );
        let AuditFilter { actor, action, target, outcome, since, until } = filter;
        let params = params![before, actor, action, target, outcome, since, until, bounded(limit)];
        self.rows(&sql, params, read)
    }

    /// Reads the whole trail and holds every row against its hash.
    ///
    /// # Errors
    /// As [`StoreError`]; a broken chain is no error but [`AuditCheck::Broken`].
    pub fn verify_audit(&self) -> Result<AuditCheck, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM audit WHERE id > ?1 ORDER BY id LIMIT ?2");
        let (mut last, mut former) = (0, GENESIS);
        loop {
            // The detail's text is hashed as it was written, not as it would be written today.
            let page = self.rows(&sql, params![last, CHECK_PAGE], |row| {
                let detail = row.get::<_, String>(8)?;
                Ok((read(row)?, detail, row.get::<_, [u8; 32]>(9)?))
            })?;
            for (entry, detail, hash) in &page {
                if entry.id != last + 1 || chained(&former, entry, detail) != *hash {
                    return Ok(AuditCheck::Broken { at: last + 1 });
                }
                (last, former) = (entry.id, *hash);
            }
            if page.len() < CHECK_PAGE {
                break;
            }
        }
        // The sequence remembers the highest id ever, so that a removed end shows too.
        let written = self.number("SELECT seq FROM sqlite_sequence WHERE name = 'audit'", [])?;
        if written > last {
            return Ok(AuditCheck::Broken { at: last + 1 });
        }
        let newest = blake3::Hash::from_bytes(former).to_hex().to_string();
        Ok(AuditCheck::Whole { entries: last, newest })
    }
}
