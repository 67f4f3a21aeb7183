//! The files of the tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A tracked text file.
pub(crate) struct File {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All tracked text files whose path satisfies `wanted`; never none.
pub(crate) fn files(wanted: impl Fn(&str) -> bool) -> Vec<File> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let files: Vec<File> = String::from_utf8(listed.stdout)
        .unwrap()
        .split('\0')
        .filter(|path| !path.is_empty() && wanted(path))
        .filter_map(|path| {
            // Neither text in another encoding nor what is deleted but not yet committed.
            let text = fs::read_to_string(root().join(path)).ok()?;
            Some(File { path: path.to_owned(), text })
        })
        .collect();
    assert!(!files.is_empty());
    files
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub(crate) fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

/// Test code by its place: integration tests, and the test modules of unit tests.
pub(crate) fn is_test(path: &str) -> bool {
    let mut folders = path.split('/');
    let name = folders.next_back().unwrap_or_default();
    name == "tests.rs" || folders.any(|folder| folder == "tests")
}

/// A Rust file without its inline test module, and that module.
pub(crate) fn split_tests(text: &str) -> (&str, &str) {
    let at = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text.split_at(at)
}

/// Fails with all findings at once.
pub(crate) fn none(findings: &[String], rule: &str) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}
