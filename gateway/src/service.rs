//! The edge of every request: its id, the operation it asks for, defects caught, and the headers of every answer.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use adapters::{Resolved, resolve};
use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, ORIGIN, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use router::Operation;

use crate::body::ClientBody;
use crate::connection::Core;
use crate::error::{ErrorKind, Rejection};
use crate::io::ActiveRequest;
use crate::plane::World;
use crate::report::Report;
use crate::request_id::RequestId;
use crate::{auth, headers, listing, proxy, request};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// What a path that nobody serves is answered with.
const PATHS: &str = "no such path; there are POST /v1/chat/completions, /v1/completions and /v1/embeddings, \
     and GET /v1/models and /v1/models/{id}";
/// How long a browser may remember what a preflight allowed, in seconds.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// Answers one request, whatever happens.
pub(crate) async fn handle(
    core: Arc<Core>,
    active: ActiveRequest,
    request: Request<Incoming>,
) -> Response<ClientBody> {
    let counted = (active, core.request());
    // One snapshot for the whole request.
    let world = core.plane.world.load();
    let id = RequestId::new(fastrand::u128(..), request.headers().get(X_REQUEST_ID));
    let mut report = Report::begin(&core, id);
    report.body_read = request.body().is_end_stream();
    let http1 = request.version() < Version::HTTP_2;
    let head_only = request.method() == Method::HEAD;
    let origin = request.headers().get(ORIGIN).cloned();
    let served = caught(route(&core, &mut report, &world, request)).await;
    let served = served.unwrap_or_else(|_| {
        report.panicked();
        Err(Rejection::new(ErrorKind::Internal, "the gateway met a defect of its own"))
    });
    let mut response = served.unwrap_or_else(|rejection| {
        let row = rejection.kind.row();
        report.failed(row.code, row.warn);
        let mut response = rejection.response(world.service().retry_after_max);
        headers::origin(&world, &report, response.headers_mut());
        response
    });
    finish_headers(&world, &report, origin.as_ref(), response.headers_mut());
    if http1 && !report.body_read {
        // What is left of the body must not be taken for the next request.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        counted.0.leaves_body();
    }
    if head_only {
        remove_body(&mut response);
    }
    report.status = Some(response.status());
    response.body_mut().carry(report, counted);
    response
}

/// Leaves the head that a GET would have had (RFC 9110, 9.3.2); with HTTP/2, hyper would send the body.
fn remove_body(response: &mut Response<ClientBody>) {
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    *response.body_mut() = ClientBody::full(Bytes::new());
}

/// Runs to the end or to a panic.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(done)) => Poll::Ready(Ok(done)),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

async fn route(
    core: &Arc<Core>,
    report: &mut Report,
    world: &Arc<World>,
    request: Request<Incoming>,
) -> Result<Response<ClientBody>, Rejection> {
    request::check_framing(request.headers())?;
    let path = request.uri().path().to_owned();
    // Who may call is decided on what the path has resolved to, by the same reading of it.
    match resolve(request.method().as_str(), &path) {
        Resolved::Operation(Operation::ListModels) => {
            report.operation = Some(Operation::ListModels);
            let key = report.caller(auth::authenticate(world, request.headers())?);
            Ok(json(listing::all(world, key.as_deref())))
        }
        Resolved::Model(id) => {
            report.operation = Some(Operation::GetModel);
            let key = report.caller(auth::authenticate(world, request.headers())?);
            listing::one(world, key.as_deref(), &id).map(json)
        }
        Resolved::Operation(operation) => {
            report.operation = Some(operation);
            let key = report.caller(auth::authenticate(world, request.headers())?);
            let asked = proxy::Asked { operation, key };
            proxy::serve(core, report, world, &asked, request).await
        }
        Resolved::Preflight { allow } => Ok(preflight(world, request.headers(), allow)),
        Resolved::MethodNotAllowed { allow } => Err(Rejection::method(allow)),
        Resolved::NotFound => Err(Rejection::new(ErrorKind::NotFound, PATHS)),
    }
}

fn json(body: Bytes) -> Response<ClientBody> {
    let mut response = Response::new(ClientBody::full(body));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

fn preflight(world: &World, request: &HeaderMap, allow: &'static str) -> Response<ClientBody> {
    let mut response = Response::new(ClientBody::full(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(allow));
    if !world.service().cors_origins.is_empty() {
        headers.insert("access-control-allow-methods", HeaderValue::from_static(allow));
        headers.insert("access-control-max-age", PREFLIGHT_MAX_AGE);
        headers.append(VARY, HeaderValue::from_static("access-control-request-headers"));
        if let Some(asked) = request.get("access-control-request-headers") {
            headers.insert("access-control-allow-headers", asked.clone());
        }
    }
    response
}

fn finish_headers(
    world: &World,
    report: &Report,
    origin: Option<&HeaderValue>,
    headers: &mut HeaderMap,
) {
    if let Ok(id) = HeaderValue::from_str(report.id.as_str()) {
        headers.insert(X_REQUEST_ID, id);
    }
    report.standing.write(headers);
    headers::cors(headers, &world.service().cors_origins, origin);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_answer_too() {
        assert_eq!(caught(async { 7 }).await.unwrap(), 7);
        for late in [false, true] {
            let defect = async {
                if late {
                    tokio::task::yield_now().await;
                }
                panic!("a defect")
            };
            let met: Result<(), _> = caught(defect).await;
            assert!(met.is_err());
        }
    }
}
