//! Backups: copies of the file in a folder beside it, made while everything goes on.
//!
//! A copy holds everything but measurements: these are large, and of no use to whoever restores a registry. It is written under a
//! temporary name, flushed and renamed, so that what has a backup's name is whole.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use tokio::sync::oneshot;

use super::StoreError;
use super::open::{BUSY_TIMEOUT, of_io, unix_ms};
use super::retention::{backup_name, keep};
use super::worker::spawn;

/// Time between two backups that nobody asks for.
pub const BACKUP_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// Backups that may be asked for before the first of them is done.
const ASKED_MAX: usize = 8;
/// What a copy is called until it is whole.
const UNFINISHED: &str = "unfinished";

type Answer = oneshot::Sender<Result<PathBuf, StoreError>>;

/// The thread that makes them, one after the other.
pub(super) struct Backups {
    ask: Option<SyncSender<Answer>>,
    thread: Option<JoinHandle<()>>,
}

impl Backups {
    /// Starts the thread; `fresh` when no backup is due at once.
    pub(super) fn start(path: &Path, fresh: bool) -> Result<Self, StoreError> {
        let (ask, asked) = sync_channel(ASKED_MAX);
        let path = path.to_owned();
        let thread = spawn("store-backup", move || {
            if !fresh {
                report(&make(&path));
            }
            work(&path, &asked);
        })?;
        Ok(Self { ask: Some(ask), thread: Some(thread) })
    }

    /// Makes one now.
    pub(super) async fn now(&self) -> Result<PathBuf, StoreError> {
        let (tell, told) = oneshot::channel();
        let ask = self.ask.as_ref().ok_or(StoreError::Gone)?;
        ask.try_send(tell).map_err(|_| StoreError::Busy)?;
        told.await.unwrap_or(Err(StoreError::Gone))
    }
}

impl Drop for Backups {
    fn drop(&mut self) {
        self.ask = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(path: &Path, asked: &Receiver<Answer>) {
    loop {
        match asked.recv_timeout(BACKUP_EVERY) {
            Ok(answer) => {
                let _ = answer.send(make(path));
            }
            Err(RecvTimeoutError::Timeout) => report(&make(path)),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn report(made: &Result<PathBuf, StoreError>) {
    match made {
        Ok(path) => tracing::info!(path = %path.display(), "the store was backed up"),
        Err(error) => tracing::warn!(%error, "the store could not be backed up"),
    }
}

/// The folder of a store's backups.
fn folder_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(".backups");
    path.with_file_name(name)
}

/// Makes a backup and removes those that have had their time.
pub(super) fn make(path: &Path) -> Result<PathBuf, StoreError> {
    let folder = folder_of(path);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(of_io)?;
    let copy = folder.join(UNFINISHED);
    let made = copy_to(path, &copy).and_then(|()| {
        // Not before the copy is made: its name says that everything before it is in it.
        let (now, target) = free_name(&folder);
        fs::rename(&copy, &target).and_then(|()| File::open(&folder)?.sync_all()).map_err(of_io)?;
        rotate(&folder, now);
        Ok(target)
    });
    if made.is_err() {
        let _ = fs::remove_file(&copy);
    }
    made
}

fn free_name(folder: &Path) -> (u64, PathBuf) {
    let now = unix_ms();
    let taken = |now: &u64| !folder.join(backup_name(*now)).exists();
    let free = (now..).find(taken).unwrap_or(now);
    (now, folder.join(backup_name(free)))
}

fn copy_to(path: &Path, copy: &Path) -> Result<(), StoreError> {
    let _ = fs::remove_file(copy);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(copy).map_err(of_io)?;
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let from = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    from.busy_timeout(BUSY_TIMEOUT)?;
    let mut to = Connection::open_with_flags(copy, flags | OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // All pages in one step: a copy in several begins anew at each write in between.
    match Backup::new(&from, &mut to)?.step(-1)? {
        StepResult::Done => {}
        _ => return Err(StoreError::Busy),
    }
    to.pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(()))?;
    if measures(&to)? {
        // A torn copy is thrown away, so it needs no journal, and one flush at its end.
        to.pragma_update_and_check(None, "journal_mode", "off", |_| Ok(()))?;
        to.pragma_update(None, "synchronous", "off")?;
        to.execute_batch("DELETE FROM samples; VACUUM;")?;
    }
    to.close().map_err(|(_, error)| error)?;
    File::open(copy).and_then(|file| file.sync_all()).map_err(of_io)
}

/// Whether the copy is of a format that has measurements, and has some.
fn measures(copy: &Connection) -> Result<bool, StoreError> {
    if !copy.table_exists(None, "samples")? {
        return Ok(false);
    }
    Ok(copy.query_row("SELECT EXISTS (SELECT 1 FROM samples)", [], |row| row.get(0))?)
}

/// Removes what has had its time; what cannot be removed is left for the next time.
fn rotate(folder: &Path, now: u64) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    for name in keep(now, &names.collect::<Vec<_>>()) {
        let _ = fs::remove_file(folder.join(name));
    }
}
