//! Replays the fuzz corpus of the loader.
#![expect(clippy::expect_used, reason = "shared with the fuzz target")]

#[path = "../../fuzz/config_check.rs"]
mod config_check;

use std::fs;
use std::path::Path;

#[test]
fn the_corpus_of_the_loader_is_answered() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/config");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        config_check::config(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 15, "the corpus is gone: {count} files");
}
