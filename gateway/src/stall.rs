//! HTTP/2 streams whose client does not read. A connection's other streams go on, so the socket's own write deadline
//! does not see them; what such a stream holds upstream is given back, and the rest is a bounded buffer.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::body::{ClientBody, Cut};
use crate::io::Activity;

/// One stream's answer, in reach of the connection's watchdog.
struct Stream {
    body: Mutex<Option<ClientBody>>,
    /// When the last bytes were handed over with none asked for since, plus one; 0 = it is our turn.
    handed_at: AtomicU64,
}

impl Stream {
    fn lock(&self) -> MutexGuard<'_, Option<ClientBody>> {
        // A panic inside a body is caught there: never poisoned.
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The streams of one connection.
#[derive(Default)]
pub(crate) struct Streams(Mutex<Vec<Weak<Stream>>>);

impl Streams {
    /// Puts an answer on a stream of its own.
    pub(crate) fn open(&self, body: ClientBody, activity: &Arc<Activity>) -> StreamBody {
        let stream =
            Arc::new(Stream { body: Mutex::new(Some(body)), handed_at: AtomicU64::new(0) });
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Bounded by the connection's concurrent streams: those that are over go first.
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Arc::downgrade(&stream));
        StreamBody { stream, activity: Arc::clone(activity) }
    }

    /// Ends the answers that were not read for `span`; says how many.
    pub(crate) fn cut_stalled(&self, activity: &Activity, span: Duration) -> usize {
        let now = activity.now_ms();
        let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stalled = streams.iter().filter_map(Weak::upgrade).filter(|stream| {
            let handed_at = stream.handed_at.load(Relaxed);
            handed_at != 0 && now.saturating_sub(handed_at - 1) >= span
        });
        stalled.filter_map(|stream| stream.lock().take()).count()
    }
}

/// What hyper sends on an HTTP/2 stream.
pub(crate) struct StreamBody {
    stream: Arc<Stream>,
    activity: Arc<Activity>,
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let mut body = self.stream.lock();
        let Some(inner) = body.as_mut() else { return Poll::Ready(Some(Err(Cut))) };
        let polled = Pin::new(inner).poll_frame(cx);
        let handed = matches!(polled, Poll::Ready(Some(Ok(_))));
        let at = if handed { self.activity.now_ms() + 1 } else { 0 };
        self.stream.handed_at.store(at, Relaxed);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.stream.lock().as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.stream.lock().as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::waiting::Waiting;

    const SPAN: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn only_the_stream_that_is_not_read_is_cut() {
        let (streams, activity) = (Streams::default(), Activity::new());
        let endless = || {
            let waiting = Waiting::new(Box::pin(std::future::pending()), Duration::from_secs(1));
            streams.open(ClientBody::waiting(waiting), &activity)
        };
        let (mut read, mut unread) = (endless(), endless());
        assert!(unread.frame().await.unwrap().is_ok());
        for _ in 0..59 {
            assert!(read.frame().await.unwrap().is_ok());
        }
        assert_eq!(streams.cut_stalled(&activity, SPAN), 0);
        for _ in 0..2 {
            assert!(read.frame().await.unwrap().is_ok());
        }
        assert_eq!(streams.cut_stalled(&activity, SPAN), 1);
        assert!(unread.frame().await.unwrap().is_err());
        assert!(read.frame().await.unwrap().is_ok());
    }
}
