//! The client's socket as hyper sees it: replays the sniffed bytes and keeps the times that the connection's watchdog needs.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long a client that was refused may go on sending, so that it comes to read why.
const LINGER: Duration = Duration::from_secs(5);

/// Any byte stream to a client: TCP, or TLS over it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// What a connection is doing, as far as deadlines are concerned. Times are milliseconds since the connection began.
#[derive(Debug)]
pub(crate) struct Activity {
    begun: Instant,
    /// Requests between head and end of response.
    active: AtomicU32,
    /// Since when the connection has waited for something: its first byte, the rest of a head, the next request.
    waiting_since: AtomicU64,
    /// A head has begun to arrive and is not complete.
    in_head: AtomicBool,
    /// At least one head has been complete.
    asked: AtomicBool,
    /// Since when a write has made no progress, plus one; 0 = none is blocked.
    blocked_since: AtomicU64,
    /// A request was answered before its body had come.
    unread: AtomicBool,
}

/// Why a watchdog ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    /// A request head took too long.
    Head,
    /// Nothing was asked for too long.
    Idle,
    /// The client does not read.
    Write,
}

/// The three spans that a connection is held to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spans {
    pub(crate) head: Duration,
    pub(crate) idle: Duration,
    pub(crate) write: Duration,
}

impl Activity {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            active: AtomicU32::new(0),
            waiting_since: AtomicU64::new(0),
            in_head: AtomicBool::new(true),
            asked: AtomicBool::new(false),
            blocked_since: AtomicU64::new(0),
            unread: AtomicBool::new(false),
        })
    }

    /// Milliseconds since the connection began.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A request head is complete; the guard lives as long as its response.
    pub(crate) fn request(self: &Arc<Self>) -> ActiveRequest {
        self.active.fetch_add(1, Relaxed);
        self.in_head.store(false, Relaxed);
        self.asked.store(true, Relaxed);
        ActiveRequest(Arc::clone(self))
    }

    /// The client may still be sending what nobody will read.
    fn lingers(&self) -> bool {
        self.unread.load(Relaxed) || self.in_head.load(Relaxed)
    }

    fn read_some(&self) {
        if self.active.load(Relaxed) == 0 && !self.in_head.swap(true, Relaxed) {
            self.waiting_since.store(self.now_ms(), Relaxed);
        }
    }

    fn write_blocked(&self) {
        if self.blocked_since.load(Relaxed) == 0 {
            self.blocked_since.store(self.now_ms() + 1, Relaxed);
        }
    }

    fn write_progressed(&self) {
        if self.blocked_since.load(Relaxed) != 0 {
            self.blocked_since.store(0, Relaxed);
        }
    }

    /// What has run out by now, or when to look again.
    pub(crate) fn check(&self, spans: &Spans, http2: bool) -> Result<Instant, Expired> {
        let now = self.now_ms();
        let after = |since: u64, span: Duration, what: Expired| {
            let due = since.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
            if now >= due { Err(what) } else { Ok(due - now) }
        };
        let blocked = self.blocked_since.load(Relaxed);
        let mut next = if blocked == 0 {
            u64::try_from(spans.write.as_millis()).unwrap_or(u64::MAX)
        } else {
            after(blocked - 1, spans.write, Expired::Write)?
        };
        if self.active.load(Relaxed) == 0 {
            let since = self.waiting_since.load(Relaxed);
            // HTTP/2 announces heads inside frames: bytes after the first request may be a head or not, and only
            // idleness can be watched. Before it, all that may come is that head.
            let in_head =
                if http2 { !self.asked.load(Relaxed) } else { self.in_head.load(Relaxed) };
            let waited = if in_head {
                after(since, spans.head, Expired::Head)?
            } else {
                after(since, spans.idle, Expired::Idle)?
            };
            next = next.min(waited);
        } else {
            next = next.min(u64::try_from(spans.head.as_millis()).unwrap_or(u64::MAX));
        }
        Ok(Instant::now() + Duration::from_millis(next.max(1)))
    }
}

/// Counts one request of a connection until its response has ended.
#[derive(Debug)]
pub(crate) struct ActiveRequest(Arc<Activity>);

impl ActiveRequest {
    /// The answer goes out before the request's body has been read; the connection ends with it.
    pub(crate) fn leaves_body(&self) {
        self.0.unread.store(true, Relaxed);
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.waiting_since.store(self.0.now_ms(), Relaxed);
        self.0.active.fetch_sub(1, Relaxed);
    }
}

/// A client's stream with the sniffed bytes put back in front.
pub(crate) struct Watched<S> {
    inner: S,
    prefix: Bytes,
    activity: Arc<Activity>,
    closing: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    pub(crate) const fn new(inner: S, prefix: Bytes, activity: Arc<Activity>) -> Self {
        Self { inner, prefix, activity, closing: None }
    }

    fn note_write(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Pending => self.activity.write_blocked(),
            Poll::Ready(_) => self.activity.write_progressed(),
        }
    }
}

impl<S: Stream> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.prefix.is_empty() {
            let n = self.prefix.len().min(buf.remaining());
            buf.put_slice(&self.prefix.split_to(n));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buf);
        if result.is_ready() && buf.filled().len() > before {
            self.activity.read_some();
        }
        result
    }
}

impl<S: Stream> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, data);
        self.note_write(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.note_write(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    /// Closing a socket with unread bytes resets it, and a reset destroys the answer on its way to the client
    /// (RFC 9112, 9.6): so our side is closed first, and what still comes is thrown away until the client closes too.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.closing.is_none() {
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
        }
        if !this.activity.lingers() {
            return Poll::Ready(Ok(()));
        }
        let limit = this.closing.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        if limit.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut scrap = [MaybeUninit::uninit(); 8 << 10];
        loop {
            let mut scrap = ReadBuf::uninit(&mut scrap);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut scrap))?;
            if scrap.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPANS: Spans = Spans {
        head: Duration::from_secs(10),
        idle: Duration::from_secs(75),
        write: Duration::from_secs(60),
    };

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_is_given_the_head_deadline() {
        let activity = Activity::new();
        assert!(activity.check(&SPANS, false).is_ok());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(activity.check(&SPANS, false).err(), Some(Expired::Head));
    }

    #[tokio::test(start_paused = true)]
    async fn a_preface_alone_buys_no_time_and_an_http2_client_that_asked_may_be_idle() {
        let (silent, asked) = (Activity::new(), Activity::new());
        tokio::time::advance(Duration::from_secs(9)).await;
        // Settings, pings, half a head: no request.
        silent.read_some();
        drop(asked.request());
        asked.read_some();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(silent.check(&SPANS, true).err(), Some(Expired::Head));
        assert!(asked.check(&SPANS, true).is_ok());
        tokio::time::advance(Duration::from_secs(74)).await;
        assert_eq!(asked.check(&SPANS, true).err(), Some(Expired::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn between_requests_only_idleness_counts_and_a_new_byte_starts_the_head_deadline() {
        let activity = Activity::new();
        drop(activity.request());
        tokio::time::advance(Duration::from_secs(74)).await;
        assert!(activity.check(&SPANS, false).is_ok());
        activity.read_some();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(activity.check(&SPANS, false).is_ok());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(activity.check(&SPANS, false).err(), Some(Expired::Head));
    }

    #[tokio::test(start_paused = true)]
    async fn a_running_answer_has_no_deadline_but_a_blocked_write() {
        let activity = Activity::new();
        let running = activity.request();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(activity.check(&SPANS, false).is_ok());
        activity.write_blocked();
        tokio::time::advance(Duration::from_secs(59)).await;
        activity.write_blocked();
        assert!(activity.check(&SPANS, false).is_ok());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(activity.check(&SPANS, false).err(), Some(Expired::Write));
        activity.write_progressed();
        assert!(activity.check(&SPANS, false).is_ok());
        drop(running);
    }
}
