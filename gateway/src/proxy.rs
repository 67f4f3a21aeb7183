//! The request path of an inference request, top to bottom.

use std::sync::Arc;

use adapters::Peek;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use router::Operation;
use router::plan::RoutePlan;
use router::spec::{KeyLimits, KeySpec};

use crate::body::ClientBody;
use crate::cache::{self, Consulted};
use crate::call::{Call, owned};
use crate::connection::Core;
use crate::dispatch::{self, Lost, Origin, Won, WonBody};
use crate::error::{ErrorKind, Rejection};
use crate::limits::{self, Admission, Limits};
use crate::plane::{Link, World};
use crate::report::{Cached, Report};
use crate::request;
use crate::route::Route;
use crate::shutdown::Phase;
use crate::waiting::{Search, Waiting};

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

    let route = Route::of(world, asked, &head.headers, &body.bytes, &peek)?;
    let plan = route.plan(world, &peek.model)?;
    report.asked(plan.model());
    admit(core, report, world, asked, &peek, &body.bytes).await?;
    let stream = peek.stream;
    let counted = report.admission.as_ref().is_some_and(Admission::counts_tokens);
    let adds_usage = counted && stream && peek.include_usage != Some(true);
    let call = Arc::new(Call {
        core: Arc::clone(core),
        world: Arc::clone(world),
        operation: asked.operation,
        route,
        body,
        peek,
        adds_usage,
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

/// Charges the request to its key, once for all attempts; the report's end settles it.
async fn admit(
    core: &Core,
    report: &mut Report,
    world: &World,
    asked: &Asked,
    peek: &Peek<'_>,
    body: &[u8],
) -> Result<(), Rejection> {
    let Some(key) = asked.key.as_deref().filter(|key| key.limits != KeyLimits::default()) else {
        return Ok(());
    };
    let estimate = limits::estimate(asked.operation, peek, body);
    let refunds_hits = world.spec().auth.refund_cache_hits;
    match Limits::admit(&core.plane, key, estimate, refunds_hits).await {
        Ok(admission) => {
            let standing = admission.as_ref().map(|admission| admission.standing.clone());
            report.standing = standing.unwrap_or_default();
            report.admission = admission;
            Ok(())
        }
        Err(refused) => {
            report.standing = refused.standing;
            Err(refused.rejection)
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
