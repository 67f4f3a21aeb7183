//! Judges an answer against the recitation: whole, honestly failed, or silently wrong.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::text::{self, Verdict};

/// Longest event that is looked at, bytes; a longer one is garbled.
const MAX_EVENT: usize = 32 * 1024 * 1024;

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The whole text, and an end that says so.
    Ok,
    /// An error status before any content; the code is in the report's `statuses`.
    Refused(u16),
    /// No connection, or none that answered: the client saw a transport error before any content.
    Transport,
    /// An error event in the stream: honest.
    ErrorEvent,
    /// The connection was cut in mid-answer: a client that checks its framing notices.
    Cut,
    /// The answer ended as if it were whole, but it is not. Must never happen.
    SilentTruncation,
    /// A word was lost, doubled or garbled. Must never happen.
    Corrupt,
    /// No end within the time limit.
    Timeout,
    /// The generator left in mid-answer, as it was told to.
    Left,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(default, borrow)]
    choices: Vec<Choice<'a>>,
    #[serde(default, borrow)]
    error: Option<&'a serde_json::value::RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: usize,
    #[serde(default, borrow)]
    delta: Option<Message<'a>>,
    #[serde(default, borrow)]
    message: Option<Message<'a>>,
    #[serde(default, borrow)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(default, borrow)]
    content: Option<Cow<'a, str>>,
}

/// Reads an answer piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    pending: Vec<u8>,
    text: String,
    finished: bool,
    done: bool,
    error: bool,
    garbled: bool,
    /// Events with data so far.
    pub(crate) events: usize,
}

impl Judge {
    /// Takes bytes of an event stream; `true` when an event with content became complete.
    pub(crate) fn stream(&mut self, bytes: &[u8]) -> bool {
        self.pending.extend_from_slice(bytes);
        let mut content = false;
        let pending = std::mem::take(&mut self.pending);
        let mut rest = &pending[..];
        while let Some(at) = memchr::memmem::find(rest, b"\n\n") {
            content |= self.event(&rest[..at]);
            rest = &rest[at + 2..];
        }
        self.pending = rest.to_vec();
        self.garbled |= self.pending.len() > MAX_EVENT;
        content
    }

    fn event(&mut self, event: &[u8]) -> bool {
        let Some(data) = event.strip_prefix(b"data: ") else {
            // A comment; anything else is not what the upstream sends.
            self.garbled |= !event.starts_with(b":") && !event.is_empty();
            return false;
        };
        if data == b"[DONE]" {
            self.done = true;
            return false;
        }
        self.events += 1;
        self.garbled |= self.done || !self.object(data);
        true
    }

    /// Takes a whole plain answer.
    pub(crate) fn document(&mut self, body: &[u8]) {
        self.garbled |= !self.object(body);
        self.done = true;
    }

    fn object(&mut self, json: &[u8]) -> bool {
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(json) else { return false };
        self.error |= chunk.error.is_some();
        for choice in chunk.choices.into_iter().filter(|c| c.index == 0) {
            let said = choice.delta.or(choice.message).and_then(|m| m.content);
            self.text.push_str(&said.unwrap_or_default());
            self.finished |= choice.finish_reason.is_some();
        }
        true
    }

    /// The outcome; `whole`: the HTTP framing says that the body is complete.
    pub(crate) fn outcome(&self, words: usize, whole: bool) -> Outcome {
        if self.error {
            return Outcome::ErrorEvent;
        }
        let half_event = !self.pending.is_empty();
        let complete = self.finished && self.done;
        if !whole && !complete {
            // The last word may be half; all before it must be right.
            return match text::verify(0, &self.text) {
                Verdict::Exact(n) if n <= words => Outcome::Cut,
                _ => Outcome::Corrupt,
            };
        }
        match text::verify(0, &self.text) {
            _ if self.garbled => Outcome::Corrupt,
            Verdict::Exact(n) if n == words && complete && !half_event => Outcome::Ok,
            Verdict::Exact(n) if n <= words => Outcome::SilentTruncation,
            _ => Outcome::Corrupt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORD: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"baba\"},\"finish_reason\":null}]}\n\n";
    const NEXT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" babe\"}}]}\n\n";
    const END: &str =
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    const DONE: &str = "data: [DONE]\n\n";
    const ERROR: &str = "data: {\"error\":{\"message\":\"x\"}}\n\n";

    fn judge(events: &[&str], whole: bool) -> Outcome {
        let mut judge = Judge::default();
        for byte in events.concat().as_bytes() {
            judge.stream(&[*byte]);
        }
        judge.outcome(2, whole)
    }

    #[test]
    fn streams_get_their_verdict() {
        assert_eq!(judge(&[WORD, ": hi\n\n", NEXT, END, DONE], true), Outcome::Ok);
        assert_eq!(judge(&[WORD, NEXT, END, DONE], false), Outcome::Ok);
        assert_eq!(judge(&[WORD, NEXT, END], true), Outcome::SilentTruncation);
        assert_eq!(judge(&[WORD, NEXT], true), Outcome::SilentTruncation);
        assert_eq!(judge(&[WORD, END, DONE], true), Outcome::SilentTruncation);
        assert_eq!(judge(&[], true), Outcome::SilentTruncation);
        assert_eq!(judge(&[WORD], false), Outcome::Cut);
        assert_eq!(judge(&[WORD, ERROR, DONE], true), Outcome::ErrorEvent);
        assert_eq!(judge(&[WORD, ERROR], false), Outcome::ErrorEvent);
        assert_eq!(judge(&[WORD, WORD, NEXT, END, DONE], true), Outcome::Corrupt);
        assert_eq!(judge(&[NEXT, END, DONE], true), Outcome::Corrupt);
        assert_eq!(judge(&[WORD, "data: {\"cho\n\n", NEXT, END, DONE], true), Outcome::Corrupt);
    }

    #[test]
    fn documents_get_their_verdict() {
        let document = |text: &str| {
            let mut judge = Judge::default();
            judge.document(
                format!(r#"{{"choices":[{{"index":0,"message":{{"content":"{text}"}},"finish_reason":"stop"}}]}}"#)
                    .as_bytes(),
            );
            judge.outcome(2, true)
        };
        assert_eq!(document("baba babe"), Outcome::Ok);
        assert_eq!(document("baba"), Outcome::SilentTruncation);
        assert_eq!(document("baba babi"), Outcome::Corrupt);
    }
}
