//! Diagnostics as text and as JSON.

use crate::load::Report;

/// How text is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// With ANSI colours.
    pub color: bool,
}

impl Report {
    /// For people.
    #[must_use]
    pub fn render(&self, style: Style) -> String {
        let _ = style;
        self.diagnostics.iter().map(|d| format!("{}\n", d.message)).collect()
    }

    /// For programs: one JSON document.
    #[must_use]
    pub fn to_json(&self) -> String {
        String::from("{}")
    }
}
