//! The parts of documents that follow from the sources. With `FOREBAY_BLESS=1` they are written anew instead of compared.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use crate::tree::{File, files, has_extension, is_test, read, root};

/// A crate's section of the code map begins with its folder; its table, with this.
const TABLE: &str = "| file | what |\n|---|---|\n";

fn settle(document: &str, before: &str, after: &str) {
    if std::env::var_os("FOREBAY_BLESS").is_some() {
        fs::write(root().join(document), after).unwrap();
    } else {
        assert!(before == after, "{document} is behind the sources: run `make docs`");
    }
}

#[test]
fn the_code_map_says_what_the_files_say() {
    let before = read("ARCHITECTURE.md");
    let sources = files(|path| {
        has_extension(path, "rs")
            && path.contains("/src/")
            && !is_test(path)
            && !path.starts_with("fuzz/")
    });
    let mut mapped = 0;
    let sections = before.split("\n### ").map(|section| {
        let Some((intro, table)) = section.split_once(TABLE) else { return section.to_owned() };
        let folder = intro.split([' ', ':', '\n']).next().unwrap_or_default();
        let prefix = format!("{folder}/src/");
        let mut written = format!("{intro}{TABLE}");
        for file in &sources {
            if let Some(name) = file.path.strip_prefix(&prefix) {
                writeln!(written, "| `{name}` | {} |", first_sentence(file)).unwrap();
                mapped += 1;
            }
        }
        let rest = table.lines().skip_while(|line| line.starts_with("| `"));
        rest.for_each(|line| writeln!(written, "{line}").unwrap());
        written.trim_end_matches('\n').to_owned() + "\n"
    });
    let after = sections.collect::<Vec<_>>().join("\n### ");
    settle("ARCHITECTURE.md", &before, &after);
    assert_eq!(mapped, sources.len(), "a crate has no section in the code map");
}

/// The first sentence of a file's own comment, as Markdown outside rustdoc.
fn first_sentence(file: &File) -> String {
    let lines = file.text.lines().map_while(|line| line.strip_prefix("//!"));
    let paragraph: Vec<&str> = lines.map(str::trim).take_while(|line| !line.is_empty()).collect();
    let paragraph = paragraph.join(" ");
    assert!(!paragraph.is_empty(), "{} does not say what it is", file.path);
    let end = paragraph.find(". ").unwrap_or(paragraph.len());
    let sentence = paragraph[..end].trim_end_matches('.');
    sentence.replace("[`", "`").replace("`]", "`").replace('|', "\\|")
}

#[test]
fn the_conformance_table_names_the_tests_that_exist() {
    let mut tests: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for file in files(|path| path.starts_with("gateway/tests/")) {
        for test in file.text.split("fn trap_").skip(1) {
            let name = test.split('(').next().unwrap_or_default();
            let number = name.split('_').next().unwrap_or_default().parse().unwrap();
            tests.entry(number).or_default().push(format!("`trap_{name}`"));
        }
    }
    let before = read("docs/conformance.md");
    let mut after = String::new();
    let mut numbers = Vec::new();
    for line in before.lines() {
        let mut columns = line.split(" | ");
        let number = columns.next().and_then(|first| first.strip_prefix("| ")?.parse().ok());
        match (number, columns.next()) {
            (Some(number), Some(what)) => {
                numbers.push(number);
                let written = columns.next().unwrap_or_default().trim_end_matches(" |");
                // What stands there stays only where no test takes its place.
                let held = match tests.get(&number) {
                    Some(tests) => tests.join(", "),
                    None if written.contains("`trap_") => "not yet".to_owned(),
                    None => written.to_owned(),
                };
                writeln!(after, "| {number} | {what} | {held} |").unwrap();
            }
            _ => writeln!(after, "{line}").unwrap(),
        }
    }
    settle("docs/conformance.md", &before, &after);
    assert_eq!(numbers, (1..=96).collect::<Vec<_>>(), "the numbers of the traps");
    let unknown: Vec<_> = tests.keys().filter(|number| !numbers.contains(number)).collect();
    assert!(unknown.is_empty(), "traps that are in no row: {unknown:?}");
}
