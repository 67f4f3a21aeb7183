//! The shape of an answer: parts, events, writes, framing.

use serde::{Deserialize, Serialize};

use super::Blob;

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
