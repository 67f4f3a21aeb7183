//! How many tokens a request may use, as far as it can be known before it is answered.

use adapters::Peek;
use memchr::memmem;
use router::Operation;

/// Bytes of JSON text that count as one token of a prompt. Real tokens of English prose are a little longer, those of code
/// and of other languages shorter; the answer's usage corrects it.
pub(crate) const BYTES_PER_TOKEN: u64 = 4;
/// What an image or another attachment in a prompt counts as, instead of the text that it is encoded in.
pub(crate) const MEDIA_TOKENS: u64 = 1024;
/// What is reserved for an answer whose request names no maximum; less where a key could never have so many.
pub(crate) const COMPLETION_TOKENS: u64 = 1024;
/// What begins the data of an attachment.
const MEDIA: &[u8] = b";base64,";

/// Tokens of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Estimate {
    pub(crate) prompt: u64,
    /// What the client allows for the answer; `None` = it does not say.
    pub(crate) completion: Option<u64>,
}

impl Estimate {
    /// What is reserved where at most `most` can be had at all.
    pub(super) fn reserve(self, most: u64) -> u64 {
        let completion = self
            .completion
            .unwrap_or_else(|| COMPLETION_TOKENS.min(most.saturating_sub(self.prompt)));
        self.prompt.saturating_add(completion).max(1)
    }
}

/// Estimates a request by its bytes.
pub(crate) fn estimate(operation: Operation, peek: &Peek<'_>, body: &[u8]) -> Estimate {
    let of = |span: &Option<std::ops::Range<usize>>| span.clone().and_then(|span| body.get(span));
    let prompt = [of(&peek.prompt), of(&peek.tools)].into_iter().flatten().map(prompt).sum();
    let completion = match operation {
        Operation::ChatCompletions | Operation::Completions => {
            let said = [&peek.max_completion_tokens, &peek.max_tokens];
            let said = said.into_iter().find_map(|span| number(of(span)?));
            said.map(|tokens| tokens.saturating_mul(u64::from(peek.choices())))
        }
        Operation::Embeddings | Operation::ListModels | Operation::GetModel => Some(0),
    };
    Estimate { prompt, completion }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn prompt(text: &[u8]) -> u64 {
    let (mut bytes, mut media, mut rest) = (0, 0, text);
    while let Some(at) = memmem::find(rest, MEDIA) {
        bytes += at as u64;
        media += 1;
        rest = &rest[at + MEDIA.len()..];
        rest = &rest[memchr::memchr(b'"', rest).unwrap_or(rest.len())..];
    }
    bytes += rest.len() as u64;
    bytes.div_ceil(BYTES_PER_TOKEN) + media * MEDIA_TOKENS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(operation: Operation, body: &str) -> Estimate {
        let peek = adapters::peek(body.as_bytes(), 64).unwrap();
        estimate(operation, &peek, body.as_bytes())
    }

    #[test]
    fn prompts_count_by_bytes_and_answers_by_what_is_allowed() {
        let chat = Operation::ChatCompletions;
        // 40 bytes between the brackets, and those.
        let messages = format!("\"messages\":[\"{}\"]", "x".repeat(36));
        let body = |more: &str| format!("{{\"model\":\"m\",{messages}{more}}}");
        assert_eq!(of(chat, &body("")), Estimate { prompt: 10, completion: None });
        assert_eq!(of(chat, &body(",\"max_tokens\":7")).completion, Some(7));
        let both = body(",\"max_tokens\":7,\"max_completion_tokens\":9,\"n\":2");
        assert_eq!(of(chat, &both).completion, Some(18));
        assert_eq!(of(chat, &body(",\"max_tokens\":null")).completion, None);
        assert_eq!(of(chat, &body(",\"tools\":[\"yyyy\"]")).prompt, 12);
        let input = "{\"model\":\"m\",\"input\":\"abcdef\"}";
        let embeddings = of(Operation::Embeddings, input);
        assert_eq!(embeddings, Estimate { prompt: 2, completion: Some(0) });
    }

    #[test]
    fn an_image_counts_as_an_image_and_not_as_text() {
        let image = |size| format!("{{\"url\":\"data:image/png;base64,{}\"}}", "A".repeat(size));
        let small = prompt(image(10).as_bytes());
        assert_eq!(small, prompt(image(1_000_000).as_bytes()));
        assert!((MEDIA_TOKENS..MEDIA_TOKENS + 20).contains(&small), "{small}");
    }

    #[test]
    fn what_is_not_said_is_at_most_what_can_be_had() {
        let silent = Estimate { prompt: 100, completion: None };
        assert_eq!(silent.reserve(1_000_000), 100 + COMPLETION_TOKENS);
        assert_eq!(silent.reserve(500), 500);
        // A prompt that is too long stays too long.
        assert_eq!(silent.reserve(50), 100);
        assert_eq!(Estimate { prompt: 1, completion: Some(600) }.reserve(500), 601);
    }
}
