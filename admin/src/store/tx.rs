//! One transaction as everything that reads and writes the store sees it; the nouns of the store are methods on it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rusqlite::{Connection, Params, Row};

use super::StoreError;

/// Most rows that one call gives; a longer list is read page by page.
pub const LIST_MAX: usize = 10_000;

/// The store inside of one transaction.
pub struct Tx {
    pub(super) conn: Connection,
    /// The highest revision ever given out here, also by transactions that were rolled back.
    pub(super) given: Cell<u64>,
}

impl Tx {
    pub(super) const fn new(conn: Connection) -> Self {
        Self { conn, given: Cell::new(0) }
    }

    /// Runs `job` in a transaction that holds the write lock from its beginning, so that what it reads cannot change
    /// before it writes. An error and a panic roll it back.
    pub(super) fn immediate<T, E: From<StoreError>>(
        &self,
        job: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        self.run("BEGIN IMMEDIATE", job)
    }

    /// Runs `job` in a transaction that sees one state of the store throughout.
    pub(super) fn deferred<T, E: From<StoreError>>(
        &self,
        job: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        self.run("BEGIN DEFERRED", job)
    }

    fn run<T, E: From<StoreError>>(
        &self,
        begin: &str,
        job: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        self.execute(begin, [])?;
        let done = catch_unwind(AssertUnwindSafe(|| job(self)))
            .unwrap_or_else(|_| Err(StoreError::defect("a transaction panicked").into()))
            .and_then(|value| match self.execute("COMMIT", []) {
                Ok(_) => Ok(value),
                Err(error) => Err(error.into()),
            });
        // A full disk may have rolled it back already.
        if done.is_err() && !self.conn.is_autocommit() {
            self.execute("ROLLBACK", [])?;
        }
        done
    }

    /// Changes rows, and gives their number.
    pub(super) fn execute(&self, sql: &str, params: impl Params) -> Result<usize, StoreError> {
        Ok(self.conn.prepare_cached(sql)?.execute(params)?)
    }

    /// Reads all rows that `sql` gives; its LIMIT bounds them.
    pub(super) fn rows<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.conn.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(read(row)?);
        }
        Ok(found)
    }

    /// Reads the first row, if there is one.
    pub(super) fn first<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let mut statement = self.conn.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        rows.next()?.map(read).transpose()
    }

    /// Reads a number that is always there.
    pub(super) fn number(&self, sql: &str, params: impl Params) -> Result<u64, StoreError> {
        let found = self.first(sql, params, |row| Ok(row.get::<_, Option<u64>>(0)?))?;
        Ok(found.flatten().unwrap_or(0))
    }

    /// Checks every page and index of the file: `PRAGMA integrity_check`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], or why it could not be read.
    pub fn check_integrity(&self) -> Result<(), StoreError> {
        let found =
            self.first("PRAGMA integrity_check(1)", [], |row| Ok(row.get::<_, String>(0)?))?;
        match found.as_deref() {
            Some("ok") => Ok(()),
            _ => Err(StoreError::Corrupt("its integrity check fails".to_owned())),
        }
    }
}

/// A page's size within the store's bound.
pub(super) fn bounded(limit: usize) -> usize {
    limit.min(LIST_MAX)
}
