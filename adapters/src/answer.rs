//! Plain (not streamed) answers.

use crate::json::Reader;
use crate::usage::Usage;

/// What a plain answer's body turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answer {
    /// The body is exactly one JSON value: nothing missing, nothing after it.
    pub complete: bool,
    /// The top-level `usage`, where there is one.
    pub usage: Option<Usage>,
    /// The top-level `error` is there and not null: a failure under a good status.
    pub error: bool,
}

/// Looks at a whole plain answer. Never fails: what is not JSON is merely not `complete`.
#[must_use]
pub fn inspect(body: &[u8]) -> Answer {
    let mut answer = Answer::default();
    let Ok(text) = std::str::from_utf8(body) else { return answer };
    let mut reader = Reader::new(text, 0, u32::MAX);
    reader.space();
    let read = if reader.peek() == Some(b'{') {
        reader.members(|key, value| match &text[key] {
            "\"usage\"" => answer.usage = Usage::read(&text[value]),
            "\"error\"" => answer.error = crate::error::is_error(&text[value]),
            _ => {}
        })
    } else {
        reader.value().map(drop)
    };
    answer.complete = read.and_then(|()| reader.end()).is_ok();
    answer
}
