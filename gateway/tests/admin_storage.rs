//! A store that is full or cannot be written: changes are refused with 507, and everything else goes on.
//!
//! A real small disk needs a mount in a user namespace; where the system allows none, only the limit on the size of files stands in
//! for it.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use loadtest::{Profile, Upstream};
use serde_json::{Value, json};
use support::admin::{Admin, Mode, Site, config};
use support::{Gateway, TempDir, command, wait_until};

const UNSHARE: [&str; 3] = ["--user", "--map-root-user", "--mount"];

fn mounts() -> bool {
    let mut trial = Command::new("unshare");
    trial.args(UNSHARE).args(["mount", "-t", "tmpfs", "none", "/mnt"]);
    let mounts = trial.output().is_ok_and(|output| output.status.success());
    println!("mounts in a user namespace: {mounts}");
    mounts
}

/// A gateway whose process `script` has prepared in the folder `dir`; its store is `data/forebay.db` there.
fn start(dir: TempDir, before: &[&str], script: &str) -> (Gateway, Admin) {
    let file = dir.path().join("forebay.toml");
    std::fs::create_dir_all(dir.path().join("data")).unwrap();
    std::fs::write(&file, config(Mode::Embedded, "", "data/forebay.db")).unwrap();
    let binary = command();
    let (program, rest) = before.split_first().unwrap();
    let mut prepared = Command::new(program);
    for (name, value) in binary.get_envs() {
        match value {
            Some(value) => prepared.env(name, value),
            None => prepared.env_remove(name),
        };
    }
    prepared.args(rest).arg(format!("set -e\n{script}\nexec \"$0\" \"$@\""));
    prepared.arg(binary.get_program()).args(["serve", "--config"]).arg(&file);
    let gateway = Gateway::run(prepared, dir);
    let admin = Admin::at(gateway.admin());
    (gateway, admin)
}

fn in_a_namespace() -> Vec<&'static str> {
    [&["unshare"][..], &UNSHARE, &["sh", "-c"]].concat()
}

/// The gateway's folder of the store, as its process sees it.
fn data(gateway: &Gateway) -> PathBuf {
    let inside = gateway.dir.path().join("data");
    Path::new(&format!("/proc/{}/root", gateway.pid())).join(inside.strip_prefix("/").unwrap())
}

fn backend(name: &str, url: &str) -> Value {
    json!({"name": name, "kind": "vllm", "region": "eu", "url": url})
}

fn names(admin: Admin) -> Vec<String> {
    let page = admin.get("/admin/backends?limit=500");
    let all = page["data"].as_array().unwrap().iter();
    all.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

/// Changes are refused as said in docs/admin-errors.md; reads and traffic are as ever.
fn refuses_changes(gateway: &Gateway, admin: Admin, there: &[String]) {
    for _ in 0..3 {
        let refused = admin.ask("POST", "/admin/backends", "", Some(&big("too-much")));
        assert_eq!(refused.status, 507, "{}", refused.text());
        assert_eq!(refused.header("content-type"), Some("application/problem+json"));
        assert!(refused.json()["detail"].as_str().unwrap().contains("nothing was changed"));
    }
    assert_eq!(names(admin), there);
    admin.get("/admin/state");
    assert_eq!(admin.ask("GET", "/admin/config/effective", "", None).status, 200);
    for _ in 0..20 {
        assert_eq!(gateway.client().chat("tiny", "").status, 200);
    }
}

/// A backend that takes some room.
fn big(name: &str) -> Value {
    let mut body = backend(name, "http://127.0.0.1:9");
    body["enabled"] = false.into();
    let note = "x".repeat(4_000);
    body["metadata"] = json!({"a": note, "b": note, "c": note});
    body
}

/// Adds backends until one is refused; the names of those that were acknowledged.
fn fill(admin: Admin) -> Vec<String> {
    let mut there = names(admin);
    for number in 0..2_000 {
        let name = format!("b-{number:04}");
        let reply = admin.ask("POST", "/admin/backends", "", Some(&big(&name)));
        if reply.status != 201 {
            assert_eq!(reply.status, 507, "{}", reply.text());
            return there;
        }
        there.push(name);
        there.sort_unstable();
    }
    panic!("it never became full");
}

/// Full, then with room again; `full` and `room` change how much there is. What was acknowledged is there after a start on a copy.
fn full_and_room_again(
    gateway: &Gateway,
    admin: Admin,
    full: impl Fn(&Gateway),
    room: impl Fn(&Gateway),
) {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    admin.post("/admin/backends", &backend("a", &upstream.url()));
    gateway.wait_for_model("tiny");
    full(gateway);
    let mut there = fill(admin);
    println!("{} backends when it was full", there.len());
    refuses_changes(gateway, admin, &there);
    let versions = admin.get("/admin/config/versions?limit=500");
    assert_eq!(versions["data"].as_array().unwrap().len(), there.len());
    room(gateway);
    assert_eq!(admin.post("/admin/backends", &big("with-room")).status, 201);
    there.push("with-room".to_owned());
    assert_eq!(names(admin), there);

    let copy = Arc::new(TempDir::new());
    gateway.signal("STOP");
    for end in ["", "-wal"] {
        let file = format!("forebay.db{end}");
        std::fs::copy(data(gateway).join(&file), copy.path().join(&file)).unwrap();
    }
    gateway.signal("CONT");
    let again = Site::on(&copy, Mode::Embedded, "");
    assert_eq!(names(again.admin), there);
}

#[test]
fn a_full_disk_refuses_changes_until_there_is_room() {
    if !mounts() {
        return;
    }
    let script = "mount -t tmpfs -o size=6m none data";
    let (gateway, admin) = start(TempDir::new(), &in_a_namespace(), script);
    let ballast = |gateway: &Gateway| data(gateway).join("ballast");
    let full = |gateway: &Gateway| {
        let mut file = std::fs::File::create(ballast(gateway)).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    };
    full_and_room_again(&gateway, admin, full, |gateway| {
        std::fs::remove_file(ballast(gateway)).unwrap();
    });
}

#[test]
fn files_that_may_not_grow_are_a_full_disk() {
    let (gateway, admin) = start(TempDir::new(), &["sh", "-c"], "trap '' XFSZ");
    let limit = |gateway: &Gateway, bytes: &str| {
        let pid = gateway.pid().to_string();
        let status =
            Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:")]).status();
        assert!(status.unwrap().success());
    };
    full_and_room_again(
        &gateway,
        admin,
        |gateway| limit(gateway, "0"),
        |gateway| limit(gateway, "unlimited"),
    );
}

#[test]
fn a_read_only_store_is_served_and_not_written() {
    if !mounts() {
        return;
    }
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let dir = TempDir::new();
    let (gateway, admin) = start(TempDir::new(), &["sh", "-c"], "");
    admin.post("/admin/backends", &backend("a", &upstream.url()));
    gateway.wait_for_model("tiny");
    let made = dir.path().join("made");
    std::fs::create_dir_all(&made).unwrap();
    for entry in std::fs::read_dir(data(&gateway)).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), made.join(entry.file_name())).unwrap();
        }
    }
    drop(gateway);
    let script = "mkfifo writable; mount -t tmpfs none data; cp made/* data
        mount -o remount,ro data
        (read line < writable; mount -o remount,rw data) &";
    let (gateway, admin) = start(dir, &in_a_namespace(), script);
    gateway.wait_for_model("tiny");
    refuses_changes(&gateway, admin, &["a".to_owned()]);
    std::fs::write(gateway.dir.path().join("writable"), "now\n").unwrap();
    wait_until("changes again", || {
        let body = big("with-room");
        admin.ask("POST", "/admin/backends", "", Some(&body)).status == 201
    });
    assert_eq!(names(admin), ["a", "with-room"]);
}
