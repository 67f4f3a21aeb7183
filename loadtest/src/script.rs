//! Scripts: how the upstream answers, as plain data that comes from code, a file, a control request
//! or the `fake` object in a request's body.

mod blob;
mod fault;
mod shape;

use serde::{Deserialize, Serialize};

pub use blob::Blob;
pub use fault::{At, Fault, How};
pub use shape::{After, Eol, Fixed, Framing, Pad, Part, Sse, ToolCall, Usage, Writes};

/// How inference requests are answered. The default answers at once and well: 20 words, then `stop`.
///
/// All times are milliseconds. Unknown keys in JSON are errors, so a typing slip does not turn a
/// fault test into a test of nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// Silence before anything is sent, ms.
    pub head_ms: u64,
    /// Time to the first event, ms after the request was read. vLLM sends its head before this.
    pub first_ms: u64,
    /// Pause between events, ms.
    pub gap_ms: u64,
    /// How long a model that is not loaded takes to load, ms (Ollama profile).
    pub load_ms: u64,
    /// How many words the model has to say; `max_tokens` of the request cuts it short.
    pub words: usize,
    /// Index of the first word of the recitation.
    pub start: usize,
    /// Put behind each word, for instance to have multi-byte characters in the stream.
    pub suffix: String,
    /// How many of the words come as reasoning.
    pub reasoning: usize,
    /// Answer with this tool call in place of words.
    pub tool_call: Option<ToolCall>,
    /// How many choices are interleaved; unset: the `n` of the request.
    pub choices: Option<usize>,
    /// `finish_reason`; unset: `stop`, `length` or `tool_calls` as it comes out.
    pub finish: Option<String>,
    /// Parts of the stream that are left away.
    pub omit: Vec<Part>,
    /// When the usage chunk is sent.
    pub usage: Usage,
    /// How the events are written.
    pub sse: Sse,
    /// How the body is cut into writes.
    pub writes: Writes,
    /// Pause between the writes of one event, ms.
    pub write_gap_ms: u64,
    /// How the end of the body is marked; unset: as the profile does.
    pub framing: Option<Framing>,
    /// More response headers.
    pub headers: Vec<(String, Blob)>,
    /// Replaces the content type.
    pub content_type: Option<String>,
    /// Informational answers (103, ...) sent before the final head.
    pub interim: Vec<u16>,
    /// A fixed answer in place of inference.
    pub answer: Option<Fixed>,
    /// Exact bytes in place of head and body. The connection is closed behind them.
    pub raw: Option<Blob>,
    /// Where and how the answer breaks.
    pub fault: Option<Fault>,
    /// How long the body stays open after its last event, ms.
    pub linger_ms: u64,
    /// What happens to the connection after a complete answer; unset: as the profile does.
    pub after: Option<After>,
    /// Answer a stream request with one JSON document.
    pub plain: bool,
    /// Makes one event large.
    pub pad: Option<Pad>,
    /// A request whose body contains this text makes the server die as after `kill -9`.
    pub poison: Option<String>,
    /// How many requests run at once; others wait in silence. 0: no limit.
    pub slots: usize,
    /// How many may wait for a slot; more get the profile's 503. Unset: no limit.
    pub queue: Option<usize>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            head_ms: 0,
            first_ms: 0,
            gap_ms: 0,
            load_ms: 0,
            words: 20,
            start: 0,
            suffix: String::new(),
            reasoning: 0,
            tool_call: None,
            choices: None,
            finish: None,
            omit: Vec::new(),
            usage: Usage::default(),
            sse: Sse::default(),
            writes: Writes::default(),
            write_gap_ms: 0,
            framing: None,
            headers: Vec::new(),
            content_type: None,
            interim: Vec::new(),
            answer: None,
            raw: None,
            fault: None,
            linger_ms: 0,
            after: None,
            plain: false,
            pad: None,
            poison: None,
            slots: 0,
            queue: None,
        }
    }
}

impl Script {
    /// An answer of `words` words with `gap_ms` between them.
    #[must_use]
    pub fn words(words: usize, gap_ms: u64) -> Self {
        Self { words, gap_ms, ..Self::default() }
    }

    /// The default answer, broken at `at` in the way `how`.
    #[must_use]
    pub fn broken(at: At, how: How) -> Self {
        Self::default().fault(at, how)
    }

    /// A fixed JSON answer with this status.
    #[must_use]
    pub fn status(status: u16, body: impl Into<Blob>) -> Self {
        let body = body.into();
        Self { answer: Some(Fixed { status, body, ..Fixed::default() }), ..Self::default() }
    }

    /// Adds where and how the answer breaks.
    #[must_use]
    pub fn fault(mut self, at: At, how: How) -> Self {
        self.fault = Some(Fault { at, how });
        self
    }

    /// Adds a response header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Blob>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Leaves a part of the stream away.
    #[must_use]
    pub fn without(mut self, part: Part) -> Self {
        self.omit.push(part);
        self
    }

    pub(crate) fn omits(&self, part: Part) -> bool {
        self.omit.contains(&part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_survives_json() {
        let script = Script {
            tool_call: Some(ToolCall { name: "f".into(), arguments: "{}".into() }),
            writes: Writes::Bytes(vec![1, 7]),
            ..Script::broken(At::Events(3), How::error(500)).header("retry-after", "7")
        };
        let text = serde_json::to_string(&script).unwrap();
        assert_eq!(serde_json::from_str::<Script>(&text).unwrap(), script);
    }

    #[test]
    fn a_short_script_is_enough_and_a_slip_is_an_error() {
        let script: Script =
            serde_json::from_str(r#"{"words":3,"fault":{"at":{"events":2},"how":"reset"}}"#)
                .unwrap();
        assert_eq!(script, Script { words: 3, ..Script::broken(At::Events(2), How::Reset) });
        assert!(serde_json::from_str::<Script>(r#"{"wrods":3}"#).is_err());
    }

    #[test]
    fn blobs_give_their_bytes() {
        assert_eq!(Blob::raw(&[0, 255, 16]).bytes(), &[0, 255, 16][..]);
        assert_eq!(Blob::Repeat { repeat: "ab".into(), times: 2 }.bytes(), "abab");
        let blob: Blob = serde_json::from_str(r#"{"repeat":"x","times":3}"#).unwrap();
        assert_eq!(blob.bytes(), "xxx");
    }
}
