//! The ops listener: liveness, readiness and metrics, on a thread of its own so that traffic cannot starve them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use router::health::{HealthState, ProbeResult};
use router::snapshot::Member;
use router::spec::ProbeMode;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::plane::{Link, Plane};
use crate::shutdown::Phase;
use crate::stopper::Stopper;

/// Most ops connections at once.
const CONNECTIONS_MAX: usize = 64;
/// Longest wait for a request on an ops connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest life of an ops connection; scrapers connect anew.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two times that the samples of histograms are summed up.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Serves until stopped.
///
/// # Errors
/// When its thread or runtime cannot be made.
pub(crate) fn start(
    listener: std::net::TcpListener,
    plane: Arc<Plane>,
    stop: &Stopper,
) -> io::Result<()> {
    let mut stopped = stop.listener();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("ops".to_owned()).spawn(move || {
        runtime.block_on(async move {
            match TcpListener::from_std(listener) {
                Ok(listener) => tokio::select! {
                    () = accept(listener, Arc::clone(&plane)) => {}
                    () = upkeep(&plane) => {}
                    () = stopped.stopped() => {}
                },
                Err(error) => tracing::error!(%error, "the ops listener failed"),
            }
        });
    })?;
    Ok(())
}

/// Keeps the metrics small also where nobody reads them: histograms hold every sample until they are summed up.
async fn upkeep(plane: &Plane) {
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        ticks.tick().await;
        plane.counters.upkeep();
    }
}

async fn accept(listener: TcpListener, plane: Arc<Plane>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let plane = Arc::clone(&plane);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let response = answer(&plane, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(socket), service);
            // Scrapers that do not read must not keep the probes out.
            if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_TIMEOUT, served).await {
                tracing::debug!(%error, "ops connection ended");
            }
            drop(place);
        });
    }
}

fn answer(plane: &Plane, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" => ready(plane),
        "/metrics" => metrics(plane),
        _ => text(StatusCode::NOT_FOUND, "known: /livez, /readyz, /metrics\n"),
    }
}

/// Ready as soon as a configuration is serving, also with nothing but dead backends: restarting would not help.
fn ready(plane: &Plane) -> Response<Full<Bytes>> {
    if plane.shutdown.phase() > Phase::Running {
        return text(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
    }
    let world = plane.world.load();
    let now = tokio::time::Instant::now().into_std();
    // Who was not heard of yet, or refuses our credentials, may get work, but serves nobody that we know of.
    let serves = |member: &&Member<Arc<Link>>| {
        let status = member.live.status(now);
        let probed = status.last_probe.map(|(_, result)| result);
        let heard_of = status.state != HealthState::Unknown || member.spec.probe == ProbeMode::Off;
        let refuses = status.unauthorized || probed == Some(ProbeResult::Unauthorized);
        member.is_up(now) && heard_of && !refuses
    };
    let up = world.backends().iter().filter(serves).count();
    let all = world.backends().len();
    if up == 0 {
        return text(StatusCode::OK, format!("degraded: 0 of {all} backends up\n"));
    }
    text(StatusCode::OK, format!("ok: {up} of {all} backends up\n"))
}

fn metrics(plane: &Plane) -> Response<Full<Bytes>> {
    let world = plane.world.load();
    let now = tokio::time::Instant::now().into_std();
    for member in world.backends() {
        let live = &member.live;
        let breaker = live.status(now).breaker;
        live.attachment.counters.show(live.in_flight(), member.is_up(now), breaker);
    }
    plane.lines.show();
    let body = plane.counters.render(plane.connections(), plane.buffered_bytes(), world.version());
    let mut response = text(StatusCode::OK, body);
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
