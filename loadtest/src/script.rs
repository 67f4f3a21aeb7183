//! Scripts: how the upstream answers, as plain data that comes from code, a file, a control request
//! or the `fake` object in a request's body.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

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

/// Bytes in a script: text, a repetition of text, or hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Blob {
    /// As written.
    Text(String),
    /// `repeat` written `times` times.
    Repeat {
        /// What to repeat.
        repeat: String,
        /// How often.
        times: usize,
    },
    /// Any bytes, as hexadecimal digits; other characters are ignored.
    Hex {
        /// The digits.
        hex: String,
    },
}

impl Blob {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        match self {
            Self::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            Self::Repeat { repeat, times } => Bytes::from(repeat.repeat(*times)),
            Self::Hex { hex } => {
                let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
                digits
                    .chunks_exact(2)
                    .map(|d| u8::try_from(d[0] * 16 + d[1]).unwrap_or_default())
                    .collect()
            }
        }
    }

    /// Any bytes, so that code need not spell hexadecimal digits.
    #[must_use]
    pub fn raw(bytes: &[u8]) -> Self {
        use std::fmt::Write as _;
        let mut hex = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        Self::Hex { hex }
    }
}

impl Default for Blob {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl From<&str> for Blob {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Blob {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        Self::raw(bytes)
    }
}

/// A tool call that the model makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// Name of the function.
    pub name: String,
    /// Its arguments, JSON text.
    pub arguments: String,
}

/// A part of a stream that a script can leave away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The first chunk, which carries the role alone.
    Role,
    /// The chunk with `finish_reason`.
    Finish,
    /// `data: [DONE]`.
    Done,
}

/// When usage is reported in a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Usage {
    /// In a last chunk, when `stream_options.include_usage` asks for it.
    #[default]
    Asked,
    /// In a last chunk, asked or not.
    Always,
    /// On every chunk and in a last one (vLLM's `--enable-force-include-usage`).
    EveryChunk,
    /// `"usage":null` on every chunk; in a last chunk when asked (OpenAI).
    Null,
    /// Never (`llama_cpp.server`).
    Never,
}

/// How server-sent events are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sse {
    /// Line ending.
    pub eol: Eol,
    /// A space behind `data:`.
    pub space: bool,
    /// Breaks the JSON of each event over two `data:` lines.
    pub two_lines: bool,
    /// `event:` name before each `data:`.
    pub event: Option<String>,
    /// `: keep-alive` comments before the first event.
    pub comments_before: usize,
    /// `: keep-alive` comments behind each event.
    pub comments_between: usize,
    /// `: keep-alive` comments behind the last event.
    pub comments_after: usize,
    /// Pause behind each comment before the first event, ms.
    pub comment_gap_ms: u64,
    /// A byte order mark before everything.
    pub bom: bool,
}

impl Default for Sse {
    fn default() -> Self {
        Self {
            eol: Eol::Lf,
            space: true,
            two_lines: false,
            event: None,
            comments_before: 0,
            comments_between: 0,
            comments_after: 0,
            comment_gap_ms: 0,
            bom: false,
        }
    }
}

/// Line endings that the event stream format allows (WHATWG HTML 9.2.6).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Eol {
    /// `\n`
    #[default]
    Lf,
    /// `\r`
    Cr,
    /// `\r\n`
    Crlf,
}

impl Eol {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Lf => "\n",
            Self::Cr => "\r",
            Self::Crlf => "\r\n",
        }
    }
}

/// How the body is cut into writes; each write is an HTTP chunk of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Writes {
    /// One event a write.
    #[default]
    Events,
    /// The body cut at these sizes (bytes), over and over; `[1]` writes single bytes.
    Bytes(Vec<usize>),
    /// A cut inside every multi-byte character, at each of its bytes.
    Utf8,
    /// All events in one write.
    One,
}

/// How the end of a body is marked (RFC 9112, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// `Content-Length`; the whole body is built first.
    Length,
    /// HTTP/1.0 without a length: the close ends the body.
    Close,
}

/// A fixed answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fixed {
    /// Status code.
    pub status: u16,
    /// Headers beside framing; without a content type it is `application/json`.
    pub headers: Vec<(String, Blob)>,
    /// Body. Status 1xx, 204 and 304 have none.
    pub body: Blob,
    /// How its end is marked.
    pub framing: Framing,
}

impl Default for Fixed {
    fn default() -> Self {
        Self { status: 200, headers: Vec::new(), body: Blob::default(), framing: Framing::Length }
    }
}

impl Fixed {
    /// A JSON answer.
    #[must_use]
    pub fn json(status: u16, body: impl Into<Blob>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }
}

/// A break of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Where.
    pub at: At,
    /// How.
    pub how: How,
}

/// A point in the life of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// The connection is accepted; nothing has been read.
    Accept,
    /// The request's head has been read, its body not.
    RequestHead,
    /// The whole request has been read.
    Request,
    /// The response head has been sent.
    Head,
    /// So many events have been sent; the role chunk counts, comments do not.
    Events(usize),
    /// So many body bytes (after the framing is removed) have been sent.
    Bytes(usize),
    /// All content has been sent; the finish chunk is next.
    Finish,
    /// All but `[DONE]` has been sent.
    Done,
}

/// A way to break.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Nothing more is sent; the connection stays open until the client leaves.
    Hang,
    /// Nothing more but `: keep-alive` comments, one in so many ms (at most 10,000 of them).
    Comments(u64),
    /// The connection is reset (RST).
    Reset,
    /// The connection is closed (FIN) without the last chunk.
    Fin,
    /// The body ends as if it were complete; the connection stays open.
    CleanEnd,
    /// Half of the next event, then FIN.
    HalfEvent,
    /// Half of the next event, then a clean end.
    HalfEventCleanEnd,
    /// Garbage where a chunk size is due, then FIN.
    BadChunk,
    /// An error event as vLLM sends it, then `[DONE]` and a clean end.
    ErrorEvent {
        /// The status in the event.
        code: u16,
        /// The message in the event.
        message: String,
    },
    /// The end of a stream whose Ollama runner died: a chunk with `"model":""`, then a clean end.
    DeadRunner,
    /// The whole server dies as after `kill -9`: all connections closed, new ones refused.
    Die,
}

impl How {
    /// vLLM's error event with this code.
    #[must_use]
    pub fn error(code: u16) -> Self {
        Self::ErrorEvent { code, message: "Internal server error".to_owned() }
    }
}

/// What happens to the connection after a complete answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// It is kept for the next request.
    Keep,
    /// `Connection: close` is announced and kept.
    Close,
    /// It is closed without having been announced (llama-server after streams).
    SilentClose,
}

/// Makes one event large: a string field of that size is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pad {
    /// Which word (from 0).
    pub word: usize,
    /// How many bytes.
    pub bytes: usize,
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
