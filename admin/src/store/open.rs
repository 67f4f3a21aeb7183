//! Opening the file: for the one who writes it, and for those who only look.

use std::fs::{DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::{StoreError, Tx, backup, migrate};

/// How long a statement waits for another process's lock.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause before a step that failed at once is done again.
const RETRY_AFTER: Duration = Duration::from_millis(5);
/// Size that the WAL is cut down to after a large transaction, bytes.
const WAL_KEPT: u64 = 8 << 20;
/// Statements that stay prepared.
const STATEMENTS: usize = 128;

/// Opens the file to write it. The second part tells whether a backup was made or none is due, the file being new.
pub(super) fn writer(path: &Path) -> Result<(Tx, bool), StoreError> {
    let new = make(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    settle(&conn)?;
    let found = migrate::format_of(&conn)?;
    migrate::refuse_newer(found)?;
    // Journal mode first: it is the first statement that writes, and says what cannot be written.
    patiently(|| Ok(conn.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?))?;
    conn.pragma_update(None, "synchronous", "full")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update_and_check(None, "journal_size_limit", WAL_KEPT, |_| Ok(()))?;
    let migrates = found > 0 && found < migrate::FORMAT;
    if migrates {
        backup::make(path)?;
    }
    let tx = Tx::new(conn);
    migrate::migrate(&tx)?;
    tx.immediate(|tx| tx.interrupt_jobs(unix_ms()))?;
    Ok((tx, new || found == 0 || migrates))
}

/// Opens a second connection of the process that writes.
pub(super) fn reader(path: &Path) -> Result<Tx, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    settle(&conn)?;
    Ok(Tx::new(conn))
}

/// Opens a file that another process writes.
pub(super) fn follower(path: &Path) -> Result<Tx, StoreError> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(StoreError::Missing),
        _ => {}
    }
    let tx = reader(path)?;
    let found = migrate::format_of(&tx.conn)?;
    migrate::refuse_newer(found)?;
    if found < migrate::FORMAT {
        return Err(StoreError::Older { found, known: migrate::FORMAT });
    }
    Ok(tx)
}

/// Which files a store is: the database and its WAL, which stays the same one as long as anybody has it open.
pub(super) type Files = [Option<(u64, u64)>; 2];

/// Those at a path now.
pub(super) fn files(path: &Path) -> Files {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    let file = |path: &Path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    [file(path), file(Path::new(&wal))]
}

/// Does what SQLite itself does not wait for: two processes that make one file a WAL database block each other, and it
/// fails one of them at once.
fn patiently(mut step: impl FnMut() -> Result<(), StoreError>) -> Result<(), StoreError> {
    let begun = Instant::now();
    loop {
        match step() {
            Err(StoreError::Busy) if begun.elapsed() < BUSY_TIMEOUT => thread::sleep(RETRY_AFTER),
            done => return done,
        }
    }
}

fn settle(conn: &Connection) -> Result<(), StoreError> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(())
}

/// Makes folder and file for their owner only; SQLite gives its files beside it the same mode. Gives whether there was none.
fn make(path: &Path) -> Result<bool, StoreError> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(of_io)?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(of_io(error)),
    }
}

/// What a failure of the file system means here.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn of_io(error: std::io::Error) -> StoreError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            StoreError::Full
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly,
        ErrorKind::NotFound => StoreError::Missing,
        kind => StoreError::Other(kind.to_string()),
    }
}

/// Now, unix time in milliseconds.
pub(super) fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}
