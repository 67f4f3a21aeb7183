//! What must hold for any configuration file; shared by the fuzz target and by the replay of its corpus.

use std::io;
use std::path::{Path, PathBuf};

use config::{Environment, Style, load_text};

/// A world with one variable and no files.
struct Nothing;

impl Environment for Nothing {
    fn var(&self, name: &str) -> Option<String> {
        (name == "CANARY").then(|| "canary-canary".to_owned())
    }

    fn read(&self, _: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn list(&self, _: &Path) -> io::Result<Option<Vec<PathBuf>>> {
        Ok(None)
    }
}

/// Any text is accepted or refused with an error, and neither shows what a variable holds.
pub(crate) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let shown = match load_text("f.toml", text, Path::new("/f"), &Nothing) {
        Ok(loaded) => {
            assert_eq!(config::diff(&loaded, &loaded), "");
            config::effective(&loaded)
        }
        Err(report) => {
            assert!(report.has_errors(), "refused without an error");
            let printed = report.render(Style::default());
            assert!(!printed.contains(|c: char| c.is_control() && c != '\n'));
            let json: serde_json::Value = serde_json::from_str(&report.to_json()).expect("JSON");
            assert!(json["errors"].as_u64() > Some(0));
            printed
        }
    };
    // Names, and names alone, are shown expanded: they are what the rest of the file refers to.
    assert!(text.contains("name") || text.contains("canary") || !shown.contains("canary-canary"));
}
