//! Events: what happened to backends, models and the configuration, for whoever was not listening then.

use rusqlite::{Row, params};
use serde_json::Value;

use super::tx::bounded;
use super::{StoreError, Tx, json};

/// Events that are kept.
pub const EVENTS_MAX: u64 = 10_000;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    /// Counts up from 1.
    pub id: u64,
    /// Unix time, milliseconds.
    pub at: u64,
    /// What kind of thing.
    pub kind: String,
    /// To whom: a name.
    pub subject: String,
    /// More of it; no secret.
    pub detail: Value,
}

/// Which events; a field that is `None` leaves all of them in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventFilter {
    /// Of this kind.
    pub kind: Option<String>,
    /// About this subject.
    pub subject: Option<String>,
}

fn read(row: &Row<'_>) -> Result<StoredEvent, StoreError> {
    Ok(StoredEvent {
        id: row.get(0)?,
        at: row.get(1)?,
        kind: row.get(2)?,
        subject: row.get(3)?,
        detail: json::read(row, 4)?,
    })
}

impl Tx {
    /// Adds an event and gives its id; drops what is older than the last [`EVENTS_MAX`].
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn add_event(
        &self,
        now: u64,
        kind: &str,
        subject: &str,
        detail: &Value,
    ) -> Result<u64, StoreError> {
        self.execute(
            "INSERT INTO events (at, kind, subject, detail) VALUES (?1, ?2, ?3, ?4)",
            params![now, kind, subject, json::text(detail)?],
        )?;
        let id = self.number("SELECT max(id) FROM events", [])?;
        self.execute("DELETE FROM events WHERE id <= ?1", [id.saturating_sub(EVENTS_MAX)])?;
        Ok(id)
    }

    /// Events, oldest first, newer than the id `after`: what a listener missed.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn events(
        &self,
        after: u64,
        limit: usize,
        filter: &EventFilter,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let sql = "SELECT id, at, kind, subject, detail FROM events
                   WHERE id > ?1 AND (?2 IS NULL OR kind = ?2) AND (?3 IS NULL OR subject = ?3)
                   ORDER BY id LIMIT ?4";
        self.rows(sql, params![after, filter.kind, filter.subject, bounded(limit)], read)
    }

    /// Events, newest first, older than the id `before`: pages of a history.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn events_before(
        &self,
        before: Option<u64>,
        limit: usize,
        filter: &EventFilter,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let sql = "SELECT id, at, kind, subject, detail FROM events
                   WHERE (?1 IS NULL OR id < ?1) AND (?2 IS NULL OR kind = ?2) AND (?3 IS NULL OR subject = ?3)
                   ORDER BY id DESC LIMIT ?4";
        self.rows(sql, params![before, filter.kind, filter.subject, bounded(limit)], read)
    }
}
