//! The store: one SQLite file with everything that the admin API makes, and what is remembered across restarts.
//!
//! A connection never leaves its thread: one thread writes, one reads, one makes backups. In WAL mode none of them waits for another,
//! and other processes may follow the file. A write that was acknowledged survives the death of the process and of the machine.

mod audit;
mod backup;
mod error;
mod events;
mod history;
mod idempotency;
mod ids;
mod jobs;
mod json;
mod meta;
mod migrate;
mod objects;
mod open;
mod overrides;
mod retention;
mod rollup;
mod sealed;
mod tokens;
mod tx;
mod versions;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::audit::{AuditCheck, AuditEntry, AuditFilter};
pub use self::backup::BACKUP_EVERY;
pub use self::error::StoreError;
pub use self::events::{EVENTS_MAX, EventFilter, StoredEvent};
pub use self::history::{METRICS_MAX, POINTS_MAX, Point, SUBJECTS_MAX, Sample, Series, Subject};
pub use self::idempotency::{ANSWERS_KEPT_MS, ANSWERS_MAX, AnswerKey, StoredAnswer};
pub use self::ids::new_id;
pub use self::jobs::{JOBS_MAX, JobState, StoredJob, UnknownState};
pub use self::migrate::FORMAT;
pub use self::objects::{ObjectKind, StoredObject, UnknownKind};
pub use self::open::BUSY_TIMEOUT;
pub use self::overrides::StoredOverride;
pub use self::retention::{KEEP_DAYS, KEEP_LAST, KEEP_WEEKS, backup_name, keep};
pub use self::rollup::{Retention, STEPS};
pub use self::sealed::SealedRow;
pub use self::tokens::{StoredToken, TOKENS_MAX};
pub use self::tx::{LIST_MAX, Tx};
pub use self::versions::{StoredVersion, VERSIONS_MAX, VersionHead};
pub use self::worker::QUEUE_MAX;

use self::backup::Backups;
use self::worker::Worker;

/// What a process may do with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Makes, migrates, changes and backs up the file: the process of the admin API.
    Writer,
    /// Reads a file that another process writes.
    Follower,
}

/// A handle to the store. Clones share it; the last one that is dropped finishes what was begun and closes the file.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// Dropped from top to bottom: the writer comes last, so that its close can fold the WAL into the file.
struct Inner {
    path: PathBuf,
    role: Role,
    /// What was opened.
    files: open::Files,
    backups: Option<Backups>,
    reader: Worker,
    writer: Option<Worker>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Inner { path, role, .. } = &*self.inner;
        f.debug_struct("Store").field("path", path).field("role", role).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store. A writer makes folder and file if need be (readable by their owner only), makes a backup and migrates; what a former
    /// process left running is marked as interrupted. A follower needs a file of this build's format. Blocks.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn open(path: &Path, role: Role) -> Result<Self, StoreError> {
        let inner = match role {
            Role::Writer => {
                let (tx, fresh) = open::writer(path)?;
                let writer = Worker::start("store-write", tx)?;
                let reader = Worker::start("store-read", open::reader(path)?)?;
                let backups = Some(Backups::start(path, fresh)?);
                let files = open::files(path);
                Inner { path: path.to_owned(), role, files, backups, reader, writer: Some(writer) }
            }
            Role::Follower => {
                let reader = Worker::start("store-read", open::follower(path)?)?;
                let files = open::files(path);
                Inner { path: path.to_owned(), role, files, backups: None, reader, writer: None }
            }
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Whether other files are at its path by now: a backup was put there. What is open is then nobody's any more, and has to be
    /// opened anew to see what is written.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        open::files(&self.inner.path) != self.inner.files
    }

    /// What this process may do with it.
    #[must_use]
    pub fn role(&self) -> Role {
        self.inner.role
    }

    /// Runs `job` in one transaction that holds the write lock; `Ok` means that its changes are on the disk. An error and a
    /// panic undo all of them. A job whose caller has gone is done all the same.
    ///
    /// # Errors
    /// What `job` says; [`StoreError::Busy`] when [`QUEUE_MAX`] others wait; as [`StoreError`].
    pub async fn write<T, E, F>(&self, job: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Tx) -> Result<T, E> + Send + 'static,
    {
        self.writer()?.run(|tx| tx.immediate(job)).await
    }

    /// As [`Store::write`], for threads without a runtime: waits for its turn. Never from inside of a job.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_blocking<T, E, F>(&self, job: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Tx) -> Result<T, E> + Send + 'static,
    {
        self.writer()?.run_blocking(|tx| tx.immediate(job))
    }

    /// Runs `job` on one unchanging state of the store; changes that it tries are refused as [`StoreError::ReadOnly`].
    ///
    /// # Errors
    /// What `job` says; [`StoreError::Busy`] when [`QUEUE_MAX`] others wait; as [`StoreError`].
    pub async fn read<T, E, F>(&self, job: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Tx) -> Result<T, E> + Send + 'static,
    {
        self.inner.reader.run(|tx| tx.deferred(job)).await
    }

    /// As [`Store::read`], for threads without a runtime: waits for its turn. Never from inside of a job.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn read_blocking<T, E, F>(&self, job: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Tx) -> Result<T, E> + Send + 'static,
    {
        self.inner.reader.run_blocking(|tx| tx.deferred(job))
    }

    /// A number that differs from the last one exactly when something was committed in between, here or by another process:
    /// `PRAGMA data_version`. Its value means nothing. Measurements and events are commits too: whether the registry changed, [`Tx::revision`] says.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub async fn data_version(&self) -> Result<u64, StoreError> {
        self.inner.reader.run(|tx| tx.number("PRAGMA data_version", [])).await
    }

    /// As [`Store::data_version`], for threads without a runtime.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn data_version_blocking(&self) -> Result<u64, StoreError> {
        self.inner.reader.run_blocking(|tx| tx.number("PRAGMA data_version", []))
    }

    /// Makes a backup now, and removes those that have had their time. Gives its path. Reads and writes go on meanwhile.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`] for a follower; as [`StoreError`].
    pub async fn backup(&self) -> Result<PathBuf, StoreError> {
        self.inner.backups.as_ref().ok_or(StoreError::ReadOnly)?.now().await
    }

    fn writer(&self) -> Result<&Worker, StoreError> {
        self.inner.writer.as_ref().ok_or(StoreError::ReadOnly)
    }
}
