//! The request path of an inference request, top to bottom.

use std::sync::Arc;

use adapters::Peek;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use router::Operation;
use router::plan::{PlanError, Query, RoutePlan, plan};
use router::spec::KeySpec;

use crate::auth;
use crate::body::ClientBody;
use crate::cache::{self, Consulted};
use crate::call::{Call, owned};
use crate::connection::Core;
use crate::dispatch::{self, Lost, Origin, Won, WonBody};
use crate::error::{ErrorKind, Rejection};
use crate::plane::{Link, World};
use crate::report::{Cached, Report};
use crate::request;
use crate::shutdown::Phase;
use crate::waiting::{Search, Waiting};

const X_FOREBAY_REGION: &str = "x-forebay-region";
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What is asked for, and by whom.
pub(crate) struct Asked {
    pub(crate) operation: Operation,
    /// The caller's key.
    pub(crate) key: Option<Arc<KeySpec>>,
}

/// Serves one inference request.
pub(crate) async fn serve(
    core: &Arc<Core>,
    report: &mut Report,
    world: &Arc<World>,
    asked: &Asked,
    request: Request<Incoming>,
) -> Result<Response<ClientBody>, Rejection> {
    let service = world.service();
    let (head, body) = request.into_parts();
    request::check_head(&head.headers)?;
    let body = Arc::new(request::read(&core.plane, service, body).await?);
    report.body_read = true;
    let mut peek = request::peeked(&body, service.json_depth, |_, peek| owned(peek)).await?;
    // A member of that name means nothing to the others, and their answers are no streams.
    peek.stream &= matches!(asked.operation, Operation::ChatCompletions | Operation::Completions);
    report.stream = peek.stream;

    let plan = route(world, asked, &head.headers, &body.bytes, &peek)?;
    report.asked(plan.model());
    let stream = peek.stream;
    let call = Arc::new(Call {
        core: Arc::clone(core),
        world: Arc::clone(world),
        operation: asked.operation,
        body,
        peek,
        headers: crate::headers::forwarded(&head.headers, &service.forward_headers),
        query: head.uri.query().map(str::to_owned),
        id: report.id.clone(),
        begun: report.begun(),
    });
    let consulted = cache::consult(&call, plan, asked.key.as_deref(), &head.headers, report)?;
    let mut search: Search = match consulted {
        Consulted::Past(plan) => Box::pin(search(call, plan)),
        Consulted::Hit(won) => return Ok(answer(world, report, won)),
        Consulted::Search(search) => search,
    };
    let found = tokio::select! {
        found = &mut search => found,
        () = tokio::time::sleep(service.head_hold), if stream => {
            let waiting = Waiting::new(search, service.keep_alive);
            let mut response = stream_head(Response::new(ClientBody::waiting(waiting)));
            crate::headers::cached(world, report, response.headers_mut());
            return Ok(response);
        }
    };
    match found {
        Ok(won) => Ok(answer(world, report, won)),
        Err(Lost { rejection, origin }) => {
            report.came_from(&origin);
            Err(rejection)
        }
    }
}

/// Looks for an answer as long as the process does: the end of the drain is told in either form, with the head out or not.
pub(crate) async fn search(call: Arc<Call>, plan: RoutePlan<Arc<Link>>) -> Result<Won, Lost> {
    let core = Arc::clone(&call.core);
    let model = Arc::clone(plan.model());
    tokio::select! {
        found = dispatch::run(call, plan) => found,
        () = aborted(&core) => {
            let rejection = Rejection::new(ErrorKind::ShuttingDown, "the gateway is stopping");
            let origin = Origin { model: Some(model.name.to_string()), ..Origin::default() };
            Err(Lost { rejection, origin })
        }
    }
}

async fn aborted(core: &Core) {
    loop {
        let changed = core.plane.shutdown.changed(core.index);
        if core.plane.shutdown.phase() == Phase::Aborting {
            return;
        }
        changed.await;
    }
}

fn route(
    world: &Arc<World>,
    asked: &Asked,
    headers: &HeaderMap,
    body: &Bytes,
    peek: &Peek<'_>,
) -> Result<RoutePlan<Arc<Link>>, Rejection> {
    let key = asked.key.as_deref();
    auth::permit_model(key, &peek.model)?;
    let region = match headers.get(X_FOREBAY_REGION) {
        None => None,
        Some(value) => Some(value.to_str().map_err(|_| {
            Rejection::new(ErrorKind::UnknownRegion, "x-forebay-region is not a region's name")
        })?),
    };
    let query = Query {
        model: &peek.model,
        operation: asked.operation,
        region,
        key_region: key.and_then(|key| key.region.as_ref()),
        key_regions: key.map(|key| key.regions.as_slice()).filter(|regions| !regions.is_empty()),
        affinity: crate::affinity::of(world, key.map(|key| &key.tenant), headers, body, peek),
        repeatable: true,
    };
    plan(world, &query, &mut ()).map_err(|error| refused(&error, &peek.model))
}

/// A plan that cannot be made, in the client's terms.
pub(crate) fn refused(error: &PlanError, model: &str) -> Rejection {
    match error {
        PlanError::UnknownModel => {
            let message =
                format!("the model {model:?} does not exist; GET /v1/models lists those that do");
            Rejection::new(ErrorKind::ModelNotFound, message).param(Some("model"))
        }
        PlanError::UnknownRegion { known } => {
            let known: Vec<_> = known.iter().map(ToString::to_string).collect();
            let message = format!("unknown region; known: {}", known.join(", "));
            Rejection::new(ErrorKind::UnknownRegion, message)
        }
        PlanError::RegionUnavailable { .. } => Rejection::new(
            ErrorKind::RegionUnavailable,
            format!("{model:?} may not be served in the regions that are left"),
        ),
        PlanError::NotServed | PlanError::NoAnswer => Rejection::new(
            ErrorKind::OperationNotServed,
            format!("no backend serves {model:?} at the moment"),
        )
        .retry_after(Some(std::time::Duration::from_secs(5))),
    }
}

fn answer(world: &World, report: &mut Report, won: Won) -> Response<ClientBody> {
    let Won { origin, mut head, body } = won;
    report.came_from(&origin);
    report.committed();
    if matches!(body, WonBody::Replay(..)) {
        report.cached = Some(Cached::Hit);
    }
    // Version and reason phrase are that connection's: an HTTP/1.0 answer would end ours by closing, cut or not.
    head.version = Version::HTTP_11;
    head.extensions.clear();
    crate::headers::clean_response(&mut head.headers);
    crate::headers::origin(world, report, &mut head.headers);
    match body {
        WonBody::Whole(bytes, usage) => {
            report.usage = usage;
            Response::from_parts(head, ClientBody::full(bytes))
        }
        WonBody::Replay(bytes, usage) => {
            report.usage = usage;
            Response::from_parts(head, ClientBody::full(bytes))
        }
        WonBody::Rest(relay) => Response::from_parts(head, ClientBody::relay(relay)),
        WonBody::Stream(relay) => unbuffered(Response::from_parts(head, ClientBody::relay(relay))),
        WonBody::Shared(reading) => {
            let stream = reading.is_stream();
            let response = Response::from_parts(head, ClientBody::shared(reading));
            if stream { unbuffered(response) } else { response }
        }
    }
}

/// Nothing on the way may hold events back.
fn unbuffered(mut response: Response<ClientBody>) -> Response<ClientBody> {
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(NO_CACHE);
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

fn stream_head(mut response: Response<ClientBody>) -> Response<ClientBody> {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, EVENT_STREAM);
    headers.insert(CACHE_CONTROL, NO_CACHE);
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}
