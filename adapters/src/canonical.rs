//! A request body in the one form that equal requests share, for the response cache.
//!
//! Members of the top-level object are sorted and white space between tokens is gone. What lies deeper keeps its order:
//! servers write JSON schemas into the prompt as they come, and models answer in the order of a schema's properties.
//! Numbers and strings are compared as they are written, so that nothing has to be known of how a server reads them.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;
use router::Operation;
use smallvec::SmallVec;

use crate::json::{Reader, unquote};

/// Top-level members that cannot change an answer: they say for whom it is and how it is billed or remembered.
pub const LEFT_OUT: [&str; 5] =
    ["metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "user"];
/// Members that are known apart from the body: the resolved model, and whether a stream was asked for.
const KNOWN: [&str; 2] = ["model", "stream"];
/// The member of `stream_options` that cannot change an answer's meaning.
pub const OBFUSCATION: &str = "include_obfuscation";
/// Before each member of `stream_options`: no name is as long.
const INNER: &[u8] = &u64::MAX.to_le_bytes();

/// A body's top-level members, in the order of their names.
#[derive(Debug)]
pub struct Canonical<'b> {
    text: &'b str,
    members: SmallVec<[Member<'b>; 16]>,
}

#[derive(Debug)]
struct Member<'b> {
    name: Cow<'b, str>,
    value: Range<usize>,
}

/// Reads a body that [`crate::peek`] has accepted; `None` for any other.
#[must_use]
pub fn canonical(body: &[u8], depth_max: u32) -> Option<Canonical<'_>> {
    let text = std::str::from_utf8(body).ok()?;
    let members = members(text, 0, depth_max)?;
    Some(Canonical { text, members })
}

fn members(text: &str, at: usize, depth_max: u32) -> Option<SmallVec<[Member<'_>; 16]>> {
    let mut reader = Reader::new(text, at, depth_max);
    reader.space();
    let mut members = SmallVec::new();
    let read = reader.members(|key, value| {
        let quoted = &text[key];
        // A lone surrogate: nobody's name, kept as it is written.
        let name = unquote(quoted).unwrap_or(Cow::Borrowed(quoted));
        members.push(Member { name, value });
    });
    read.ok()?;
    // Stable: of a name that is written twice, upstreams take one, and which one depends on the order.
    members.sort_by(|one: &Member<'_>, other: &Member<'_>| one.name.cmp(&other.name));
    Some(members)
}

impl Canonical<'_> {
    /// Gives the canonical form in pieces, without what cannot change the answer and without model and stream.
    pub fn feed(&self, sink: &mut impl FnMut(&[u8])) {
        for member in &self.members {
            let name = &*member.name;
            if LEFT_OUT.contains(&name) || KNOWN.contains(&name) {
                continue;
            }
            if name == "stream_options" && self.stream_options(member, sink) {
                continue;
            }
            self.member(name, member.value.clone(), sink);
        }
    }

    /// A name with its length, so that no two lists of members read the same.
    fn member(&self, name: &str, value: Range<usize>, sink: &mut impl FnMut(&[u8])) {
        sink(&(name.len() as u64).to_le_bytes());
        sink(name.as_bytes());
        compact(&self.text[value], sink);
        sink(b"\n");
    }

    /// `stream_options` without what does not matter; false where it is no object.
    fn stream_options(&self, member: &Member<'_>, sink: &mut impl FnMut(&[u8])) -> bool {
        let Some(inner) = members(self.text, member.value.start, u32::MAX) else { return false };
        for option in inner.iter().filter(|option| option.name != OBFUSCATION) {
            sink(INNER);
            self.member(&option.name, option.value.clone(), sink);
        }
        true
    }

    /// The last value of a top-level member, which is the one that upstreams take; `null` counts as absent.
    fn value(&self, name: &str) -> Option<&str> {
        let member = self.members.iter().rfind(|member| member.name == name)?;
        Some(&self.text[member.value.clone()]).filter(|value| *value != "null")
    }

    /// Whether the same request would be answered the same way again: an embedding; or temperature 0 or a seed, one
    /// choice, and no tools, whose calls have effects elsewhere.
    #[must_use]
    pub fn is_deterministic(&self, operation: Operation) -> bool {
        if operation == Operation::Embeddings {
            return true;
        }
        let zero = |text: &str| text.parse::<f64>().is_ok_and(|number| number == 0.0);
        let whole = |text: &str| text.parse::<i64>().is_ok();
        let fixed =
            self.value("temperature").is_some_and(zero) || self.value("seed").is_some_and(whole);
        let one = ["n", "best_of"].iter().all(|name| self.value(name).is_none_or(|n| n == "1"));
        let none = |name: &&str| self.value(name).is_none_or(|list| list == "[]");
        fixed && one && ["tools", "functions"].iter().all(none)
    }
}

/// A JSON value without white space between its tokens, in as few pieces as there are.
fn compact(value: &str, sink: &mut impl FnMut(&[u8])) {
    let bytes = value.as_bytes();
    let (mut from, mut at) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at),
            b' ' | b'\t' | b'\n' | b'\r' => {
                if from < at {
                    sink(&bytes[from..at]);
                }
                at += 1;
                from = at;
            }
            _ => at += 1,
        }
    }
    if from < bytes.len() {
        sink(&bytes[from..]);
    }
}

/// Just after the string that begins at `at`.
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(run) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += run;
        if bytes[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    bytes.len()
}

#[cfg(test)]
mod tests;
