//! What of a source line may be shown.

use crate::diagnostic::SourceText;
use crate::keys;
use crate::ty::Type;

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
        let secrets: Vec<_> =
            source.secrets.iter().filter(|span| span.start < end && start < span.end).collect();
        let mut line = Self { text: String::new(), bytes: Vec::new() };
        let mut last_hidden = false;
        for (offset, c) in raw.char_indices() {
            let at = start + offset;
            let hidden = secrets.iter().any(|span| span.contains(&at))
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

/// In a file that is no TOML, credentials have no known place. A value is shown only behind the name of a key that holds
/// none, and nothing is shown behind a word that promises one, or inside a text of several lines.
fn broken_secret(source: &SourceText, start: usize, raw: &str) -> Option<usize> {
    let before = &source.text[..start];
    let inside = ["\"\"\"", "'''"].iter().any(|quotes| before.matches(quotes).count() % 2 == 1);
    if inside {
        return Some(start);
    }
    let Some(separator) = raw.find(['=', ':']) else {
        // A header or a comment, or else a part of an array that spans lines.
        let harmless = |c: char| c.is_ascii_alphanumeric() || "[]._- #\t".contains(c);
        return if raw.chars().all(harmless) { None } else { Some(start) };
    };
    let name = raw[..separator].trim().trim_matches(['"', '\'']);
    let name = name.rsplit('.').next().unwrap_or(name);
    let value = separator + 1;
    if !holds_no_secret(name) || (name == "url" && raw[value..].contains('@')) {
        // Damage may have eaten the separator's neighbourhood: nothing before it but the name is shown either.
        let known = holds_no_secret(name) || names_a_secret(name);
        return Some(if known { start + value + 1 } else { start });
    }
    // The same for every further key of an inline table, or of what damage put into one line.
    let further = raw[value..].match_indices('=').map(|(at, _)| value + at);
    let hidden = further
        .filter(|at| {
            let before = raw[..*at].trim_end().trim_end_matches(['"', '\'']);
            let name = words(before).last().map_or("", |(_, word)| word);
            !holds_no_secret(name)
        })
        .map(|at| at + 1)
        .next();
    let promised = words(&raw[value..])
        .find(|(_, word)| names_a_secret(word))
        .map(|(at, word)| value + at + word.len());
    hidden.into_iter().chain(promised).min().map(|at| start + at)
}

/// A key of this name exists, and none of this name holds a credential, but for the URL of Redis.
fn holds_no_secret(name: &str) -> bool {
    let (mut exists, mut secret) = (false, names_a_secret(name));
    keys::each(&mut |path, key, _| {
        if key.name == name {
            exists = true;
            secret |= matches!(key.ty, Type::Secret) && path != "redis.url";
        }
    });
    exists && !secret
}

/// The words of a line and where they start.
fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut at = 0;
    line.split_inclusive(move |c| !letter(c)).map(move |part| {
        let start = at;
        at += part.len();
        (start, part.trim_end_matches(|c| !letter(c)))
    })
}

/// Whether a byte of a line lies in the user info of a URL, `//USER:PASSWORD@`.
fn in_user_info(raw: &str, offset: usize) -> bool {
    let Some(scheme) = raw[..offset].rfind("://") else { return false };
    let rest = &raw[scheme + 3..];
    let authority = rest.find(['"', '\'', ' ', ',']).unwrap_or(rest.len());
    rest[..authority].rfind('@').is_some_and(|at| offset < scheme + 3 + at)
}
