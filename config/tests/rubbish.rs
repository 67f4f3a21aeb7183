//! Whatever a file holds, the loader answers, and what it says can be printed.

mod common;

use std::path::Path;

use common::World;
use config::{Style, diff, effective, load_text};
use proptest::prelude::*;

const FILES: &[&str] = &[
    include_str!("sample.toml"),
    include_str!("../examples/homelab.toml"),
    include_str!("../examples/lab.toml"),
    include_str!("../examples/regions.toml"),
    include_str!("../examples/production.toml"),
    include_str!("../default.toml"),
];

/// Pieces that mean something to the loader.
const PIECES: &[&str] = &[
    "\"",
    "\"\"\"",
    "'",
    "[",
    "]",
    "[[",
    "{",
    "}",
    "=",
    "${",
    "${A:-",
    "${file:",
    "$${",
    "\n",
    "\r\n",
    "\0",
    "\u{feff}",
    "é",
    "日",
    "0",
    "-1",
    "9223372036854775808",
    "1e400",
    "nan",
    "true",
    "[model.deployments.x]",
    "[[key]]",
    "secret = ",
    "url = ",
    "http://u:p@h",
    "include = ['.']",
    ".",
    "#",
    "\t",
    "2035-01-01T00:00:00Z",
];

fn answers(text: &str) {
    match load_text("f.toml", text, Path::new("/f"), &World::default()) {
        Ok(loaded) => {
            let _ = (effective(&loaded), loaded.report().render(Style { color: true }));
            assert_eq!(diff(&loaded, &loaded), "");
        }
        Err(report) => {
            assert!(report.has_errors(), "refused without an error: {text:?}");
            let printed = report.render(Style::default());
            let control = |c: char| c.is_control() && c != '\n';
            assert!(!printed.contains(control), "{printed:?}");
            let json: serde_json::Value =
                serde_json::from_str(&report.to_json()).unwrap_or_default();
            assert_eq!(
                json["diagnostics"].as_array().map(Vec::len),
                Some(report.diagnostics.len())
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered(text in ".{0,400}") {
        answers(&text);
    }

    #[test]
    fn any_pieces_are_answered(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40)) {
        answers(&pieces.concat());
    }

    #[test]
    fn edited_files_are_answered(
        file in prop::sample::select(FILES),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..30usize, prop::sample::select(PIECES)), 1..6),
    ) {
        let mut text: Vec<char> = file.chars().collect();
        for (at, cut, piece) in edits {
            let at = at.index(text.len().max(1)).min(text.len());
            let end = (at + cut).min(text.len());
            text.splice(at..end, piece.chars());
        }
        answers(&text.into_iter().collect::<String>());
    }

    #[test]
    fn a_secret_never_shows(cut in any::<prop::sample::Index>(), len in 0..12usize, piece in prop::sample::select(PIECES)) {
        // Any damage near a credential, and still nothing of it is printed.
        let text = "[admin]\nmode = \"off\"\ntoken = \"CANARY-CANARY\"\n[[backend]]\nname = \"a\"\napi_key = \"CANARY-CANARY\"\nkind = 3\n";
        let mut chars: Vec<char> = text.chars().collect();
        let at = cut.index(chars.len());
        let end = (at + len).min(chars.len());
        // A value behind the name of another key, which holds no credential, has no sign of being one; a new line takes
        // it away from its key, and so does much damage to the key's name, but a typo does not.
        let line = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let in_name = !text[line..at].contains('=');
        let new_key = piece.contains(" = ") || piece.contains('\n') || text[at..end].contains('\n');
        if new_key || (in_name && end - at > 1) {
            return Ok(());
        }
        chars.splice(at..end, piece.chars());
        let text: String = chars.into_iter().collect();
        if let Err(report) = load_text("f.toml", &text, Path::new("/f"), &World::default()) {
            for shown in [report.render(Style::default()), report.to_json(), format!("{report:?}")] {
                prop_assert!(!shown.contains("CANARY"), "{text}\n{shown}");
            }
        }
    }
}
