//! What of a source line may be shown.

use crate::diagnostic::SourceText;

/// What stands for a credential.
pub(crate) const HIDDEN: &str = "***";

/// Whether a key of this name is likely to hold a credential.
pub(crate) fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let words = [
        "secret",
        "passw",
        "api_key",
        "apikey",
        "api-key",
        "master_key",
        "credential",
        "authorization",
        "bearer",
    ];
    words.iter().any(|word| name.contains(word))
        || (name.contains("token") && !name.contains("tokens"))
        || name == "key"
}

/// One line as it may be shown.
pub(crate) struct Line {
    pub(crate) text: String,
    /// For each shown character the byte of the source that it comes from.
    bytes: Vec<usize>,
}

impl Line {
    /// The line of a source that starts and ends at these bytes.
    pub(crate) fn of(source: &SourceText, start: usize, end: usize) -> Self {
        let raw = &source.text[start..end];
        let hidden_from = if source.broken { broken_secret(source, start, raw) } else { None };
        let mut line = Self { text: String::new(), bytes: Vec::new() };
        let mut last_hidden = false;
        for (offset, c) in raw.char_indices() {
            let at = start + offset;
            let hidden = source.secrets.iter().any(|span| span.contains(&at))
                || hidden_from.is_some_and(|from| at >= from)
                || in_user_info(raw, offset);
            if !hidden {
                // Control characters of a hostile file must not reach a terminal.
                line.push(
                    if c == '\t' {
                        ' '
                    } else if c.is_control() {
                        '\u{fffd}'
                    } else {
                        c
                    },
                    at,
                );
            } else if !last_hidden {
                HIDDEN.chars().for_each(|star| line.push(star, at));
            }
            last_hidden = hidden;
        }
        line
    }

    fn push(&mut self, c: char, byte: usize) {
        self.text.push(c);
        self.bytes.push(byte);
    }

    /// The shown characters of a range of source bytes: first one and how many, at least one.
    pub(crate) fn columns(&self, start: usize, end: usize) -> (usize, usize) {
        let first = self.bytes.iter().position(|byte| *byte >= start);
        // A range inside a credential marks the stars that stand for it.
        let first = match first {
            Some(at) if self.bytes[at] > start && at > 0 && self.bytes[at - 1] < start => {
                self.bytes.iter().position(|byte| *byte == self.bytes[at - 1]).unwrap_or(at)
            }
            Some(at) => at,
            None => self.bytes.len(),
        };
        let last = self.bytes.iter().rposition(|byte| *byte < end).map_or(first, |at| at + 1);
        (first, last.saturating_sub(first).max(1))
    }
}

/// In a file that is no TOML, credentials have no known place: after a word that promises one, nothing is shown, and
/// neither is any line inside a text of several lines.
fn broken_secret(source: &SourceText, start: usize, raw: &str) -> Option<usize> {
    let before = &source.text[..start];
    let inside = ["\"\"\"", "'''"].iter().any(|quotes| before.matches(quotes).count() % 2 == 1);
    if inside {
        return Some(start);
    }
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut offset = 0;
    for part in raw.split_inclusive(|c| !word(c)) {
        let name = part.trim_end_matches(|c| !word(c));
        offset += part.len();
        if names_a_secret(name) {
            let rest = &raw[offset - (part.len() - name.len())..];
            let value = rest.find(|c: char| !matches!(c, ' ' | '\t' | '=' | ':' | '"' | '\''));
            return Some(start + raw.len() - rest.len() + value.unwrap_or(rest.len()));
        }
        if name == "url"
            && before
                .rsplit('\n')
                .find(|line| line.trim_start().starts_with('['))
                .is_some_and(|header| header.contains("redis"))
        {
            return Some(start + offset);
        }
    }
    None
}

/// Whether a byte of a line lies in the user info of a URL, `//USER:PASSWORD@`.
fn in_user_info(raw: &str, offset: usize) -> bool {
    let Some(scheme) = raw[..offset].rfind("://") else { return false };
    let rest = &raw[scheme + 3..];
    let authority = rest.find(['"', '\'', ' ', ',']).unwrap_or(rest.len());
    rest[..authority].rfind('@').is_some_and(|at| offset < scheme + 3 + at)
}
