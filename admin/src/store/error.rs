//! Why the store did not do what was asked, without a word of SQL and without a stored value.

use rusqlite::ErrorCode;
use rusqlite::ffi;

/// Why the store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk or the quota is full; nothing was changed.
    #[error("the store's disk is full; nothing was changed")]
    Full,
    /// The file, its folder or its file system cannot be written, or the store was opened to follow only.
    #[error("the store is read-only; nothing was changed")]
    ReadOnly,
    /// Another writer, or too many waiting here; the same may work a moment later.
    #[error("the store is busy; try again")]
    Busy,
    /// The file is damaged, or is no database.
    #[error("the store's file is damaged: {0}")]
    Corrupt(String),
    /// A newer build has written the file; it was left as it is.
    #[error(
        "the store's format is version {found}, and this build knows versions up to {known}: use a newer build"
    )]
    Newer {
        /// The file's version.
        found: u32,
        /// The newest version that this build knows.
        known: u32,
    },
    /// An older build has written the file, and only a writer may migrate it.
    #[error("the store's format is version {found}, and its writer has not yet made it {known}")]
    Older {
        /// The file's version.
        found: u32,
        /// The version that this build needs.
        known: u32,
    },
    /// There is no file.
    #[error("there is no store at this path")]
    Missing,
    /// Another row has this name.
    #[error("the name is taken")]
    Taken,
    /// The store is closed, or its thread has ended.
    #[error("the store is closed")]
    Gone,
    /// Anything else; the text names no SQL and no value.
    #[error("the store failed: {0}")]
    Other(String),
}

impl StoreError {
    /// Whether no retry and no other request will do better until an operator has made room: the admin API's 507.
    #[must_use]
    pub const fn is_storage(&self) -> bool {
        matches!(self, Self::Full | Self::ReadOnly)
    }

    pub(crate) fn defect(what: &str) -> Self {
        Self::Other(what.to_owned())
    }
}

/// Failures of writing that SQLite reports as I/O errors where the disk, a quota or `RLIMIT_FSIZE` is to blame.
/// A plain `ENOSPC` comes as `SQLITE_FULL`.
const WRITE_FAILURES: [i32; 3] =
    [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_IOERR_TRUNCATE];

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        match error {
            E::SqliteFailure(failure, _) => Self::of_sqlite(failure),
            E::SqlInputError { error, .. } => Self::of_sqlite(error),
            E::FromSqlConversionFailure(column, ..)
            | E::IntegralValueOutOfRange(column, _)
            | E::InvalidColumnType(column, ..) => Self::Corrupt(format!(
                "column {column} of a row has a value that this build never writes"
            )),
            E::Utf8Error(..) => Self::Corrupt("a text is not UTF-8".to_owned()),
            E::ToSqlConversionFailure(_) => Self::defect("a value cannot be stored"),
            _ => Self::defect("a statement does not fit the store's format"),
        }
    }
}

impl StoreError {
    fn of_sqlite(failure: ffi::Error) -> Self {
        match failure.code {
            ErrorCode::DiskFull => Self::Full,
            ErrorCode::SystemIoFailure if WRITE_FAILURES.contains(&failure.extended_code) => {
                Self::Full
            }
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen => {
                Self::ReadOnly
            }
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Busy,
            ErrorCode::DatabaseCorrupt => Self::Corrupt("a page does not hold together".to_owned()),
            ErrorCode::NotADatabase => Self::Corrupt("it is no SQLite database".to_owned()),
            ErrorCode::ConstraintViolation => match failure.extended_code {
                ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY => Self::Taken,
                _ => Self::defect("a rule of the store refuses the change"),
            },
            code => Self::Other(format!("{code:?} (SQLite code {})", failure.extended_code)),
        }
    }
}
