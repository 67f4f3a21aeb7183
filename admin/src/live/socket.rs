//! The socket through which other processes see and operate a data plane.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use router::planes::{Feed, Inspect, Operate, OperateError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use subtle::ConstantTimeEq;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};
use zeroize::Zeroizing;

use super::explanation::Told;
use super::folder::{Folder, Named};
use super::words::{After, Asked, Discovered, Order, State};

/// Most connections at once.
const CONNECTIONS_MAX: usize = 16;
/// Longest life of a connection: one question and its answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a question's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// Largest question, in bytes.
const QUESTION_MAX: usize = 64 << 10;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Everything that a data plane shows and does.
pub trait Live: Inspect + Operate + Feed {}

impl<P: Inspect + Operate + Feed> Live for P {}

/// A data plane's open socket; it is closed, and its file removed, when this is dropped.
#[derive(Debug)]
pub struct Socket {
    named: Named,
    _end: oneshot::Sender<()>,
}

impl Socket {
    /// Opens the socket of this process in a folder and answers on a thread of its own.
    ///
    /// # Errors
    /// When folder, token or socket cannot be made, or the thread.
    pub fn open(folder: &Folder, plane: Arc<dyn Live>) -> io::Result<Self> {
        folder.make()?;
        let guarded = Arc::new(Guarded { token: folder.token()?, plane });
        let (listener, named) = folder.listen()?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel();
        thread::Builder::new().name("live".to_owned()).spawn(move || {
            runtime.block_on(async move {
                match UnixListener::from_std(listener) {
                    Ok(listener) => tokio::select! {
                        () = accept(listener, guarded) => {}
                        _ = ended => {}
                    },
                    Err(error) => tracing::error!(%error, "the socket for the admin API failed"),
                }
            });
        })?;
        Ok(Self { named, _end: end })
    }

    /// The name of its file, without ending.
    pub(super) fn name(&self) -> &str {
        &self.named.name
    }
}

struct Guarded {
    token: Zeroizing<String>,
    plane: Arc<dyn Live>,
}

async fn accept(listener: UnixListener, guarded: Arc<Guarded>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let guarded = Arc::clone(&guarded);
        tokio::spawn(async move {
            if let Ok(Err(error)) =
                tokio::time::timeout(CONNECTION_TIMEOUT, serve(socket, guarded)).await
            {
                tracing::debug!(%error, "a question of the admin API ended early");
            }
            drop(place);
        });
    }
}

async fn serve(socket: UnixStream, guarded: Arc<Guarded>) -> hyper::Result<()> {
    let service = service_fn(move |request| {
        let guarded = Arc::clone(&guarded);
        async move { Ok::<_, Infallible>(answer(&guarded, request).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), service)
        .await
}

async fn answer(guarded: &Guarded, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if !guarded.lets_in(request.headers().get(AUTHORIZATION)) {
        return plain(StatusCode::UNAUTHORIZED, "the token is not that of the store's planes");
    }
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, QUESTION_MAX).collect().await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, "the question is not whole");
    };
    let body = body.to_bytes();
    let plane = &*guarded.plane;
    match (head.method, head.uri.path()) {
        (Method::GET, "/live/state") => json(&state(plane)),
        (Method::GET, "/live/catalog") => json(&Discovered::from(&plane.catalog())),
        (Method::POST, "/live/explain") => asked(&body, |asked: &Asked| {
            let now = Instant::now();
            plane.explain(&asked.query()).map(|told| Told::of(told, now))
        }),
        (Method::POST, "/live/operate") => asked(&body, |order| operate(plane, order)),
        (Method::POST, "/live/events") => {
            asked(&body, |after: &After| plane.events(after.number, after.most))
        }
        _ => plain(StatusCode::NOT_FOUND, "this build does not know that question"),
    }
}

impl Guarded {
    fn lets_in(&self, authorization: Option<&HeaderValue>) -> bool {
        let said = authorization.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        said.is_some_and(|said| said.ct_eq(self.token.as_bytes()).into())
    }
}

fn state(plane: &dyn Live) -> State {
    State {
        version: plane.version(),
        process: plane.process(),
        backends: plane.backends(),
        totals: plane.totals(),
        queues: plane.queues(),
    }
}

fn operate(plane: &dyn Live, order: &Order) -> Result<u64, OperateError> {
    match order {
        Order::Probe(backend) => plane.probe_now(backend.as_deref()).map(|()| 0),
        Order::Drain(backend) => plane.drain(backend).map(|()| 0),
        Order::Resume(backend) => plane.resume(backend).map(|()| 0),
        Order::Purge(scope) => plane.purge(scope),
    }
}

fn asked<Q: DeserializeOwned, A: Serialize>(
    body: &[u8],
    reply: impl FnOnce(&Q) -> A,
) -> Response<Full<Bytes>> {
    match serde_json::from_slice(body) {
        Ok(question) => json(&reply(&question)),
        Err(_) => plain(StatusCode::BAD_REQUEST, "this build does not understand that question"),
    }
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    let Ok(text) = serde_json::to_vec(value) else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be written down");
    };
    let mut response = Response::new(Full::new(text.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}
