//! One try at one backend: connect, send, judge, and wait for what commits the answer. Chooses nothing.

use std::sync::Arc;
use std::time::Duration;

use adapters::sse::Scanner;
use adapters::{ErrorEvent, StreamDialect, classify_event};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use router::Operation;
use router::outcome::{FailureKind, Stage};
use router::spec::{Kind, ServiceSpec};
use tokio::time::{Instant, timeout_at};

use crate::body::Pieces;
use crate::call::Call;
use crate::failed::Failed;
use crate::plane::Link;
use crate::unasked;
use crate::upstream::Lease;

/// A plain answer is committed when it is complete, or at this many bytes.
pub(crate) const COMMIT_AT: usize = 256 << 10;
/// Most that is held of a stream before its first content event, bytes; beyond it, it must be content.
const PRELUDE_MAX: usize = 256 << 10;

/// How long the text of an error answer is waited for.
const ERROR_TEXT_WAIT: Duration = Duration::from_secs(2);

/// What an attempt needs to know of its candidate.
pub(crate) struct Aim {
    pub(crate) link: Arc<Link>,
    pub(crate) kind: Kind,
    pub(crate) backend: String,
    pub(crate) upstream_model: String,
    pub(crate) api_key: Option<router::spec::Secret>,
    pub(crate) number: u32,
    pub(crate) connect: Duration,
    /// When the answer has to be committed.
    pub(crate) deadline: Instant,
    /// What it means when it is not.
    pub(crate) late: FailureKind,
}

/// An answer that may be shown to the client.
pub(crate) struct Answer {
    pub(crate) head: Parts,
    pub(crate) content: Content,
}

/// How an answer's body stands at the commit.
pub(crate) enum Content {
    /// Complete; `judged` bodies have been looked at.
    Whole(Bytes, Option<adapters::Usage>),
    /// Its start, and the rest to come.
    Open(Box<Flow>),
}

/// The rest of an answer, still on its connection.
pub(crate) struct Flow {
    pub(crate) prelude: Vec<Bytes>,
    /// Present for event streams: has seen the prelude.
    pub(crate) scanner: Option<Scanner>,
    pub(crate) body: Incoming,
    pub(crate) lease: Lease,
    /// Neither a length nor chunks: its end proves nothing.
    pub(crate) unframed: bool,
    /// Offset in the last piece of the prelude after its last complete event.
    pub(crate) boundary: Option<usize>,
    /// Events in the prelude that are progress.
    pub(crate) events: u64,
}

/// Runs the attempt to its commit.
pub(crate) async fn run(call: &Call, aim: &Aim) -> Result<Answer, Failed> {
    let (lease, response) = send(call, aim).await?;
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        return Err(refused(call, aim, head, body, lease).await);
    }
    let encoded = is_encoded(&head.headers);
    let framed =
        head.headers.contains_key(CONTENT_LENGTH) || head.headers.contains_key(TRANSFER_ENCODING);
    // What is encoded shows no brackets that could be counted.
    let unframed = !framed && !encoded;
    let mut flow = Flow {
        prelude: Vec::new(),
        scanner: None,
        body,
        lease,
        unframed,
        boundary: None,
        events: 0,
    };
    if encoded {
        call.core.plane.counters.encoded.increment(1);
        return Ok(Answer { head, content: Content::Open(Box::new(flow)) });
    }
    if is_event_stream(&head.headers) {
        flow.scanner = Some(Scanner::new(dialect(call.operation), call.peek.choices()));
        let flow = first_content(call, aim, flow).await?;
        return Ok(Answer { head, content: Content::Open(Box::new(flow)) });
    }
    let content = plain(call, aim, flow).await?;
    Ok(Answer { head, content })
}

const fn dialect(operation: Operation) -> StreamDialect {
    match operation {
        Operation::Completions => StreamDialect::Completions,
        Operation::ChatCompletions
        | Operation::Embeddings
        | Operation::ListModels
        | Operation::GetModel => StreamDialect::Chat,
    }
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).is_some_and(|value| value != "identity")
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/event-stream")
}

fn request(call: &Call, aim: &Aim) -> Result<Request<Box<Pieces>>, Failed> {
    let encoded = adapters::encode(
        aim.kind,
        &call.body.bytes,
        &call.peek,
        &aim.upstream_model,
        adapters::Rewrite {
            map_max_completion_tokens: call.service().map_max_completion_tokens,
            include_usage: call.adds_usage,
        },
    );
    let body = Pieces::new(encoded.iter().cloned().collect());
    let uri = aim
        .link
        .uri(call.operation, call.query.as_deref())
        .ok_or_else(|| Failed::upstream(aim, FailureKind::BadResponse, Stage::SendBody))?;
    let mut request = Request::new(Box::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    *request.headers_mut() = call.headers.clone();
    crate::headers::address(
        request.headers_mut(),
        &aim.link.host,
        aim.api_key.as_ref().map(router::spec::Secret::expose),
        call.id.upstream(aim.number),
    );
    Ok(request)
}

/// Sends the request, once more on a fresh connection if a reused one died unanswered.
async fn send(call: &Call, aim: &Aim) -> Result<(Lease, Response<Incoming>), Failed> {
    let core = call.core.index;
    let idle = call.service().upstream_idle;
    let mut lease = Lease::take(&aim.link, core, idle, aim.connect)
        .await
        .map_err(|error| Failed::dial(aim, &error))?;
    loop {
        let request = request(call, aim)?;
        let length = request.body().len();
        let error = match timeout_at(aim.deadline, lease.send(request)).await {
            Err(_) => return Err(Failed::upstream(aim, aim.late, Stage::AwaitHead)),
            Ok(Ok(response)) => return Ok((lease, response)),
            Ok(Err(error)) => error,
        };
        let written = lease.written() >= length;
        if lease.reused && lease.unanswered() {
            call.core.plane.counters.reused_died.increment(1);
            // Refused now, it was no stale connection: the backend took the request and died.
            lease = Lease::fresh(&aim.link, core, aim.connect)
                .await
                .map_err(|error| Failed { death: written, ..Failed::dial(aim, &error) })?;
            continue;
        }
        let stage = if written { Stage::AwaitHead } else { Stage::SendBody };
        let kind =
            if error.is_parse() { FailureKind::BadResponse } else { FailureKind::ConnectionLost };
        return Err(Failed::upstream(aim, kind, stage));
    }
}

/// Reads what an error answer says, within bounds, and what it means. The status alone decides most of it: a text that
/// does not come to its end keeps nobody waiting.
async fn refused(call: &Call, aim: &Aim, head: Parts, mut body: Incoming, lease: Lease) -> Failed {
    let mut text = BytesMut::new();
    let read = async {
        loop {
            let frame = match body.frame().await {
                None => return true,
                Some(Err(_)) => return false,
                Some(Ok(frame)) => frame,
            };
            let Ok(data) = frame.into_data() else { continue };
            let room = (adapters::error::BODY_MAX_BYTES + 1).saturating_sub(text.len());
            text.extend_from_slice(&data[..data.len().min(room)]);
            if text.len() > adapters::error::BODY_MAX_BYTES {
                return false;
            }
        }
    };
    let until = aim.deadline.min(Instant::now() + ERROR_TEXT_WAIT);
    if let Ok(true) = timeout_at(until, read).await {
        lease.park();
    }
    let verdict = adapters::classify(aim.kind, call.operation, head.status.as_u16(), &text);
    Failed::answer(aim, verdict, &head, &text.freeze(), call.service().retry_after_max)
}

/// Waits for the first content event; everything before it is held, so that a server that dies in prefill costs nothing.
async fn first_content(call: &Call, aim: &Aim, mut flow: Flow) -> Result<Flow, Failed> {
    let mut held = 0;
    loop {
        let frame = match timeout_at(aim.deadline, flow.body.frame()).await {
            Err(_) => return Err(Failed::upstream(aim, aim.late, Stage::FirstEvent)),
            Ok(None) => return ended_early(aim, flow),
            Ok(Some(Err(_))) => {
                return Err(Failed::upstream(aim, FailureKind::ConnectionLost, Stage::FirstEvent));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        let Some(scanner) = flow.scanner.as_mut() else { return Ok(flow) };
        let scan = scanner.push(&data);
        if let Some(event) = scan.error.filter(|_| !scan.first_content) {
            let verdict = classify_event(aim.kind, call.operation, &event);
            return Err(Failed::event(aim, verdict, &event));
        }
        if scanner.aborted() && !scan.first_content {
            return Err(Failed::upstream(aim, FailureKind::Unfinished, Stage::FirstEvent));
        }
        held += data.len();
        flow.events += u64::from(scan.events);
        flow.boundary = scan.boundary;
        // One that began in an earlier piece stays: a usage too many is better than half an event.
        let unasked = scan.usage_only.filter(|event| call.adds_usage && event.start.is_some());
        flow.prelude.extend(unasked::without(data, unasked, &mut flow.boundary));
        if scan.first_content || scan.done || held > PRELUDE_MAX {
            return Ok(flow);
        }
    }
}

/// The stream's body ended before any content: fine only if it says that it is complete.
fn ended_early(aim: &Aim, mut flow: Flow) -> Result<Flow, Failed> {
    use adapters::StreamEnd;
    let end = flow.scanner.as_mut().map_or(StreamEnd::Unfinished, Scanner::finish);
    match end {
        StreamEnd::Complete => Ok(flow),
        StreamEnd::Unfinished | StreamEnd::Failed | StreamEnd::Aborted => {
            Err(Failed::upstream(aim, FailureKind::Unfinished, Stage::FirstEvent))
        }
    }
}

/// Reads a plain answer to its end or to the commit size.
async fn plain(call: &Call, aim: &Aim, mut flow: Flow) -> Result<Content, Failed> {
    let mut held = 0;
    loop {
        match timeout_at(aim.deadline, flow.body.frame()).await {
            Err(_) => return Err(Failed::upstream(aim, aim.late, Stage::FirstEvent)),
            Ok(None) => break,
            Ok(Some(Err(_))) => {
                return Err(Failed::upstream(aim, FailureKind::ConnectionLost, Stage::FirstEvent));
            }
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    held += data.len();
                    flow.prelude.push(data);
                }
            }
        }
        if held > COMMIT_AT {
            return Ok(Content::Open(Box::new(flow)));
        }
    }
    flow.lease.park();
    let bytes = join(flow.prelude, held);
    let usage = match call.operation {
        Operation::ChatCompletions | Operation::Completions => {
            let answer = adapters::inspect(&bytes);
            if !answer.complete {
                return Err(Failed::upstream(aim, FailureKind::BadResponse, Stage::FirstEvent));
            }
            // A failure under a good status, as some proxies put it: judged like one that comes as an event.
            if answer.error {
                let event = ErrorEvent::read(&bytes);
                let verdict = classify_event(aim.kind, call.operation, &event);
                return Err(Failed::event(aim, verdict, &event));
            }
            if answer.aborted {
                return Err(Failed::upstream(aim, FailureKind::Unfinished, Stage::FirstEvent));
            }
            answer.usage
        }
        // Vectors are large and not looked into; a cut one shows at its end.
        Operation::Embeddings | Operation::ListModels | Operation::GetModel => {
            if !looks_whole(&bytes) {
                return Err(Failed::upstream(aim, FailureKind::BadResponse, Stage::FirstEvent));
            }
            adapters::Usage::at_end(&bytes)
        }
    };
    Ok(Content::Whole(bytes, usage))
}

/// Begins and ends like a JSON object or array.
pub(crate) fn looks_whole(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii();
    matches!((text.first(), text.last()), (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']')))
}

fn join(mut pieces: Vec<Bytes>, len: usize) -> Bytes {
    if pieces.len() == 1 {
        return pieces.pop().unwrap_or_default();
    }
    let mut whole = BytesMut::with_capacity(len);
    for piece in pieces {
        whole.extend_from_slice(&piece);
    }
    whole.freeze()
}

/// The bounds that apply to every request of this snapshot.
impl Call {
    pub(crate) fn service(&self) -> &ServiceSpec {
        self.world.service()
    }
}
