//! A disk that is full or cannot be written: the right error, and nothing lost.
//!
//! A real small disk needs a mount in a user namespace. Where the system allows none, a limit on the size of files stands in for it.

#![expect(clippy::print_stdout, reason = "a failed child is shown with its output")]

use std::process::{Command, Output};

use admin::store::{Role, Store, StoreError};

use crate::{Place, child};

const UNSHARE: [&str; 3] = ["--user", "--map-root-user", "--mount"];

fn mounts() -> bool {
    let mut trial = Command::new("unshare");
    trial.args(UNSHARE).args(["mount", "-t", "tmpfs", "none", "/mnt"]);
    let mounts = trial.output().is_ok_and(|output| output.status.success());
    println!("mounts in a user namespace: {mounts}");
    mounts
}

/// Runs a task on a disk of its own, mounted over the store's folder.
fn on_a_disk(script: &str, task: &str, place: &Place) -> Output {
    let shell = child::behind(script, task, &place.path());
    let mut command = Command::new("unshare");
    command.args(UNSHARE).arg(shell.get_program()).args(shell.get_args());
    for (name, value) in shell.get_envs() {
        command.env(name, value.unwrap());
    }
    command.current_dir(place.folder.path()).output().unwrap()
}

fn passed(output: &Output) -> bool {
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    output.status.success() && text.lines().any(|line| child::acknowledged(line).is_some())
}

#[test]
fn a_full_disk_refuses_the_write_and_keeps_the_rest() {
    if !mounts() {
        return;
    }
    let place = Place::new();
    let script = "set -e; mkdir -p data; mount -t tmpfs -o size=4m none data
        head -c 1048576 /dev/zero > data/ballast";
    assert!(passed(&on_a_disk(script, "fill", &place)));
}

#[test]
fn a_file_that_may_not_grow_is_a_full_disk() {
    let place = Place::new();
    // Blocks of 512 bytes in one shell, of 1024 in another.
    let script = "trap '' XFSZ; ulimit -f 2048";
    assert!(passed(&child::behind(script, "fill", &place.path()).output().unwrap()));
    // Without the limit everything is there and goes on.
    let store = place.writer();
    let kept = store.read_blocking(|tx| tx.objects(None)).unwrap().len();
    assert!(kept > 5, "{kept}");
    store.write_blocking(|tx| tx.set_meta("after", "1")).unwrap();
}

#[test]
fn a_read_only_disk_is_said_to_be_one() {
    if !mounts() {
        return;
    }
    let place = Place::new();
    drop(place.writer());
    let script = "set -e; mkdir disk; mount -t tmpfs none disk; cp data/forebay.db disk
        mount --bind disk data; mount -o remount,ro,bind data";
    assert!(passed(&on_a_disk(script, "read-only", &place)));
}

#[test]
fn a_folder_that_cannot_be_made_is_said_to_be_one() {
    let place = Place::new();
    std::fs::write(place.folder.path().join("data"), "a file").unwrap();
    let error = Store::open(&place.path(), Role::Writer).unwrap_err();
    assert!(matches!(error, StoreError::Other(_)), "{error:?}");
}
