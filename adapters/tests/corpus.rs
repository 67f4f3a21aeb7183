//! Replays the fuzz corpora through the checks of the fuzz targets.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests")]
#![expect(unreachable_pub, reason = "the checks are shared with the fuzz targets")]

use std::fs;
use std::path::Path;

#[path = "../../fuzz/checks.rs"]
mod checks;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 4, "the corpus of {target} is gone");
    for file in files {
        // Captured with a failing test's output, so that it names the file.
        println!("{}", file.display());
        check(&fs::read(&file).unwrap());
    }
}

#[test]
fn peek() {
    replay("peek", checks::peek);
}

#[test]
fn sse() {
    replay("sse", checks::sse);
}

#[test]
fn error_body() {
    replay("error_body", checks::error_body);
}

#[test]
fn models() {
    replay("models", checks::models);
}

#[test]
fn metrics_text() {
    replay("metrics_text", checks::metrics_text);
}
