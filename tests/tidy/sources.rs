//! Rules for source files.

use crate::tree::{files, has_extension, is_test, none, split_tests};

/// Longest Rust source without its tests, lines.
const LINES_MAX: usize = 420;
/// Test code that may wait for a real span, and why.
const WAITS: [(&str, &str); 5] = [
    ("admin/tests/http/server.rs", "polls for a state with a deadline"),
    ("admin/tests/support/mod.rs", "polls for a state with a deadline"),
    ("gateway/tests/support/mod.rs", "polls for a state with a deadline"),
    ("loadtest/tests/wire/connections.rs", "compares two looks at a counter inside a poll"),
    ("tests/sdk/process.py", "polls for a state with a deadline"),
];
/// This file spells out what it looks for.
const SELF: &str = "tests/tidy/sources.rs";

fn is_rust(path: &str) -> bool {
    has_extension(path, "rs") && path != SELF
}

#[test]
fn sources_stay_short() {
    let long: Vec<String> = files(|path| is_rust(path) && !is_test(path))
        .iter()
        .map(|file| (split_tests(&file.text).0.lines().count(), &file.path))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    none(&long, "a source has more than 420 lines: split it by noun");
}

#[test]
fn no_test_is_skipped_and_nothing_is_left_to_do() {
    let found: Vec<String> = files(is_rust)
        .iter()
        .flat_map(|file| {
            let found = ["#[ignore", "todo!(", "unimplemented!("].into_iter();
            found
                .filter(|word| file.text.contains(word))
                .map(|word| format!("{}: {word}", file.path))
        })
        .collect();
    none(&found, "skipped or unfinished");
}

#[test]
fn tests_wait_for_states_and_not_for_spans() {
    let is_script = |path: &str| has_extension(path, "py");
    let sleeping: Vec<String> = files(|path| is_rust(path) || is_script(path))
        .iter()
        .filter(|file| {
            let whole = is_test(&file.path) || is_script(&file.path);
            let tests = if whole { file.text.as_str() } else { split_tests(&file.text).1 };
            waits_for_spans(tests) && !WAITS.iter().any(|(path, _)| *path == file.path)
        })
        .map(|file| file.path.clone())
        .collect();
    none(&sleeping, "a test sleeps: pause the clock, or poll for a state with a deadline");
}

/// Whether there is a sleep neither on a paused clock nor between two looks of a `while`.
fn waits_for_spans(tests: &str) -> bool {
    tests.split("#[tokio::test").any(|test| {
        let paused = test.starts_with("(start_paused = true");
        let lines: Vec<&str> = test.lines().collect();
        let slept = lines.windows(2).filter(|pair| pair[1].contains("sleep("));
        !paused && slept.into_iter().any(|pair| !pair[0].trim_start().starts_with("while "))
    })
}

#[test]
fn every_excuse_for_waiting_is_still_needed() {
    let stale: Vec<String> = WAITS
        .iter()
        .filter(|(path, _)| !crate::tree::read(path).contains("sleep("))
        .map(|(path, _)| (*path).to_owned())
        .collect();
    none(&stale, "no longer waits");
}

#[test]
fn no_file_names_a_folder_of_somebodys_machine() {
    let prefixes = ["/root/", "/home/", "/Users/", "/work/"];
    let found: Vec<String> = files(|path| path != SELF && path != "Cargo.lock")
        .iter()
        .flat_map(|file| {
            let lines = file.text.lines().enumerate();
            let named = lines.filter(|(_, line)| prefixes.iter().any(|prefix| names(line, prefix)));
            named.map(|(number, _)| format!("{}:{}", file.path, number + 1)).collect::<Vec<_>>()
        })
        .collect();
    none(&found, "an absolute path of one machine");
}

/// Whether a path that begins with `prefix` stands in the line; not the middle of a longer path or a URL.
fn names(line: &str, prefix: &str) -> bool {
    line.match_indices(prefix).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before
            .is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '_' | '-' | '.' | '}' | ')' | '/'))
    })
}
