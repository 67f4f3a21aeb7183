//! Wrong files and, beside each, what is printed about it. `UPDATE_EXPECT=1` writes the prints anew.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::World;
use config::{Style, load_text};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong")
}

#[test]
fn every_wrong_file_is_refused_as_committed() {
    let mut world = World::default();
    world.vars.insert("CANARY".into(), "canary canary".into());
    let mut files: Vec<PathBuf> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    assert!(files.len() >= 50, "only {} wrong files", files.len());
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut differ = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let Err(report) = load_text("forebay.toml", &text, Path::new("/etc/forebay"), &world)
        else {
            panic!("{} is accepted", file.display());
        };
        assert!(report.has_errors(), "{}", file.display());
        let printed = report.render(Style::default());
        for shown in [&printed, &report.render(Style { color: true }), &report.to_json()] {
            assert!(!shown.contains("canary"), "{} shows a secret:\n{shown}", file.display());
        }
        assert!(!printed.contains('\u{1b}'), "{}", file.display());
        let expected = file.with_extension("txt");
        if update {
            fs::write(&expected, &printed).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != printed {
            differ.push(format!("--- {}\n{printed}", file.display()));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}
