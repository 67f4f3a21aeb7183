//! Jobs: work that outlives the request that asked for it.

use std::fmt;
use std::str::FromStr;

use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::tx::bounded;
use super::{StoreError, Tx, json};

/// Jobs that are kept.
pub const JOBS_MAX: u64 = 500;

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It waits for its turn.
    Queued,
    /// It runs.
    Running,
    /// It came to its end.
    Done,
    /// It failed.
    Failed,
    /// The process that ran it ended first.
    Interrupted,
}

impl JobState {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Queued, Self::Running, Self::Done, Self::Failed, Self::Interrupted];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no state of a job: expected queued, running, done, failed or interrupted")]
pub struct UnknownState;

impl FromStr for JobState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(UnknownState)
    }
}

/// One job.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredJob {
    /// Its id.
    pub id: String,
    /// What it does.
    pub kind: String,
    /// How far it is.
    pub state: JobState,
    /// Steps done, and all of them.
    pub progress: (u64, u64),
    /// What it found, or why it failed; no secret.
    pub detail: Value,
    /// Unix time, milliseconds.
    pub created_at: u64,
    /// Unix time, milliseconds.
    pub updated_at: u64,
    /// The name of the token that asked for it.
    pub actor: String,
}

const COLUMNS: &str = "id, kind, state, done, total, detail, created_at, updated_at, actor";

fn read(row: &Row<'_>) -> Result<StoredJob, StoreError> {
    Ok(StoredJob {
        id: row.get(0)?,
        kind: row.get(1)?,
        state: json::word(row, 2)?,
        progress: (row.get(3)?, row.get(4)?),
        detail: json::read(row, 5)?,
        created_at: row.get(6)?,
        updated_at: row.get(7)?,
        actor: row.get(8)?,
    })
}

impl Tx {
    /// Makes a job, or replaces what may change of it: state, progress, detail, time. Drops the oldest beyond [`JOBS_MAX`].
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn put_job(&self, job: &StoredJob) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO jobs (id, kind, state, done, total, detail, created_at, updated_at, actor)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (id) DO UPDATE SET state = ?3, done = ?4, total = ?5, detail = ?6, updated_at = ?8",
            params![
                job.id,
                job.kind,
                job.state.as_str(),
                job.progress.0,
                job.progress.1,
                json::text(&job.detail)?,
                job.created_at,
                job.updated_at,
                job.actor
            ],
        )?;
        self.execute(
            "DELETE FROM jobs
             WHERE sequence <= (SELECT sequence FROM jobs ORDER BY sequence DESC LIMIT 1 OFFSET ?1)",
            [JOBS_MAX],
        )?;
        Ok(())
    }

    /// A job by its id.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn job(&self, id: &str) -> Result<Option<StoredJob>, StoreError> {
        self.first(&format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1"), [id], read)
    }

    /// Jobs, newest first, older than the job with the id `before`.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn jobs(&self, limit: usize, before: Option<&str>) -> Result<Vec<StoredJob>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM jobs
             WHERE ?1 IS NULL OR sequence < (SELECT sequence FROM jobs WHERE id = ?1)
             ORDER BY sequence DESC LIMIT ?2"
        );
        self.rows(&sql, params![before, bounded(limit)], read)
    }

    /// Marks what a former process left queued or running.
    pub(super) fn interrupt_jobs(&self, now: u64) -> Result<(), StoreError> {
        self.execute(
            "UPDATE jobs SET state = 'interrupted', updated_at = ?1 WHERE state IN ('queued', 'running')",
            [now],
        )?;
        Ok(())
    }
}
