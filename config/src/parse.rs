//! One text on its way to a typed tree: TOML, then every key.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, Error as TomlError};

use crate::diagnostic::{Code, Diagnostic, Place, SourceText};
use crate::environment::Environment;
use crate::keys::ROOT;
use crate::load::DIAGNOSTICS_MAX;
use crate::tree::Table;
use crate::walk::Walk;

/// What became of a text.
pub(crate) struct Parsed {
    pub(crate) source: SourceText,
    pub(crate) tree: Table,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Files that values were read from.
    pub(crate) files: Vec<PathBuf>,
}

/// Reads a text that will be the source number `source` of its load.
pub(crate) fn parse(
    name: &str,
    text: &str,
    source: usize,
    base: &Path,
    env: &dyn Environment,
) -> Parsed {
    // Editors on Windows put a byte order mark first; the TOML parser skips it with the right spans.
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut found = Vec::new();
    let mut walk =
        Walk { source, base, env, out: &mut found, secrets: Vec::new(), files: Vec::new() };
    let tree = walk.table("", ROOT, table.get_ref(), header_span(text));
    let mut stored = SourceText::new(name, text);
    stored.secrets = std::mem::take(&mut walk.secrets);
    let files = std::mem::take(&mut walk.files);
    stored.base = base.to_owned();
    stored.broken = !errors.is_empty();
    if stored.broken {
        // What the parser could not read may lack keys or shift values: only its own errors are sure.
        found.retain(|d| matches!(d.code, Code::UnknownKey | Code::RenamedKey));
        let lines: Vec<usize> =
            errors.iter().take(DIAGNOSTICS_MAX).map(|e| line_of(&stored, e)).collect();
        found.retain(|d| {
            d.place
                .as_ref()
                .is_some_and(|place| !lines.contains(&stored.position(place.span.start).0))
        });
    }
    // What follows the first mistake of a line is mostly its consequence.
    let mut lines: Vec<usize> = Vec::new();
    let mut diagnostics = Vec::new();
    for error in errors.iter().take(DIAGNOSTICS_MAX) {
        let line = line_of(&stored, error);
        if !lines.contains(&line) {
            lines.push(line);
            diagnostics.push(syntax(source, &stored, error));
        }
    }
    diagnostics.append(&mut found);
    Parsed { source: stored, tree, diagnostics, files }
}

/// The place of a whole file: its first line that says anything.
fn header_span(text: &str) -> Range<usize> {
    let start = text.find(|c: char| !c.is_whitespace()).unwrap_or(0);
    start..text[start..].find('\n').map_or(text.len(), |end| start + end)
}

fn line_of(source: &SourceText, error: &TomlError) -> usize {
    source.position(error.span().unwrap_or_default().start).0
}

/// A mistake of the syntax, in our words where those of the parser are hard to read.
pub(crate) fn syntax(source: usize, stored: &SourceText, error: &TomlError) -> Diagnostic {
    let span = error.span().unwrap_or_default();
    let (message, expected) = match error.message().split_once(", expected ") {
        Some((message, expected)) => (message, format!("expected {expected}")),
        None => (error.message(), String::new()),
    };
    let mut diagnostic =
        Diagnostic::error(Code::Syntax, Place { source, span: span.clone() }, message.to_owned())
            .label(expected);
    let line_start =
        stored.text.get(..span.start).map_or(0, |t| t.rfind('\n').map_or(0, |n| n + 1));
    let line = stored.text.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or("");
    if message == "invalid basic string" && diagnostic.label.contains('"') {
        diagnostic.message = "a text is not closed on its line".to_owned();
    } else if line.trim_end().ends_with('=') {
        diagnostic.message = "a value is missing".to_owned();
        diagnostic.label = String::new();
    } else if message.contains("must be quoted") {
        diagnostic = diagnostic.label("put it in quotes");
    } else if message == "duplicate key" {
        diagnostic = diagnostic.label("this is already there above");
    } else if !line.contains('=') && line.contains(':') {
        diagnostic = diagnostic.help("TOML writes `key = value`");
    }
    diagnostic
}
