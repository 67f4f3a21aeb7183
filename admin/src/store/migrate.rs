//! The file's format: numbered SQL files, each applied once and in a transaction of its own.

use rusqlite::Connection;

use super::{StoreError, Tx};

/// Each migration makes the format that its place counts, from 1.
const MIGRATIONS: [&str; 3] = [
    include_str!("migrations/0001_objects.sql"),
    include_str!("migrations/0002_people.sql"),
    include_str!("migrations/0003_history.sql"),
];

/// The format that this build reads and writes.
#[expect(clippy::cast_possible_truncation, reason = "a handful")]
pub const FORMAT: u32 = MIGRATIONS.len() as u32;

/// Says in the file's header that it is ours ("4bay").
const APPLICATION: u32 = 0x3462_6179;

/// The format of a file; 0 for an empty one.
pub(super) fn format_of(conn: &Connection) -> Result<u32, StoreError> {
    let number = |name| conn.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
    let (format, application) = (number("user_version")?, number("application_id")?);
    let tables = conn.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0));
    match (application, format, tables?) {
        (APPLICATION, format, _) => Ok(format),
        (0, 0, 0_u32) => Ok(0),
        _ => Err(StoreError::Corrupt("it is another program's database".to_owned())),
    }
}

/// Refuses a file that a newer build has written.
pub(super) fn refuse_newer(found: u32) -> Result<(), StoreError> {
    if found > FORMAT {
        return Err(StoreError::Newer { found, known: FORMAT });
    }
    Ok(())
}

/// Brings the file to this build's format. Each step looks at the format under the write lock, so that two processes that start
/// together do it once.
pub(super) fn migrate(tx: &Tx) -> Result<(), StoreError> {
    for (sql, format) in MIGRATIONS.into_iter().zip(1..) {
        tx.immediate(|tx| {
            let found = format_of(&tx.conn)?;
            refuse_newer(found)?;
            if found >= format {
                return Ok(());
            }
            tx.conn.execute_batch(sql)?;
            tx.conn.pragma_update(None, "application_id", APPLICATION)?;
            tx.conn.pragma_update(None, "user_version", format)?;
            tracing::info!(format, "the store's format was brought up to date");
            Ok::<_, StoreError>(())
        })?;
    }
    Ok(())
}
