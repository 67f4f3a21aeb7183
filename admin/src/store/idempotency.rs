//! Answers to requests with an Idempotency-Key, to be given again to whoever repeats one.

use rusqlite::params;

use super::{StoreError, Tx, json};

/// How long an answer is kept, milliseconds.
pub const ANSWERS_KEPT_MS: u64 = 24 * 60 * 60 * 1000;
/// Answers that are kept.
pub const ANSWERS_MAX: u64 = 10_000;

/// Which request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerKey {
    /// A digest of the Idempotency-Key.
    pub key: [u8; 32],
    /// The token that asked.
    pub token: String,
    /// The route that it asked.
    pub route: String,
}

/// What was answered. A body that shows a secret (a new key is shown once) must be sealed before it comes here.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// A digest of the request: another request under the same key is a mistake.
    pub request: [u8; 32],
    /// HTTP status.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for StoredAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let size = self.body.len();
        f.debug_struct("StoredAnswer")
            .field("status", &self.status)
            .field("body", &format_args!("{size} bytes"))
            .finish_non_exhaustive()
    }
}

impl Tx {
    /// What was answered to a request within the last [`ANSWERS_KEPT_MS`].
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn answer(&self, key: &AnswerKey, now: u64) -> Result<Option<StoredAnswer>, StoreError> {
        let sql = "SELECT request, status, headers, body FROM answers
                   WHERE key = ?1 AND token = ?2 AND route = ?3 AND at > ?4";
        let oldest = now.saturating_sub(ANSWERS_KEPT_MS);
        self.first(sql, params![key.key, key.token, key.route, oldest], |row| {
            Ok(StoredAnswer {
                request: row.get(0)?,
                status: row.get(1)?,
                headers: json::read(row, 2)?,
                body: row.get(3)?,
            })
        })
    }

    /// Keeps an answer, in the transaction of the change that it reports. Drops what is too old, and the oldest beyond [`ANSWERS_MAX`].
    ///
    /// # Errors
    /// [`StoreError::Taken`] when this request has an answer already.
    pub fn add_answer(
        &self,
        key: &AnswerKey,
        answer: &StoredAnswer,
        now: u64,
    ) -> Result<(), StoreError> {
        let oldest = now.saturating_sub(ANSWERS_KEPT_MS);
        self.execute("DELETE FROM answers WHERE at <= ?1", [oldest])?;
        self.execute(
            "INSERT INTO answers (key, token, route, at, request, status, headers, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                key.key,
                key.token,
                key.route,
                now,
                answer.request,
                answer.status,
                json::text(&answer.headers)?,
                answer.body
            ],
        )?;
        self.execute(
            "DELETE FROM answers WHERE sequence <= (SELECT max(sequence) FROM answers) - ?1",
            [ANSWERS_MAX],
        )?;
        Ok(())
    }
}
