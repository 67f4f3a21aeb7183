//! Token counts as upstreams report them.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Tokens of one answer. What an upstream leaves out is 0, or `None` where 0 would claim something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
    /// Both, as reported (or added up where not).
    pub total_tokens: u64,
    /// Read tokens that came from the upstream's cache.
    pub cached_tokens: Option<u64>,
    /// Written tokens that were reasoning.
    pub reasoning_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
    #[serde(default)]
    total_tokens: Option<u64>,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
}

/// How far from its end a document's usage may begin, in bytes.
const END_BYTES: usize = 1024;

/// The end of a document that goes by in pieces, for the usage in it ([`Usage::at_end`]).
#[derive(Debug, Default)]
pub struct Ending {
    bytes: Vec<u8>,
}

impl Ending {
    /// Looks at the next piece.
    pub fn push(&mut self, piece: &[u8]) {
        let piece = &piece[piece.len().saturating_sub(END_BYTES)..];
        let over = (self.bytes.len() + piece.len()).saturating_sub(END_BYTES);
        self.bytes.drain(..over);
        self.bytes.extend_from_slice(piece);
    }

    /// The usage, once all has gone by.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        Usage::at_end(&self.bytes)
    }
}

impl Usage {
    /// The usage at the end of a document that is too large to be read whole, as lists of embeddings have it.
    #[must_use]
    pub fn at_end(document: &[u8]) -> Option<Self> {
        let end = &document[document.len().saturating_sub(END_BYTES)..];
        let at = memchr::memmem::rfind(end, b"\"usage\"")?;
        let value = end[at + b"\"usage\"".len()..].trim_ascii_start().strip_prefix(b":")?;
        let mut values = serde_json::Deserializer::from_slice(value).into_iter::<&RawValue>();
        Self::read(values.next()?.ok()?.get())
    }

    /// Reads the value of a `usage` key; `None` when it is null or not an object of counts.
    pub(crate) fn read(json: &str) -> Option<Self> {
        let wire: Wire = serde_json::from_str::<Option<Wire>>(json).ok()??;
        let prompt_tokens = wire.prompt_tokens.unwrap_or(0);
        let completion_tokens = wire.completion_tokens.unwrap_or(0);
        Some(Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: wire
                .total_tokens
                .unwrap_or_else(|| prompt_tokens.saturating_add(completion_tokens)),
            cached_tokens: wire.prompt_tokens_details.and_then(|details| details.cached_tokens),
            reasoning_tokens: wire
                .completion_tokens_details
                .and_then(|details| details.reasoning_tokens),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_at_the_end_of_a_list_is_found() {
        let list = format!(
            "{{\"data\":[{}0],\"usage\" : {{\"prompt_tokens\":5,\"total_tokens\":5}} }}",
            "0,".repeat(4000)
        );
        assert_eq!(Usage::at_end(list.as_bytes()).map(|usage| usage.total_tokens), Some(5));
        for size in [1, 7, 1000, 5000] {
            let mut ending = Ending::default();
            list.as_bytes().chunks(size).for_each(|piece| ending.push(piece));
            assert_eq!(ending.usage().map(|usage| usage.total_tokens), Some(5), "{size}");
            assert!(ending.bytes.len() <= END_BYTES);
        }
        for odd in
            ["", "{\"usage\"", "{\"usage\":", "{\"usage\":null}", "{\"usage\":{\"total", "[]"]
        {
            assert_eq!(Usage::at_end(odd.as_bytes()), None, "{odd}");
        }
    }
}
