//! What a test does in a process of its own: this very binary, asked for one test with a task in its environment.

#![expect(clippy::print_stdout, reason = "its parent reads what it prints")]

use std::path::Path;
use std::process::{Command, Stdio};

use admin::store::{ObjectKind, Role, Store, StoreError};

use crate::{entry, object};

const TASK: &str = "STORE_TEST_TASK";
const PATH: &str = "STORE_TEST_PATH";

/// A process that will do a task on a store. Its lines that begin with `ack ` tell what was acknowledged.
pub(crate) fn of(task: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    set_up(&mut command, task, path);
    command
}

/// As [`of`], run by a shell whose `$0` is this binary, behind what `script` does first.
pub(crate) fn behind(script: &str, task: &str, path: &Path) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{script}\nexec \"$0\" \"$@\""));
    command.arg(std::env::current_exe().unwrap());
    set_up(&mut command, task, path);
    command
}

fn set_up(command: &mut Command, task: &str, path: &Path) {
    command.args(["child::does_its_task", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(TASK, task).env(PATH, path).stdout(Stdio::piped());
}

pub(crate) fn acknowledged(line: &str) -> Option<String> {
    line.split_once("ack ").map(|(_, id)| id.to_owned())
}

/// Runs in a child only; asked for by the whole suite, it has no task.
#[test]
fn does_its_task() {
    let Ok(task) = std::env::var(TASK) else { return };
    let path = std::env::var(PATH).unwrap();
    let (task, name) = task.split_once(' ').unwrap_or((&task, ""));
    match task {
        "write" => write(Path::new(&path), name, 300),
        "fill" => fill(Path::new(&path)),
        "read-only" => read_only(Path::new(&path)),
        _ => panic!("no task: {task}"),
    }
}

/// Writes objects one by one and says which of them were acknowledged.
fn write(path: &Path, prefix: &str, count: usize) {
    let store = Store::open(path, Role::Writer).unwrap();
    for number in 0..count {
        let name = format!("{prefix}-{number}");
        let id = store.write_blocking(move |tx| {
            let object = object(ObjectKind::Backend, &name, tx.next_revision()?);
            tx.put_object(&object)?;
            tx.add_audit(&entry("create", &object.id))?;
            Ok::<_, StoreError>(object.id)
        });
        println!("ack {}", id.unwrap());
    }
}

/// Writes until the disk is full; then nothing that was acknowledged may be missing, reads must work, and with room writes too.
fn fill(path: &Path) {
    // Takes room that can be given back; where a limit of the process stands in for a disk, there is none to give back.
    let ballast = path.with_file_name("ballast");
    let has_ballast = ballast.exists();
    let store = Store::open(path, Role::Writer).unwrap();
    let put = |number: usize| {
        store.write_blocking(move |tx| {
            let mut object = object(ObjectKind::Backend, &format!("b-{number}"), 1);
            object.body.insert("metadata".to_owned(), "x".repeat(20_000).into());
            tx.put_object(&object)
        })
    };
    let (written, error) = (0..100_000).find_map(|at| put(at).err().map(|why| (at, why))).unwrap();
    assert_eq!(error, StoreError::Full);
    assert!(error.is_storage());
    assert!(written > 5, "{written}");
    let kept = || store.read_blocking(|tx| tx.objects(None)).unwrap().len();
    assert_eq!(kept(), written);
    // It may be tried again and again.
    assert_eq!(put(written), Err(StoreError::Full));
    assert_eq!(kept(), written);
    if has_ballast {
        std::fs::remove_file(ballast).unwrap();
        put(written).unwrap();
        assert_eq!(kept(), written + 1);
    }
    store.read_blocking(|tx| tx.check_integrity()).unwrap();
    println!("ack {}", kept());
}

/// A file that was made before and cannot be written now: it can be followed, and a writer says why it cannot start.
fn read_only(path: &Path) {
    assert_eq!(Store::open(path, Role::Writer).err(), Some(StoreError::ReadOnly));
    println!("ack read-only");
}
