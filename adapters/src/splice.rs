//! Changing a body without rebuilding it: slices of the original around the few bytes that differ.

use std::ops::Range;

use bytes::Bytes;
use router::spec::Kind;
use smallvec::SmallVec;

use crate::peek::Peek;

/// One replaced range of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// What goes; empty = pure insertion.
    pub range: Range<usize>,
    /// What comes in its place.
    pub with: Bytes,
}

/// A body in pieces: slices of the original, none of them copied, and the replacements between them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pieces {
    parts: SmallVec<[Bytes; 3]>,
    len: usize,
}

impl Pieces {
    fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.len += part.len();
            self.parts.push(part);
        }
    }

    /// Bytes in all pieces together: the body's `Content-Length`.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// No bytes at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, in order; none is empty.
    pub fn iter(&self) -> std::slice::Iter<'_, Bytes> {
        self.parts.iter()
    }

    /// All pieces in one allocation; for tests and for bodies that are stored.
    #[must_use]
    pub fn concat(&self) -> Bytes {
        match self.parts.as_slice() {
            [one] => one.clone(),
            parts => parts.concat().into(),
        }
    }
}

impl From<Bytes> for Pieces {
    fn from(body: Bytes) -> Self {
        let mut pieces = Self::default();
        pieces.push(body);
        pieces
    }
}

impl IntoIterator for Pieces {
    type Item = Bytes;
    type IntoIter = smallvec::IntoIter<[Bytes; 3]>;

    fn into_iter(self) -> Self::IntoIter {
        self.parts.into_iter()
    }
}

impl<'p> IntoIterator for &'p Pieces {
    type Item = &'p Bytes;
    type IntoIter = std::slice::Iter<'p, Bytes>;

    fn into_iter(self) -> Self::IntoIter {
        self.parts.iter()
    }
}

/// Applies edits that are sorted by position and do not overlap. A range that reaches outside the body or back
/// over an earlier edit is cut down to what is left, so the call is total.
#[must_use]
pub fn splice(body: &Bytes, edits: &[Edit]) -> Pieces {
    debug_assert!(edits.is_sorted_by(|a, b| a.range.end <= b.range.start), "edits overlap");
    let mut pieces = Pieces::default();
    let mut at = 0;
    for edit in edits {
        let start = edit.range.start.clamp(at, body.len());
        pieces.push(body.slice(at..start));
        pieces.push(edit.with.clone());
        at = edit.range.end.clamp(start, body.len());
    }
    pieces.push(body.slice(at..));
    pieces
}

/// What [`encode`] may change beside the model's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrite {
    /// Copy `max_completion_tokens`, which Ollama ignores, to `max_tokens` where a body has only the former.
    pub map_max_completion_tokens: bool,
    /// Ask for the usage of a stream whose client did not ([`include_usage`]).
    pub include_usage: bool,
}

impl Default for Rewrite {
    fn default() -> Self {
        Self { map_max_completion_tokens: true, include_usage: false }
    }
}

/// The body for one upstream: its own name for the model, and nothing else changed but what [`Rewrite`] says.
/// When nothing differs, the one piece is the body itself.
#[must_use]
pub fn encode(
    kind: Kind,
    body: &Bytes,
    peek: &Peek<'_>,
    upstream_model: &str,
    rewrite: Rewrite,
) -> Pieces {
    let mut edits: SmallVec<[Edit; 3]> = SmallVec::new();
    if upstream_model != peek.model {
        let quoted = serde_json::Value::from(upstream_model).to_string();
        edits.push(Edit { range: peek.model_span.clone(), with: quoted.into() });
    }
    if kind == Kind::Ollama && rewrite.map_max_completion_tokens {
        edits.extend(max_tokens(body, peek));
    }
    if rewrite.include_usage {
        edits.extend(include_usage(kind, body, peek));
    }
    edits.sort_unstable_by_key(|edit| edit.range.start);
    splice(body, &edits)
}

/// `max_completion_tokens` as `max_tokens`, unless the client gave that too or the value is no number.
fn max_tokens(body: &Bytes, peek: &Peek<'_>) -> Option<Edit> {
    let value = body.get(peek.max_completion_tokens.clone()?)?;
    if !value.first()?.is_ascii_digit() {
        return None;
    }
    match peek.max_tokens.clone() {
        None => {
            let member = [b",\"max_tokens\":", value].concat();
            Some(Edit { range: peek.insert_at..peek.insert_at, with: member.into() })
        }
        Some(range) if body.get(range.clone()) == Some(b"null") => {
            Some(Edit { range, with: Bytes::copy_from_slice(value) })
        }
        Some(_) => None,
    }
}

/// `"stream_options":{"include_usage":true}` in whatever form the body leaves room for. Only servers that stream are asked, and
/// a value that is no object is left for the server to judge.
fn include_usage(kind: Kind, body: &Bytes, peek: &Peek<'_>) -> Option<Edit> {
    let streams = matches!(kind, Kind::Vllm | Kind::Ollama | Kind::OpenAi);
    if !streams || !peek.stream || peek.include_usage == Some(true) {
        return None;
    }
    if let Some(range) = peek.include_usage_span.clone() {
        return Some(Edit { range, with: Bytes::from_static(b"true") });
    }
    let Some(range) = peek.stream_options.clone() else {
        let member = Bytes::from_static(b",\"stream_options\":{\"include_usage\":true}");
        return Some(Edit { range: peek.insert_at..peek.insert_at, with: member });
    };
    let value = body.get(range.clone())?;
    if value == b"null" {
        return Some(Edit { range, with: Bytes::from_static(b"{\"include_usage\":true}") });
    }
    let inner = value.strip_prefix(b"{")?;
    let empty = inner.trim_ascii_start().first() == Some(&b'}');
    let member: &[u8] = if empty { b"\"include_usage\":true" } else { b"\"include_usage\":true," };
    let at = range.start + 1;
    Some(Edit { range: at..at, with: Bytes::from_static(member) })
}

#[cfg(test)]
mod tests;
