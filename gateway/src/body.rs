//! The bodies that go over the wire: pieces of a request to an upstream, and what a client reads.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use smallvec::SmallVec;

use crate::cache::Reading;
use crate::core::Loaded;
use crate::io::ActiveRequest;
use crate::relay::Relay;
use crate::report::Report;
use crate::waiting::{Found, Waiting};

/// A request body in pieces that share the client's buffer; cloning it copies no bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pieces {
    pieces: SmallVec<[Bytes; 3]>,
    next: usize,
    left: u64,
}

impl Pieces {
    pub(crate) fn new(pieces: SmallVec<[Bytes; 3]>) -> Self {
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self { pieces, next: 0, left }
    }

    /// Bytes still to be sent.
    pub(crate) const fn len(&self) -> u64 {
        self.left
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        let Some(piece) = this.pieces.get_mut(this.next) else { return Poll::Ready(None) };
        let piece = std::mem::take(piece);
        this.next += 1;
        this.left -= piece.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.next == self.pieces.len()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// The answer cannot go on and cannot say so in band: hyper closes the connection without a clean end.
#[derive(Debug, thiserror::Error)]
#[error("the answer was cut")]
pub(crate) struct Cut;

/// What a client reads. It owns everything that has to live until the answer is over.
pub(crate) struct ClientBody {
    content: Content,
    /// Finished when the body is dropped: the one log line, the request's metrics.
    report: Option<Box<Report>>,
    _counted: Option<(ActiveRequest, Loaded)>,
}

enum Content {
    Full(Option<Bytes>),
    Waiting(Box<Waiting>),
    Relay(Box<Relay>),
    Shared(Box<Reading>),
}

impl ClientBody {
    /// Without bytes it is over at once: hyper asks nothing of the body of a 204 or of an answer to HEAD.
    pub(crate) fn full(bytes: Bytes) -> Self {
        let bytes = Some(bytes).filter(|bytes| !bytes.is_empty());
        Self { content: Content::Full(bytes), report: None, _counted: None }
    }

    pub(crate) const fn relay(relay: Box<Relay>) -> Self {
        Self { content: Content::Relay(relay), report: None, _counted: None }
    }

    pub(crate) const fn shared(reading: Box<Reading>) -> Self {
        Self { content: Content::Shared(reading), report: None, _counted: None }
    }

    pub(crate) fn waiting(waiting: Waiting) -> Self {
        Self { content: Content::Waiting(Box::new(waiting)), report: None, _counted: None }
    }

    /// Hands over what ends with the body.
    pub(crate) fn carry(&mut self, mut report: Box<Report>, counted: (ActiveRequest, Loaded)) {
        if self.is_end_stream() {
            report.delivered();
        }
        self.report = Some(report);
        self._counted = Some(counted);
    }

    /// A defect while an answer is produced must end this answer alone, and never as if it were whole.
    fn poll_guarded(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        let polled =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.poll_content(cx)));
        polled.unwrap_or_else(|_| {
            self.content = Content::Full(None);
            if let Some(report) = &mut self.report {
                report.panicked();
            }
            Poll::Ready(Some(Err(Cut)))
        })
    }

    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        let mut report = self.report.as_deref_mut();
        loop {
            match &mut self.content {
                Content::Full(bytes) => {
                    if let Some(report) = report {
                        report.delivered();
                    }
                    return Poll::Ready(bytes.take().map(Ok));
                }
                Content::Relay(relay) => return relay.poll(cx, report),
                Content::Shared(reading) => return reading.poll(cx, report),
                Content::Waiting(waiting) => {
                    match ready!(waiting.poll(cx, report.as_deref_mut())) {
                        Found::Comment(comment) => return Poll::Ready(Some(Ok(comment))),
                        Found::Stream(relay) => self.content = Content::Relay(relay),
                        Found::Shared(reading) => self.content = Content::Shared(reading),
                        Found::Stored(bytes, _) => self.content = Content::Full(Some(bytes)),
                        Found::Last(event) => self.content = Content::Full(Some(event)),
                    }
                }
            }
        }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = &mut *self;
        let polled = this.poll_guarded(cx);
        if let (Poll::Ready(Some(Ok(bytes))), Some(report)) = (&polled, &mut this.report) {
            report.sent(bytes.len());
        }
        polled.map(|frame| frame.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Content::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Content::Waiting(_) | Content::Relay(_) | Content::Shared(_) => SizeHint::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn an_answer_without_bytes_is_over_unasked() {
        assert!(ClientBody::full(Bytes::new()).is_end_stream());
        assert!(!ClientBody::full(Bytes::from_static(b"x")).is_end_stream());
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_cuts_its_own_answer() {
        let search = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            panic!("a defect")
        };
        let waiting = Waiting::new(Box::pin(search), Duration::from_secs(60));
        let mut body = ClientBody::waiting(waiting);
        let comment = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(comment, ": keep-alive\n\n");
        // Not an end: hyper closes the connection without one.
        assert!(body.frame().await.unwrap().is_err());
        assert!(body.frame().await.is_none());
    }
}
