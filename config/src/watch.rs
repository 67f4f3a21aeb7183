//! Notices that files changed. It says so and no more: reading and publishing are the caller's.
//!
//! What is watched is the folder of each file, because editors replace files by renaming and Kubernetes swaps a symlink
//! beside them. An event means only "look": contents are hashed, and the caller hears of a change of content alone. Where
//! events do not work (network file systems), a slow poll finds the change.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::event::ModifyKind;
use notify::{EventKind, RecursiveMode, Watcher as _};

use crate::environment::FILE_MAX_BYTES;

/// Events that may wait; more say nothing new.
const EVENTS_MAX: usize = 64;
/// Deepest chain of symlinks that is followed.
const LINKS_MAX: usize = 16;

/// How patient the watcher is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchOptions {
    /// This long without an event, and the change is complete.
    pub debounce: Duration,
    /// Longest time from the first event until contents are read.
    pub max: Duration,
    /// Between two looks without any event.
    pub poll: Duration,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            debounce: Duration::from_millis(100),
            max: Duration::from_millis(500),
            poll: Duration::from_secs(5),
        }
    }
}

enum Message {
    Event,
    Files(Vec<PathBuf>, Seen),
    Read(Seen),
    Stop,
}

/// Watches files until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    sender: SyncSender<Message>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts a thread that watches files and folders (of a folder: its `*.toml`), and calls back from that thread each
    /// time their contents have changed.
    ///
    /// # Errors
    /// The thread cannot be started. That the system gives no events is no error: polling remains.
    pub fn start(
        files: Vec<PathBuf>,
        options: WatchOptions,
        on_change: impl FnMut() + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(EVENTS_MAX);
        let events = sender.clone();
        let names = Names::default();
        let ours = names.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.as_ref().map_or(true, |event| ours.concerned(event)) {
                // A full queue already says "look".
                let _ = events.try_send(Message::Event);
            }
        });
        // The first look is taken here, so that no change after this call is missed.
        let seen = Seen::of(&files);
        let mut task = Task {
            watcher: watcher.ok(),
            folders: BTreeSet::new(),
            names,
            files,
            seen,
            options,
            receiver,
            on_change: Box::new(on_change),
        };
        task.follow();
        let thread = std::thread::Builder::new()
            .name("config-watch".to_owned())
            .spawn(move || task.run())?;
        Ok(Self { sender, thread: Some(thread) })
    }

    /// Watches these files from now on; those that were watched before keep their last seen contents.
    pub fn set_files(&self, files: Vec<PathBuf>) {
        // Looked at here and now, so that no change after this call is missed.
        let seen = Seen::of(&files);
        // The thread ends only with the watcher.
        let _ = self.sender.send(Message::Files(files, seen));
    }

    /// Says that the caller is about to read these files for a reason of its own: what they hold by now is no news.
    pub fn about_to_read(&self, files: &[PathBuf]) {
        // Looked at here and now, so that a change during the reading is still one.
        let _ = self.sender.send(Message::Read(Seen::of(files)));
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.sender.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            // A callback that drops its own watcher must not wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

struct Task {
    watcher: Option<notify::RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    names: Names,
    files: Vec<PathBuf>,
    seen: Seen,
    options: WatchOptions,
    receiver: Receiver<Message>,
    on_change: Box<dyn FnMut() + Send>,
}

impl Task {
    fn run(mut self) {
        loop {
            let go_on = match self.receiver.recv_timeout(self.options.poll) {
                Ok(Message::Event) => self.settle(),
                Err(RecvTimeoutError::Timeout) => {
                    self.look();
                    true
                }
                Ok(Message::Files(files, seen)) => {
                    self.replace(files, seen);
                    // What happened before the folders were watched gave no event, and may go on.
                    if Seen::of(&self.files) == self.seen { true } else { self.settle() }
                }
                Ok(Message::Read(seen)) => {
                    self.seen.take(seen);
                    true
                }
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => false,
            };
            if !go_on {
                return;
            }
        }
    }

    /// Waits until the change is complete, then looks. `false` = stop.
    fn settle(&mut self) -> bool {
        let deadline = Instant::now() + self.options.max;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.receiver.recv_timeout(self.options.debounce.min(left)) {
                Ok(Message::Event) if !left.is_zero() => {}
                Ok(Message::Files(files, seen)) => self.replace(files, seen),
                Ok(Message::Read(seen)) => self.seen.take(seen),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                Ok(Message::Event) | Err(RecvTimeoutError::Timeout) => {
                    // An empty or missing file is most often one that is just being written.
                    if left.is_zero() || !Seen::of(&self.files).shrunk_since(&self.seen) {
                        break;
                    }
                }
            }
        }
        self.look();
        true
    }

    fn look(&mut self) {
        let now = Seen::of(&self.files);
        self.follow();
        if now != self.seen {
            self.seen = now;
            (self.on_change)();
        }
    }

    fn replace(&mut self, files: Vec<PathBuf>, mut seen: Seen) {
        seen.take(std::mem::replace(&mut self.seen, Seen(BTreeMap::new())));
        self.files = files;
        self.seen = seen;
        self.follow();
    }

    /// Watches the folders of the files and of what their symlinks lead to, as they are now.
    fn follow(&mut self) {
        self.names.set(&self.files);
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: BTreeSet<PathBuf> = self.files.iter().flat_map(|file| folders(file)).collect();
        for gone in self.folders.difference(&wanted) {
            // It may have been deleted, and its watch with it.
            let _ = watcher.unwatch(gone);
        }
        // A folder that was deleted and made again needs a new watch, so all are asked for again; doing so twice is
        // harmless. One that cannot be watched is polled.
        self.folders = wanted
            .into_iter()
            .filter(|folder| watcher.watch(folder, RecursiveMode::NonRecursive).is_ok())
            .collect();
    }
}

/// The last parts of the watched paths and of what their symlinks lead to, shared with the system's callback.
#[derive(Debug, Clone, Default)]
struct Names(Arc<Mutex<BTreeSet<OsString>>>);

impl Names {
    fn set(&self, files: &[PathBuf]) {
        let real = files.iter().filter_map(|file| file.canonicalize().ok());
        let all = files.iter().cloned().chain(real);
        let names = all.filter_map(|path| path.file_name().map(OsStr::to_owned)).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// Whether an event is worth a look. Reading a file is an event too, and the look that follows would cause the next
    /// one; and a log that is written in the same folder is none of our business. What comes, goes or is renamed may be.
    fn concerned(&self, event: &notify::Event) -> bool {
        if event.kind.is_access() {
            return false;
        }
        let EventKind::Modify(ModifyKind::Data(_)) = event.kind else { return true };
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        event.paths.iter().any(|path| path.file_name().is_none_or(|name| names.contains(name)))
    }
}

/// The folders where an event may change what a path leads to.
fn folders(path: &Path) -> Vec<PathBuf> {
    let parent = |path: &Path| match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut out = vec![parent(path)];
    if path.is_dir() {
        out.push(path.to_owned());
    }
    let mut at = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(target) = std::fs::read_link(&at) else { break };
        at = parent(&at).join(target);
        out.push(parent(&at));
    }
    if let Ok(real) = path.canonicalize() {
        out.push(parent(&real));
    }
    out
}

/// Content hashes; `None` = missing or unreadable.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen(BTreeMap<PathBuf, Option<Content>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    hash: blake3::Hash,
    empty: bool,
}

impl Seen {
    fn of(paths: &[PathBuf]) -> Self {
        let mut seen = BTreeMap::new();
        for path in paths {
            if path.is_dir() {
                // A folder's content is the names of its files; the files themselves are listed beside it.
                seen.insert(path.clone(), Some(folder(path)));
            } else {
                seen.insert(path.clone(), content(path).ok());
            }
        }
        Self(seen)
    }

    /// Takes over what is known of the files that are in both.
    fn take(&mut self, other: Self) {
        for (path, content) in other.0 {
            if let Some(entry) = self.0.get_mut(&path) {
                *entry = content;
            }
        }
    }

    /// Something that held text before holds none now.
    fn shrunk_since(&self, before: &Self) -> bool {
        self.0.iter().any(|(path, now)| {
            let gone = now.as_ref().is_none_or(|content| content.empty);
            gone && before
                .0
                .get(path)
                .is_some_and(|then| then.as_ref().is_some_and(|content| !content.empty))
        })
    }
}

fn content(path: &Path) -> io::Result<Content> {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path)?.take(FILE_MAX_BYTES + 1);
    let mut buffer = [0; 8 << 10];
    let mut empty = true;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Content { hash: hasher.finalize(), empty }),
            n => {
                empty = false;
                hasher.update(&buffer[..n]);
            }
        }
    }
}

fn folder(path: &Path) -> Content {
    let mut names: Vec<PathBuf> = std::fs::read_dir(path)
        .map(|entries| entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect())
        .unwrap_or_default();
    names.retain(|name| name.extension().is_some_and(|extension| extension == "toml"));
    names.sort();
    let mut hasher = blake3::Hasher::new();
    for name in &names {
        hasher.update(name.as_os_str().as_encoded_bytes());
        hasher.update(&[0]);
    }
    Content { hash: hasher.finalize(), empty: names.is_empty() }
}
