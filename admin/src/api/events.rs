//! `/admin/events`: what happened, as pages of a history and as a live stream.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::Instant;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::{IntoParams, ToSchema};

use crate::api::caller::caller_of;
use crate::api::extract::Query;
use crate::api::moment;
use crate::api::operation::Operation;
use crate::api::page::{self, Page};
use crate::api::problem::{Kind, Problem};
use crate::api::route::Route;
use crate::api::state::Api;
use crate::role::Role;
use crate::store::{EventFilter, StoreError, StoredEvent};

/// Most live listeners; further ones are told to come later.
pub(crate) const LISTENERS_MAX: usize = 32;
/// Most pieces that wait for one listener.
const WAITING_MAX: usize = 64;
/// A listener that takes nothing for so long is cut.
const SLOW: Duration = Duration::from_secs(10);
/// Between two comments on a stream on which nothing happens.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Between two looks at whether a listener's token is still good.
const TOKEN_CHECK: Duration = Duration::from_millis(500);
/// Most events that are read at once.
const AT_ONCE: usize = 100;
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Something that happened.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Event {
    /// Counts up.
    id: u64,
    /// When.
    #[schema(format = DateTime, example = "2026-03-01T09:30:00.000Z")]
    at: String,
    /// What kind of thing.
    #[schema(example = "health")]
    kind: String,
    /// Whom it happened to.
    #[schema(example = "eu-vllm-1")]
    subject: String,
    /// More of it.
    detail: Value,
}

impl From<StoredEvent> for Event {
    fn from(event: StoredEvent) -> Self {
        Self {
            id: event.id,
            at: moment::show(event.at),
            kind: event.kind,
            subject: event.subject,
            detail: event.detail,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// Only of this kind: `health`, `breaker`, `published`, `refused`, `discovered`, and those of the registry.
    #[param(example = "health")]
    kind: Option<String>,
    /// Only about this one.
    #[param(example = "eu-vllm-1")]
    subject: Option<String>,
    /// Most entries of the page.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

pub(crate) fn routes() -> Vec<Route> {
    let example = json!({
        "id": 42,
        "at": "2026-03-01T09:30:00.000Z",
        "kind": "health",
        "subject": "eu-vllm-1",
        "detail": {"from": "online", "to": "offline", "plane": "pid-4711"},
    });
    vec![Route::get(
        "/admin/events",
        Role::Viewer,
        Operation::new("listEvents", "history", "What happened, newest first, or live")
            .about(
                "A page of the history. With `Accept: text/event-stream` a stream of what happens from now on, each event \
                 with its id, so that `Last-Event-ID` goes on where a listener stopped; an event `gap` says that some of what \
                 it missed is no longer kept. A comment comes every 15 s. At most 32 listeners; one that does not read is cut.",
            )
            .query::<Which>()
            .gives::<Page<Event>>(
                200,
                "A page of events, or the stream.",
                json!({"data": [example], "next_cursor": null}),
            )
            .gives_as(
                200,
                "text/event-stream",
                "A page of events, or the stream.",
                json!({"type": "string"}),
                json!("id: 42\nevent: health\ndata: {}\n\n"),
            ),
        events,
    )]
}

async fn events(
    State(api): State<Api>,
    headers: HeaderMap,
    Query(which): Query<Which>,
) -> Result<Response, Problem> {
    let filter = EventFilter { kind: which.kind.clone(), subject: which.subject.clone() };
    if wants_stream(&headers) {
        return stream(api, headers, filter).await;
    }
    let limit = page::limit(which.limit)?;
    let before = page::number_of(which.cursor.as_deref())?;
    let read = move |tx: &crate::store::Tx| tx.events_before(before, limit + 1, &filter);
    let mut found: Vec<StoredEvent> = api.store().read(read).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| more);
    let next_cursor = last.map(|event| page::cursor(&event.id.to_string()));
    let data = found.into_iter().map(Event::from).collect();
    Ok(axum::Json(Page { data, next_cursor }).into_response())
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|media| {
        let media = media.split(';').next().unwrap_or_default().trim();
        media.eq_ignore_ascii_case("text/event-stream")
    })
}

async fn stream(api: Api, headers: HeaderMap, filter: EventFilter) -> Result<Response, Problem> {
    let place = api.engines().listeners.clone().try_acquire_owned();
    let place = place.map_err(|_| {
        Problem::new(Kind::TooManyRequests, format!("{LISTENERS_MAX} listeners are here"))
    })?;
    let last_seen = headers.get(LAST_EVENT_ID).map(|value| {
        let number = value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok());
        number.ok_or_else(|| Problem::parameter("Last-Event-ID", "the id of an event"))
    });
    let last_seen = last_seen.transpose()?;
    let after = match last_seen {
        Some(after) => after,
        None => newest(&api).await?,
    };
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let pulse = api.engines().pulse();
    let listener = Listener { api, headers, filter, after, sender, _place: place };
    tokio::spawn(listener.run(pulse, last_seen.is_some()));
    let pieces = ReceiverStream::new(receiver).map(Ok::<Bytes, std::convert::Infallible>);
    let mut response = Response::new(Body::from_stream(pieces));
    let media = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(CONTENT_TYPE, media);
    Ok(response)
}

async fn newest(api: &Api) -> Result<u64, StoreError> {
    let last = api.store().read(|tx| tx.events_before(None, 1, &EventFilter::default())).await?;
    Ok(last.first().map_or(0, |event| event.id))
}

/// One listener's end of the stream.
struct Listener {
    api: Api,
    /// Its token is in here; it is looked at again as long as the stream lives.
    headers: HeaderMap,
    filter: EventFilter,
    /// The last id that was looked at.
    after: u64,
    sender: mpsc::Sender<Bytes>,
    _place: OwnedSemaphorePermit,
}

/// The listener is gone, too slow, or may not listen any more.
struct Cut;

impl Listener {
    async fn run(mut self, mut pulse: watch::Receiver<u64>, resumes: bool) {
        let mut checks = tokio::time::interval(TOKEN_CHECK);
        let mut quiet = Instant::now() + KEEP_ALIVE;
        if self.send(Bytes::from_static(b": live\n\n")).await.is_err()
            || (resumes && self.tell_gap().await.is_err())
        {
            return;
        }
        let mut ended = self.api.engines().ended();
        loop {
            match self.catch_up().await {
                Err(Cut) => return,
                Ok(true) => quiet = Instant::now() + KEEP_ALIVE,
                Ok(false) => {}
            }
            tokio::select! {
                changed = pulse.changed() => if changed.is_err() { return },
                () = self.sender.closed() => return,
                () = async { drop(ended.wait_for(|ended| *ended).await) } => return,
                () = tokio::time::sleep_until(quiet) => {
                    quiet = Instant::now() + KEEP_ALIVE;
                    if self.send(Bytes::from_static(b": \n\n")).await.is_err() {
                        return;
                    }
                }
                _ = checks.tick() => if !self.may_listen().await { return },
            }
        }
    }

    /// A token that was revoked ends the stream; a store that does not tell ends nothing.
    async fn may_listen(&self) -> bool {
        match caller_of(&self.api, &self.headers, None).await {
            Ok(_) => true,
            Err(problem) => problem.kind() != Kind::Unauthorized,
        }
    }

    /// Says so when events that the listener has not seen are no longer kept.
    async fn tell_gap(&self) -> Result<(), Cut> {
        let after = self.after;
        let next = self.api.store().read(move |tx| tx.events(after, 1, &EventFilter::default()));
        let next: Result<Vec<StoredEvent>, StoreError> = next.await;
        let Some(oldest) = next.ok().and_then(|next| next.first().map(|event| event.id)) else {
            return Ok(());
        };
        if oldest <= after.saturating_add(1) {
            return Ok(());
        }
        let data = json!({ "after": after, "oldest": oldest });
        self.send(format!("event: gap\ndata: {data}\n\n").into()).await
    }

    /// Sends what is new, and gives whether anything was. A store that cannot be read gives nothing for now.
    async fn catch_up(&mut self) -> Result<bool, Cut> {
        let mut sent = false;
        loop {
            let (after, filter) = (self.after, self.filter.clone());
            let read = self.api.store().read(move |tx| tx.events(after, AT_ONCE, &filter));
            let found: Result<Vec<StoredEvent>, StoreError> = read.await;
            let Ok(found) = found else { return Ok(sent) };
            let more = found.len() >= AT_ONCE;
            for event in found {
                self.after = event.id;
                self.send(frame(event)).await?;
                sent = true;
            }
            if !more {
                return Ok(sent);
            }
        }
    }

    async fn send(&self, piece: Bytes) -> Result<(), Cut> {
        self.sender.send_timeout(piece, SLOW).await.map_err(|_| Cut)
    }
}

/// JSON has no line ends outside of strings, and escapes those in them.
fn frame(event: StoredEvent) -> Bytes {
    let (id, kind) = (event.id, event.kind.replace(['\r', '\n'], " "));
    let data = serde_json::to_string(&Event::from(event)).unwrap_or_default();
    format!("id: {id}\nevent: {kind}\ndata: {data}\n\n").into()
}
