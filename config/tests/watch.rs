//! Files change in the ways that editors, `cp` and Kubernetes change them; the watcher says so.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers that fail a test")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use config::{WatchOptions, Watcher};

/// Long enough for a loaded machine; nothing waits for it to pass.
const DEADLINE: Duration = Duration::from_secs(20);

/// Events alone: the poll cannot hide that one is missing.
fn events_only() -> WatchOptions {
    WatchOptions { poll: Duration::from_secs(3600), ..WatchOptions::default() }
}

/// Watches one file, and reports its text at each change.
fn watch(file: &Path, options: WatchOptions) -> (Watcher, Receiver<String>) {
    let (sender, receiver) = channel();
    let path = file.to_owned();
    let watcher = Watcher::start(vec![file.to_owned()], options, move || {
        let _ = sender.send(fs::read_to_string(&path).unwrap_or_else(|_| "(none)".to_owned()));
    });
    (watcher.unwrap(), receiver)
}

/// Waits until the text has been reported.
fn until(receiver: &Receiver<String>, text: &str) {
    let deadline = std::time::Instant::now() + DEADLINE;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        match receiver.recv_timeout(left) {
            Ok(seen) if seen == text => return,
            Ok(_) => {}
            Err(error) => panic!("{text:?} was never reported: {error}"),
        }
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn file_in(folder: &tempfile::TempDir, text: &str) -> PathBuf {
    let file = folder.path().join("forebay.toml");
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn an_editor_that_renames_is_followed_each_time() {
    let folder = folder();
    let file = file_in(&folder, "0");
    let (_watcher, changes) = watch(&file, events_only());
    for text in ["1", "2", "3"] {
        // vim: the old file becomes the backup, a new one takes its name, the backup goes.
        let backup = folder.path().join("forebay.toml~");
        fs::rename(&file, &backup).unwrap();
        fs::write(&file, text).unwrap();
        fs::remove_file(&backup).unwrap();
        until(&changes, text);
    }
}

#[test]
fn a_copy_over_the_file_is_seen() {
    let folder = folder();
    let file = file_in(&folder, "0");
    let (_watcher, changes) = watch(&file, events_only());
    let other = folder.path().join("other");
    for text in ["1", "2"] {
        fs::write(&other, text).unwrap();
        fs::copy(&other, &file).unwrap();
        until(&changes, text);
    }
}

#[test]
fn a_swapped_symlink_is_seen_each_time() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    // As Kubernetes mounts a ConfigMap: forebay.toml -> ..data/forebay.toml, ..data -> a folder of the version.
    for text in ["0", "1", "2"] {
        fs::create_dir(at(text)).unwrap();
        fs::write(at(text).join("forebay.toml"), text).unwrap();
    }
    symlink("0", at("..data")).unwrap();
    symlink("..data/forebay.toml", at("forebay.toml")).unwrap();
    let (_watcher, changes) = watch(&at("forebay.toml"), events_only());
    for text in ["1", "2"] {
        symlink(text, at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        until(&changes, text);
    }
}

#[test]
fn the_target_of_a_symlink_in_another_folder_is_seen() {
    let (folder, elsewhere) = (folder(), folder());
    let target = elsewhere.path().join("real.toml");
    fs::write(&target, "0").unwrap();
    let link = folder.path().join("forebay.toml");
    symlink(&target, &link).unwrap();
    let (_watcher, changes) = watch(&link, events_only());
    fs::write(&target, "1").unwrap();
    until(&changes, "1");
}

#[test]
fn a_file_that_goes_and_comes_is_seen() {
    let folder = folder();
    let file = file_in(&folder, "0");
    let (_watcher, changes) = watch(&file, events_only());
    fs::remove_file(&file).unwrap();
    until(&changes, "(none)");
    fs::write(&file, "1").unwrap();
    until(&changes, "1");
}

#[test]
fn a_file_written_in_place_is_reported_whole() {
    let folder = folder();
    let file = file_in(&folder, "before");
    let options = WatchOptions {
        debounce: Duration::from_millis(50),
        max: Duration::from_secs(60),
        ..events_only()
    };
    let (_watcher, changes) = watch(&file, options);
    // Truncated, and only after several debounces filled: the empty file in between is not a change.
    let mut open = fs::OpenOptions::new().write(true).truncate(true).open(&file).unwrap();
    assert_eq!(changes.recv_timeout(Duration::from_millis(400)), Err(RecvTimeoutError::Timeout));
    open.write_all(b"after").unwrap();
    drop(open);
    assert_eq!(changes.recv_timeout(DEADLINE).unwrap(), "after");
}

#[test]
fn the_same_text_again_is_no_change() {
    let folder = folder();
    let file = file_in(&folder, "same");
    let (_watcher, changes) = watch(&file, events_only());
    fs::write(&file, "same").unwrap();
    fs::write(folder.path().join("other.toml"), "x").unwrap();
    fs::write(&file, "new").unwrap();
    assert_eq!(changes.recv_timeout(DEADLINE).unwrap(), "new", "the first report is the change");
}

#[test]
fn what_is_about_to_be_read_anyway_is_no_news() {
    let folder = folder();
    let file = file_in(&folder, "0");
    let (watcher, changes) = watch(&file, events_only());
    fs::write(&file, "1").unwrap();
    watcher.about_to_read(std::slice::from_ref(&file));
    watcher.set_files(vec![file.clone()]);
    fs::write(&file, "2").unwrap();
    assert_eq!(changes.recv_timeout(DEADLINE).unwrap(), "2", "only what came later is a change");
}

#[test]
fn polling_finds_what_no_event_told() {
    let folder = folder();
    // A folder that does not exist yet cannot be watched.
    let file = folder.path().join("later/forebay.toml");
    let options = WatchOptions { poll: Duration::from_millis(20), ..WatchOptions::default() };
    let (_watcher, changes) = watch(&file, options);
    fs::create_dir(folder.path().join("later")).unwrap();
    fs::write(&file, "1").unwrap();
    until(&changes, "1");
}

#[test]
fn new_files_are_watched_and_old_ones_no_more() {
    let folder = folder();
    let file = file_in(&folder, "0");
    let other = folder.path().join("other.toml");
    fs::write(&other, "0").unwrap();
    let (watcher, changes) = watch(&file, events_only());
    watcher.set_files(vec![other.clone()]);
    fs::write(&file, "1").unwrap();
    fs::write(&other, "1").unwrap();
    until(&changes, "1");
    drop(watcher);
    fs::write(&other, "2").unwrap();
    assert!(
        changes.recv_timeout(DEADLINE).is_err(),
        "a dropped watcher is silent and its thread gone"
    );
}

#[test]
fn a_new_file_in_a_watched_folder_is_a_change() {
    let folder = folder();
    file_in(&folder, "0");
    let (sender, receiver) = channel();
    let files = vec![folder.path().to_owned(), folder.path().join("forebay.toml")];
    let _watcher = Watcher::start(files, events_only(), move || {
        let _ = sender.send(());
    })
    .unwrap();
    fs::write(folder.path().join("more.toml"), "x").unwrap();
    receiver.recv_timeout(DEADLINE).unwrap();
}
