//! Plain (not streamed) answers.

use memchr::memmem;

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
    /// A choice ended with `finish_reason` `abort`, which nobody asked for: it is not whole.
    pub aborted: bool,
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
            "\"choices\"" => answer.aborted = is_aborted(&text[value]),
            _ => {}
        })
    } else {
        reader.value().map(drop)
    };
    answer.complete = read.and_then(|()| reader.end()).is_ok();
    answer
}

/// Quotes inside a JSON string are escaped, so the member cannot be part of what a model said.
fn is_aborted(choices: &str) -> bool {
    const NAME: &str = "\"finish_reason\"";
    memmem::find_iter(choices.as_bytes(), NAME).any(|at| {
        let value = choices[at + NAME.len()..].trim_start().strip_prefix(':');
        value.is_some_and(|value| value.trim_start().starts_with("\"abort\""))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_and_cut() {
        let body = br#"{"id":"x","usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":1},"completion_tokens_details":null},"choices":[] } "#;
        let answer = inspect(body);
        assert!(answer.complete && !answer.error);
        let usage = answer.usage.unwrap();
        assert_eq!((usage.total_tokens, usage.cached_tokens), (5, Some(1)));
        for end in 0..body.len() - 2 {
            assert!(!inspect(&body[..end]).complete, "cut at {end}");
        }
        assert!(!inspect(&[&body[..], b"{}"].concat()).complete);
    }

    #[test]
    fn an_abort_is_no_answer() {
        let aborted = |finish: &str, content: &str| {
            let choice =
                format!(r#"{{"message":{{"content":"{content}"}},"finish_reason" : {finish}}}"#);
            inspect(format!(r#"{{"choices":[{choice}]}}"#).as_bytes()).aborted
        };
        assert!(aborted(r#""abort""#, "hi"));
        assert!(!aborted(r#""stop""#, r#"\"finish_reason\":\"abort\""#));
        assert!(!aborted("null", "abort"));
    }

    #[test]
    fn other_values() {
        assert!(inspect(b"[{\"index\":0,\"score\":0.5}]").complete);
        assert!(inspect(br#"{"error":null,"usage":null}"#).complete);
        assert!(!inspect(b"").complete);
        assert!(!inspect(b"<html>").complete);
        assert!(!inspect(b"\xff").complete);
        assert!(!inspect(br#"{"error":null}"#).error);
        assert!(inspect(br#"{"error":"x"}"#).error);
        let negative = inspect(br#"{"usage":{"prompt_tokens":-1}}"#);
        assert_eq!((negative.complete, negative.usage), (true, None));
        assert!(inspect("[".repeat(100_000).as_bytes()) == Answer::default());
    }
}
