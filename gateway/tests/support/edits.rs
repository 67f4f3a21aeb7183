//! Edits of a running gateway's file, and what became of them.

use std::path::{Path, PathBuf};

use super::{Gateway, wait_until};

/// The file that [`Gateway::start`] writes.
pub fn file(gateway: &Gateway) -> PathBuf {
    gateway.dir.path().join("forebay.toml")
}

pub fn text(gateway: &Gateway) -> String {
    std::fs::read_to_string(file(gateway)).unwrap()
}

/// Replaces a file in one step.
pub fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

/// Reloads so far that ended `applied` or `refused`.
pub fn reloads(gateway: &Gateway, result: &str) -> u64 {
    gateway.metric(&format!("forebay_config_reloads_total{{result=\"{result}\"}}")) as u64
}

/// Offers a text and waits until it is in force.
pub fn apply(gateway: &Gateway, text: &str) {
    offer(gateway, text, "applied");
}

/// Offers a text and waits until it is refused.
pub fn refuse(gateway: &Gateway, text: &str) {
    offer(gateway, text, "refused");
}

#[track_caller]
fn offer(gateway: &Gateway, text: &str, result: &str) {
    let before = reloads(gateway, result);
    replace(&file(gateway), text);
    wait_until(&format!("a reload to be {result}"), || reloads(gateway, result) > before);
}

/// Changes one place of the file and waits until it is in force.
#[track_caller]
pub fn edit(gateway: &Gateway, from: &str, to: &str) {
    let before = text(gateway);
    assert_eq!(before.matches(from).count(), 1, "{from:?} in {before}");
    apply(gateway, &before.replacen(from, to, 1));
}

/// Puts a line under the `[server]` table.
#[track_caller]
pub fn server(gateway: &Gateway, line: &str) {
    edit(gateway, "[server]\n", &format!("[server]\n{line}\n"));
}
