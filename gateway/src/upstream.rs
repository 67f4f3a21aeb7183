//! Connections to backends: dialling, and a small pool per backend and core.
//!
//! The pool is our own because a request that fails on a *reused* connection before the first response byte may be sent
//! once more on a fresh one, and only a pool that says whether a connection was reused can tell.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::body::Pieces;
use crate::connection::Core;
use crate::dial::{self, DialError};
use crate::plane::Link;

/// Most idle connections that one core keeps to one backend.
pub(crate) const IDLE_PER_CORE_MAX: usize = 128;
/// Largest head of an upstream's answer, and the read buffer of its connection, bytes.
const READ_BUFFER_MAX: usize = 64 << 10;
/// Between two looks for expired idle connections.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes that went over one connection; tells how far a failed request had come.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    pub(crate) read: AtomicU64,
    pub(crate) written: AtomicU64,
}

/// A connection that can carry one request at a time.
struct Conn {
    /// Boxed: hyper keeps room for a whole request on every connection.
    sender: SendRequest<Box<Pieces>>,
    driver: AbortHandle,
    wire: Arc<Wire>,
}

impl Drop for Conn {
    /// Closes the socket at once, whatever it was doing: that is what makes an inference server stop generating.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

struct Idle {
    conn: Conn,
    since: Instant,
}

/// The idle connections of one backend on one core.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Idle>>,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        // Only its own core takes this lock, and nothing panics under it: never contended, never poisoned.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that was used last, if one is still good.
    fn take(&self, idle_max: Duration) -> Option<Conn> {
        let mut idle = self.lock();
        while let Some(entry) = idle.pop() {
            if entry.since.elapsed() < idle_max && entry.conn.sender.is_ready() {
                return Some(entry.conn);
            }
        }
        None
    }

    fn put(&self, conn: Conn) {
        let mut idle = self.lock();
        if idle.len() < IDLE_PER_CORE_MAX {
            idle.push(Idle { conn, since: Instant::now() });
        }
    }

    fn expire(&self, idle_max: Duration) {
        let mut idle = self.lock();
        idle.retain(|entry| entry.since.elapsed() < idle_max && !entry.conn.sender.is_closed());
    }
}

/// A connection out on loan. Dropped, it closes; [`Lease::park`] gives it back.
pub(crate) struct Lease {
    conn: Conn,
    link: Arc<Link>,
    core: usize,
    /// It has carried a request before.
    pub(crate) reused: bool,
    read_before: u64,
    written_before: u64,
}

impl Lease {
    /// Takes an idle connection, or dials within `connect`.
    pub(crate) async fn take(
        link: &Arc<Link>,
        core: usize,
        idle_max: Duration,
        connect: Duration,
    ) -> Result<Self, DialError> {
        match link.pool(core).take(idle_max) {
            Some(conn) => Ok(Self::new(conn, link, core, true)),
            None => Self::fresh(link, core, connect).await,
        }
    }

    /// Dials a connection that nothing was sent on yet.
    pub(crate) async fn fresh(
        link: &Arc<Link>,
        core: usize,
        connect: Duration,
    ) -> Result<Self, DialError> {
        let conn =
            tokio::time::timeout(connect, open(link)).await.unwrap_or(Err(DialError::Timeout))?;
        Ok(Self::new(conn, link, core, false))
    }

    fn new(conn: Conn, link: &Arc<Link>, core: usize, reused: bool) -> Self {
        Self {
            read_before: conn.wire.read.load(Relaxed),
            written_before: conn.wire.written.load(Relaxed),
            conn,
            link: Arc::clone(link),
            core,
            reused,
        }
    }

    /// Sends one request; resolves with the response's head.
    pub(crate) async fn send(
        &mut self,
        request: Request<Box<Pieces>>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        self.conn.sender.send_request(request).await
    }

    /// Not one byte of a response has come since the connection was taken.
    pub(crate) fn unanswered(&self) -> bool {
        self.conn.wire.read.load(Relaxed) == self.read_before
    }

    /// Bytes sent since the connection was taken.
    pub(crate) fn written(&self) -> u64 {
        self.conn.wire.written.load(Relaxed) - self.written_before
    }

    /// Gives the connection back; its answer must have been read to the end.
    pub(crate) fn park(self) {
        if !self.conn.sender.is_closed() {
            let Self { conn, link, core, .. } = self;
            link.pool(core).put(conn);
        }
    }
}

async fn open(link: &Link) -> Result<Conn, DialError> {
    let wire = Arc::new(Wire::default());
    let stream = dial::dial(link.target()?, Arc::clone(&wire)).await?;
    // Its own bound of 100 headers is left alone: up to that they are parsed on the stack.
    let (sender, driver) = http1::Builder::new()
        .max_buf_size(READ_BUFFER_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| DialError::Failed(std::io::Error::other(error)))?;
    let driver = tokio::spawn(async move {
        // Its errors reach whoever waits for the answer; an idle connection that ends is no news.
        let _ = driver.await;
    });
    Ok(Conn { sender, driver: driver.abort_handle(), wire })
}

/// Closes this core's idle connections when their time is over, until it is aborted.
pub(crate) async fn sweep(core: Arc<Core>) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        ticks.tick().await;
        let snapshot = core.plane.world.load();
        let idle_max = snapshot.service().upstream_idle;
        for member in snapshot.backends() {
            member.live.attachment.pool(core.index).expire(idle_max);
        }
    }
}
