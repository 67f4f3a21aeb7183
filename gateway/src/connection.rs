//! One client connection: first bytes, TLS, HTTP/1.1 or HTTP/2, and the watchdog that holds it to its deadlines.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::accept::Accepted;
use crate::body::ClientBody;
use crate::core::{Load, Loaded};
use crate::io::{Activity, Expired, Spans, Stream, Watched};
use crate::plane::Plane;
use crate::service;
use crate::settings::ListenSettings;
use crate::shutdown::Phase;
use crate::stall::{StreamBody, Streams};

const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The smallest buffer that hyper takes without a panic, bytes.
const H1_BUFFER_MIN: usize = 8 << 10;
/// What one HTTP/2 stream may send ahead of us, bytes.
const H2_STREAM_WINDOW: u32 = 64 << 10;
/// What one HTTP/2 connection may send ahead of us, bytes.
const H2_CONNECTION_WINDOW: u32 = 1 << 20;
/// What we hold of one HTTP/2 stream's answer while the client does not read, bytes.
const H2_SEND_BUFFER: usize = 64 << 10;
/// Streams that a client may reset before we have looked at them.
const H2_PENDING_RESETS: usize = 20;
/// Resets of our own that a client may provoke.
const H2_LOCAL_RESETS: usize = 1024;
const H2_PING_INTERVAL: Duration = Duration::from_secs(20);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection that is being closed in order may take for it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What one core's connections share.
pub(crate) struct Core {
    pub(crate) index: usize,
    pub(crate) plane: Arc<Plane>,
    load: Arc<Load>,
}

impl Core {
    pub(crate) const fn new(index: usize, plane: Arc<Plane>, load: Arc<Load>) -> Self {
        Self { index, plane, load }
    }

    /// Counts a request of this core until its response has ended.
    pub(crate) fn request(&self) -> Loaded {
        self.load.enter(true)
    }
}

/// Serves one accepted socket to its end.
pub(crate) async fn serve(core: Arc<Core>, accepted: Accepted) {
    let _open = core.plane.connection();
    let Accepted { socket, place } = accepted;
    let settings = core.plane.listen_settings();
    let acceptor = core.plane.tls_acceptor();
    let result = async {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let socket = TcpStream::from_std(socket)?;
        match acceptor {
            None => clear_text(&core, &settings, socket).await,
            // Boxed, as below, so that the usual connection's task does not keep room for what it is not.
            Some(acceptor) => Box::pin(over_tls(&core, &settings, &acceptor, socket)).await,
        }
    };
    if let Err(error) = result.await {
        tracing::debug!(%error, "connection ended");
    }
    drop(place);
}

async fn over_tls(
    core: &Arc<Core>,
    settings: &ListenSettings,
    acceptor: &TlsAcceptor,
    socket: TcpStream,
) -> io::Result<()> {
    let handshake = tokio::time::timeout(settings.header_timeout, acceptor.accept(socket));
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            core.plane.counters.tls_failures.increment(1);
            crate::tls::handshake_failed(&error);
            return Ok(());
        }
        Err(_) => {
            core.plane.counters.header_timeouts.increment(1);
            return Ok(());
        }
    };
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    speak(core, settings, stream, Bytes::new(), http2).await
}

async fn clear_text(
    core: &Arc<Core>,
    settings: &ListenSettings,
    mut socket: TcpStream,
) -> io::Result<()> {
    // hyper-util's own detection has no deadline: a client that sends nothing would stay for ever.
    match tokio::time::timeout(settings.header_timeout, sniff(&mut socket)).await {
        Ok(Ok((prefix, http2))) => speak(core, settings, socket, prefix, http2).await,
        Ok(Err(error)) => Err(error),
        Err(_) => {
            core.plane.counters.header_timeouts.increment(1);
            Ok(())
        }
    }
}

/// Reads until the bytes are or cannot be the HTTP/2 preface.
async fn sniff(socket: &mut TcpStream) -> io::Result<(Bytes, bool)> {
    let mut read = BytesMut::with_capacity(4096);
    loop {
        if socket.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let n = read.len().min(H2_PREFACE.len());
        if read[..n] != H2_PREFACE[..n] {
            return Ok((read.freeze(), false));
        }
        if n == H2_PREFACE.len() {
            return Ok((read.freeze(), true));
        }
    }
}

/// A connection of either protocol, as the watchdog needs it.
trait Driver: Future<Output = hyper::Result<()>> {
    /// Finishes what runs and takes nothing new.
    fn close(self: Pin<&mut Self>);
}

macro_rules! driver {
    ($connection:ty, $body:ty) => {
        impl<I, S> Driver for $connection
        where
            I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
            S: Service<Request<Incoming>, Response = Response<$body>, Error = Infallible>,
            S::Future: Send + 'static,
        {
            fn close(self: Pin<&mut Self>) {
                self.graceful_shutdown();
            }
        }
    };
}
driver!(http1::Connection<I, S>, ClientBody);
driver!(http2::Connection<I, S, TokioExecutor>, StreamBody);

async fn speak<S: Stream>(
    core: &Arc<Core>,
    settings: &ListenSettings,
    stream: S,
    prefix: Bytes,
    http2: bool,
) -> io::Result<()> {
    let activity = Activity::new();
    let stream = TokioIo::new(Watched::new(stream, prefix, Arc::clone(&activity)));
    if http2 {
        Box::pin(speak_http2(core, settings, &activity, stream)).await
    } else {
        speak_http1(core, settings, &activity, stream).await
    }
}

async fn speak_http1<S: Stream>(
    core: &Arc<Core>,
    settings: &ListenSettings,
    activity: &Arc<Activity>,
    stream: TokioIo<Watched<S>>,
) -> io::Result<()> {
    let service = service_fn(|request: Request<Incoming>| {
        // Boxed: hyper keeps room for this future as long as the connection lives, also while a stream runs.
        let answer = Box::pin(service::handle(Arc::clone(core), activity.request(), request));
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The watchdog holds heads to their deadline; hyper's own would end idle connections too.
        .header_read_timeout(None)
        .max_buf_size(settings.head_max.max(H1_BUFFER_MIN))
        .max_headers(settings.headers_max)
        .serve_connection(stream, service);
    watch(core, settings, activity, pin!(connection), None).await
}

async fn speak_http2<S: Stream>(
    core: &Arc<Core>,
    settings: &ListenSettings,
    activity: &Arc<Activity>,
    stream: TokioIo<Watched<S>>,
) -> io::Result<()> {
    let streams = Arc::new(Streams::default());
    let service = service_fn(|request: Request<Incoming>| {
        let (core, active) = (Arc::clone(core), activity.request());
        let (streams, activity) = (Arc::clone(&streams), Arc::clone(activity));
        async move {
            let answer = service::handle(core, active, request).await;
            Ok::<_, Infallible>(answer.map(|body| streams.open(body, &activity)))
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_concurrent_streams(settings.h2_streams_max)
        .max_header_list_size(u32::try_from(settings.head_max).unwrap_or(u32::MAX))
        .max_send_buf_size(H2_SEND_BUFFER)
        .max_pending_accept_reset_streams(H2_PENDING_RESETS)
        .max_local_error_reset_streams(H2_LOCAL_RESETS)
        .keep_alive_interval(H2_PING_INTERVAL)
        .keep_alive_timeout(H2_PING_TIMEOUT)
        .serve_connection(stream, service);
    watch(core, settings, activity, pin!(connection), Some(&streams)).await
}

/// Drives a connection and holds it to its deadlines; `streams` are those of HTTP/2.
async fn watch(
    core: &Core,
    settings: &ListenSettings,
    activity: &Arc<Activity>,
    mut connection: Pin<&mut impl Driver>,
    streams: Option<&Streams>,
) -> io::Result<()> {
    let spans = Spans {
        head: settings.header_timeout,
        idle: settings.idle_timeout,
        write: settings.write_timeout,
    };
    let look = || {
        let stalled = streams.map_or(0, |streams| streams.cut_stalled(activity, spans.write));
        (0..stalled).for_each(|_| core.plane.counters.expired(Expired::Write));
        activity.check(&spans, streams.is_some())
    };
    // Asked to finish before it has read anything, hyper closes: what was sniffed would be lost with it.
    if let Poll::Ready(result) = poll_fn(|cx| Poll::Ready(connection.as_mut().poll(cx))).await {
        return result.map_err(io::Error::other);
    }
    let mut closing = false;
    let shutdown = &core.plane.shutdown;
    let first = spans.head.min(spans.idle).min(spans.write);
    let mut alarm = pin!(tokio::time::sleep(first));
    loop {
        let changed = shutdown.changed(core.index);
        if shutdown.phase() >= Phase::Draining && !closing {
            closing = true;
            connection.as_mut().close();
        }
        tokio::select! {
            result = &mut connection => return result.map_err(io::Error::other),
            () = changed => {}
            () = &mut alarm => match look() {
                Ok(next) => alarm.as_mut().reset(next),
                Err(Expired::Idle) if !closing => {
                    closing = true;
                    connection.as_mut().close();
                    alarm.as_mut().reset(tokio::time::Instant::now() + CLOSE_TIMEOUT);
                }
                Err(expired) => {
                    core.plane.counters.expired(expired);
                    return Ok(());
                }
            },
        }
    }
}
