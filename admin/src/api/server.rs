//! The admin listener: accepts, holds every connection to its bounds, and guards what all requests have in common.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::api::caller::RequestId;
use crate::api::origin;
use crate::api::problem::{self, Kind, Problem};
use crate::api::state::Api;

/// Most connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// Most requests at once; more are told to come again. A stream of events counts until its head is out.
pub(crate) const REQUESTS_MAX: usize = 64;
/// Longest wait for a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest request head, in bytes.
const HEAD_MAX: usize = 32 << 10;
/// Most headers of a request.
const HEADERS_MAX: usize = 100;
/// How long answers under way may go on after the end was asked for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Nothing but our own script and style, and nobody may frame us.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Accepts until `end`, then gives the answers under way [`DRAIN_TIMEOUT`]. A listener out of `moves` takes the place of the
/// one before it; connections of that live on.
pub(crate) async fn accept(
    mut listener: TcpListener,
    mut moves: mpsc::Receiver<TcpListener>,
    router: Router,
    end: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stop, stopped) = watch::channel(());
    tokio::pin!(end);
    loop {
        let place = tokio::select! {
            () = &mut end => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            () = &mut end => break,
            Some(next) = moves.recv() => {
                listener = next;
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, peer)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let router = router.clone();
        let stopped = stopped.clone();
        tokio::spawn(async move {
            connection(socket, peer, router, stopped).await;
            drop(place);
        });
    }
    drop(stop);
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    // Those that are still there after that end with the runtime.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, places.acquire_many(all)).await;
}

async fn connection(
    socket: TcpStream,
    peer: SocketAddr,
    router: Router,
    mut stopped: watch::Receiver<()>,
) {
    let _ = socket.set_nodelay(true);
    let service = router.layer(axum::Extension(Peer(peer)));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(service));
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        _ = stopped.changed() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an admin connection ended");
    }
}

/// The outermost layer: the request's id, the bound on requests, whose page may call, and the headers of every answer.
pub(crate) async fn edge(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let id = format!("{:032x}", fastrand::u128(..));
    request.extensions_mut().insert(RequestId(id.clone()));
    let response = match guard(&api, &request) {
        Err(problem) => problem.into_response(),
        Ok(_place) => next.run(request).await,
    };
    let mut response = problem::render(response, &id);
    let headers = response.headers_mut();
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::try_from(id) {
        headers.insert(X_REQUEST_ID, id);
    }
    response
}

fn guard(api: &Api, request: &Request) -> Result<tokio::sync::OwnedSemaphorePermit, Problem> {
    origin::check(&api.origins(), request.headers(), request.uri())?;
    api.place().ok_or_else(|| {
        Problem::new(Kind::TooManyRequests, format!("{REQUESTS_MAX} requests are under way"))
    })
}
