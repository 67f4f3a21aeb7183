//! Watching a stream of server-sent events go by.

mod chunk;
mod frame;

use crate::error::UpstreamError;
use crate::usage::Usage;
use chunk::{Finished, Look};
use frame::Framer;

pub use frame::EVENT_MAX_BYTES;

/// What a stream's events look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamDialect {
    /// `chat.completion.chunk` objects.
    Chat,
    /// `text_completion` objects.
    Completions,
}

/// An error that came as an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorEvent {
    /// What it said.
    pub error: UpstreamError,
    /// The event's data, at most [`crate::error::BODY_MAX_BYTES`]: the body to answer with while nothing else was
    /// sent.
    pub data: Vec<u8>,
}

impl ErrorEvent {
    /// Reads the data of an event that is an error.
    #[must_use]
    pub fn read(data: &[u8]) -> Self {
        let data = &data[..data.len().min(crate::error::BODY_MAX_BYTES)];
        Self { error: UpstreamError::read(data), data: data.to_vec() }
    }

    /// The HTTP status that it stands for, where its `code` is one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.error.status()
    }
}

/// What one chunk brought.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scan {
    /// Offset in this chunk just after the last event that is complete, its blank line included; `None` when no
    /// event ended in this chunk. All before it can be passed on at once. After an abort it no longer moves, so that
    /// a `[DONE]` that follows does not get past the error event which must come first.
    pub boundary: Option<usize>,
    /// Content was seen, in this chunk or before.
    pub first_content: bool,
    /// Complete events that are progress: comments and usage alone are none.
    pub events: u32,
    /// `[DONE]` was seen, in this chunk or before.
    pub done: bool,
    /// The first error event of the stream, in the chunk that completes it.
    pub error: Option<Box<ErrorEvent>>,
    /// An event that holds a usage and no choice: what a client does not get that did not ask for it.
    pub usage_only: Option<EventSpan>,
}

/// Where an event lies in the chunk that ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventSpan {
    /// Its first byte; `None` when it began in an earlier chunk, right after the boundary before.
    pub start: Option<usize>,
    /// Just after its last byte.
    pub end: usize,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// Every choice finished, or `[DONE]` came.
    Complete,
    /// Neither: the upstream broke off, however cleanly the body ended.
    Unfinished,
    /// It carried an error event; a `[DONE]` after that means nothing (vLLM sends one when its engine dies).
    Failed,
    /// A choice ended with `finish_reason` `abort`, which nobody asked for.
    Aborted,
}

/// Watches one stream. It never fails and never changes a byte; what it does not understand is content.
///
/// An event that lies whole in one chunk is looked at where it is. One that is split is copied aside, up to
/// [`EVENT_MAX_BYTES`]; beyond that the rest of the event is only searched for its end, counts as content, and its
/// usage and finish reason are missed ([`Scanner::gave_up`]). Before the first content event each event is parsed;
/// after it only those that may hold a usage, a finish reason or an error.
#[derive(Debug)]
pub struct Scanner {
    framer: Framer,
    state: State,
    /// Bytes since the last boundary.
    pending: usize,
}

/// What the events so far have shown.
#[derive(Debug)]
struct State {
    dialect: StreamDialect,
    finished: Finished,
    usage: Option<Usage>,
    content: bool,
    done: bool,
    failed: bool,
    aborted: bool,
    dead_runner: bool,
}

impl Scanner {
    /// For a stream of `choices` choices (at least 1).
    #[must_use]
    pub fn new(dialect: StreamDialect, choices: u32) -> Self {
        Self {
            framer: Framer::default(),
            pending: 0,
            state: State {
                dialect,
                finished: Finished::new(choices),
                usage: None,
                content: false,
                done: false,
                failed: false,
                aborted: false,
                dead_runner: false,
            },
        }
    }

    /// Looks at the next chunk.
    pub fn push(&mut self, chunk: &[u8]) -> Scan {
        let mut scan = Scan::default();
        let state = &mut self.state;
        // The LF of a CRLF that was cut apart still belongs to what was let through.
        let late_lf = self.pending == 0 && self.framer.awaits_lf() && chunk.starts_with(b"\n");
        let mut aborted_at = late_lf.then_some(1);
        let boundary = self.framer.push(chunk, |block| {
            let before = state.aborted;
            state.see(block, &mut scan);
            if state.aborted && !before {
                aborted_at = Some(block.end);
            }
        });
        scan.boundary = if state.aborted { aborted_at } else { boundary };
        self.pending = match scan.boundary {
            Some(boundary) => chunk.len() - boundary,
            None => self.pending + chunk.len(),
        };
        if self.framer.overflowed() && !state.content {
            state.content = true;
        }
        scan.first_content = state.content;
        scan.done = state.done;
        scan
    }

    /// The body has ended. A `[DONE]` whose blank line is missing still counts; any other incomplete event does not,
    /// because clients drop it.
    pub fn finish(&mut self) -> StreamEnd {
        if chunk::data(self.framer.tail()).is_some_and(|event| event.is_done()) {
            self.state.done = true;
        }
        let state = &self.state;
        if state.failed {
            StreamEnd::Failed
        } else if state.aborted {
            StreamEnd::Aborted
        } else if state.done || state.finished.all() {
            StreamEnd::Complete
        } else {
            StreamEnd::Unfinished
        }
    }

    /// The last usage reported so far; counts replace each other, they are never added up.
    #[must_use]
    pub const fn usage(&self) -> Option<Usage> {
        self.state.usage
    }

    /// Every choice has its finish reason.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.state.finished.all()
    }

    /// `[DONE]` was seen.
    #[must_use]
    pub const fn saw_done(&self) -> bool {
        self.state.done
    }

    /// An error event was seen.
    #[must_use]
    pub const fn failed(&self) -> bool {
        self.state.failed
    }

    /// The mark of an Ollama runner that died: a chunk with `"model":""` and nothing in it.
    #[must_use]
    pub const fn dead_runner(&self) -> bool {
        self.state.dead_runner
    }

    /// A choice ended with `finish_reason` `abort`.
    #[must_use]
    pub const fn aborted(&self) -> bool {
        self.state.aborted
    }

    /// Bytes since the last boundary, over all chunks: the incomplete event at the end, or all that came after an
    /// abort.
    #[must_use]
    pub const fn carry_len(&self) -> usize {
        self.pending
    }

    /// An event was split over chunks and longer than [`EVENT_MAX_BYTES`], so what it held is not known.
    #[must_use]
    pub const fn gave_up(&self) -> bool {
        self.framer.gave_up()
    }
}

impl State {
    /// One complete block: an event, or comments.
    fn see(&mut self, block: &frame::Block<'_>, scan: &mut Scan) {
        if block.cut {
            self.content = true;
            scan.events += 1;
            return;
        }
        let Some(event) = chunk::data(block.bytes) else { return };
        if event.is_done() {
            self.done = true;
            scan.events += 1;
            return;
        }
        if self.content && !event.named_error && !chunk::may_matter(&event.data) {
            scan.events += 1;
            return;
        }
        let look = Look::at(&event, self.dialect);
        if look.error {
            if !self.failed {
                self.failed = true;
                scan.error = Some(Box::new(ErrorEvent::read(&event.data)));
            }
            return;
        }
        self.usage = look.usage.or(self.usage);
        if look.usage_only {
            scan.usage_only = Some(EventSpan { start: block.start, end: block.end });
        }
        self.aborted |= look.aborted;
        for index in look.finished {
            self.finished.mark(index);
        }
        if look.dead_runner {
            self.dead_runner = true;
            return;
        }
        self.content |= look.content;
        scan.events += u32::from(look.progress);
    }
}

#[cfg(test)]
mod tests;
