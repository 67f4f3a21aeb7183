//! Diagnostics as text and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::diagnostic::{Diagnostic, Place, Severity, SourceText};
use crate::load::Report;
use crate::redact::Line;

/// How text is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// With ANSI colours.
    pub color: bool,
}

impl Style {
    const fn paint(self, ansi: &'static str) -> &'static str {
        if self.color { ansi } else { "" }
    }
}

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const BLUE: &str = "\x1b[1;34m";
const BOLD: &str = "\x1b[1m";
const RESET: &str = "\x1b[0m";

/// Longest shown part of a line, characters.
const WIDTH: usize = 140;

impl Report {
    /// Whether any diagnostic is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// How many diagnostics are of a severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count()
    }

    /// For people: each with its line and a mark under the place, and a closing count.
    #[must_use]
    pub fn render(&self, style: Style) -> String {
        let mut out = String::new();
        for diagnostic in &self.diagnostics {
            self.one(&mut out, diagnostic, style);
            out.push('\n');
        }
        let errors = self.count(Severity::Error);
        let warnings = self.count(Severity::Warning);
        if errors + warnings > 0 {
            let plural = |n: usize, word| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
            let _ = writeln!(out, "{}, {}", plural(errors, "error"), plural(warnings, "warning"));
        }
        out
    }

    fn one(&self, out: &mut String, diagnostic: &Diagnostic, style: Style) {
        let (blue, bold, reset) = (style.paint(BLUE), style.paint(BOLD), style.paint(RESET));
        let tint = style.paint(match diagnostic.severity {
            Severity::Error => RED,
            Severity::Warning => YELLOW,
        });
        let (number, name) = (diagnostic.code.number(), diagnostic.code.name());
        let severity = diagnostic.severity.as_str();
        let message = plain(&diagnostic.message);
        let _ = writeln!(out, "{tint}{severity}[{number} {name}]{reset}{bold}: {message}{reset}");
        let places =
            diagnostic.place.iter().chain(diagnostic.related.iter().map(|(place, _)| place));
        let gutter = places
            .filter_map(|place| {
                self.sources.get(place.source).map(|s| s.position(place.span.start).0)
            })
            .max()
            .map_or(1, |line| line.to_string().len());
        if let Some(place) = &diagnostic.place {
            self.snippet(out, "-->", place, &diagnostic.label, gutter, (tint, blue, reset));
        }
        for (place, text) in &diagnostic.related {
            self.snippet(out, ":::", place, text, gutter, (blue, blue, reset));
        }
        if let Some(help) = &diagnostic.help {
            let _ =
                writeln!(out, "{:gutter$} {blue}={reset} {bold}help{reset}: {}", "", plain(help));
        }
    }

    fn snippet(
        &self,
        out: &mut String,
        arrow: &str,
        place: &Place,
        label: &str,
        gutter: usize,
        (tint, blue, reset): (&str, &str, &str),
    ) {
        let Some(source) = self.sources.get(place.source) else { return };
        let (row, column) = source.position(place.span.start);
        let _ = writeln!(
            out,
            "{:gutter$}{blue}{arrow}{reset} {}:{row}:{column}",
            "",
            plain(&source.name)
        );
        let (shown, first, len) = window(source, place);
        let _ = writeln!(out, "{:gutter$} {blue}|{reset}", "");
        let _ = writeln!(out, "{blue}{row:gutter$} |{reset} {shown}");
        let marks = "^".repeat(len);
        let label = plain(label);
        let gap = if label.is_empty() { "" } else { " " };
        let _ = writeln!(
            out,
            "{:gutter$} {blue}|{reset} {:first$}{tint}{marks}{gap}{label}{reset}",
            "", ""
        );
    }

    /// For programs: one JSON document.
    #[must_use]
    pub fn to_json(&self) -> String {
        let list: Vec<Value> = self.diagnostics.iter().map(|one| self.json(one)).collect();
        let document = json!({
            "errors": self.count(Severity::Error),
            "warnings": self.count(Severity::Warning),
            "diagnostics": list,
        });
        document.to_string()
    }

    fn json(&self, diagnostic: &Diagnostic) -> Value {
        let mut object = json!({
            "code": diagnostic.code.number(),
            "name": diagnostic.code.name(),
            "severity": diagnostic.severity.as_str(),
            "message": diagnostic.message,
        });
        if !diagnostic.label.is_empty() {
            object["label"] = json!(diagnostic.label);
        }
        if let Some(help) = &diagnostic.help {
            object["help"] = json!(help);
        }
        if let Some(place) = diagnostic.place.as_ref().and_then(|place| self.json_place(place)) {
            object["place"] = place;
        }
        let related = diagnostic.related.iter().filter_map(|(place, text)| {
            let mut place = self.json_place(place)?;
            place["message"] = json!(text);
            Some(place)
        });
        let related: Vec<Value> = related.collect();
        if !related.is_empty() {
            object["related"] = json!(related);
        }
        object
    }

    fn json_place(&self, place: &Place) -> Option<Value> {
        let source = self.sources.get(place.source)?;
        let (line, column) = source.position(place.span.start);
        let (end_line, end_column) = source.position(place.span.end);
        Some(json!({
            "file": source.name,
            "line": line,
            "column": column,
            "end_line": end_line,
            "end_column": end_column,
            "text": window(source, place).0,
        }))
    }
}

/// The line of a place as it may be shown, and where to put the mark: first column and length in characters.
fn window(source: &SourceText, place: &Place) -> (String, usize, usize) {
    let text = &source.text;
    let mut at = place.span.start.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
    let end = if text[start..end].ends_with('\r') { end - 1 } else { end };
    let line = Line::of(source, start, end);
    let (first, len) = line.columns(place.span.start, place.span.end.min(end));
    let total = line.text.chars().count();
    let from = if total <= WIDTH { 0 } else { first.saturating_sub(WIDTH / 3) };
    let shown: String = line.text.chars().skip(from).take(WIDTH).collect();
    (shown.trim_end().to_owned(), first - from, len.min(WIDTH))
}

/// A text without what could steer a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
