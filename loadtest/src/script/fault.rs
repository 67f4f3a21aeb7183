//! Where and how an answer breaks.

use serde::{Deserialize, Serialize};

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
