//! What is known of one request; finished, it becomes one log line and the request's metrics.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use adapters::Usage;
use http::StatusCode;
use router::Operation;
use router::model::Model;
use router::spec::KeySpec;
use tokio::time::Instant;

use crate::connection::Core;
use crate::dispatch::Origin;
use crate::limits::{Admission, Standing, Used};
use crate::request_id::RequestId;
use crate::request_log::{Line, timestamp};

/// How a request ended, as metrics and log say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Not over yet: dropped in this state, the client left.
    Open,
    /// The whole answer was handed to the client.
    Delivered,
    /// It ended in an error, before or after the head went out.
    Failed(&'static str),
}

/// What the cache did for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cached {
    /// It gave a stored answer.
    Hit,
    /// It had none, and the answer is stored if it can be.
    Miss,
    /// It was passed by.
    Bypass,
    /// Others wait for the same answer, which was being made already.
    Coalesced,
}

impl Cached {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
            Self::Coalesced => "coalesced",
        }
    }
}

/// One request, from head to the end of its answer.
pub(crate) struct Report {
    core: Arc<Core>,
    begun: Instant,
    pub(crate) id: RequestId,
    pub(crate) operation: Option<Operation>,
    /// A name of ours, never the client's string: bounded.
    pub(crate) model: Option<String>,
    /// The model that was asked for; `model` may be a fallback that answered.
    asked: Option<Arc<Model>>,
    pub(crate) backend: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) head: Option<String>,
    /// The caller's key, by name.
    key: Option<String>,
    pub(crate) attempts: u32,
    queued_ms: u32,
    pub(crate) stream: bool,
    /// The client's body has come to its end, or there is none.
    pub(crate) body_read: bool,
    pub(crate) status: Option<StatusCode>,
    pub(crate) usage: Option<Usage>,
    /// `None` where the model is not cached.
    pub(crate) cached: Option<Cached>,
    /// Events of a stream so far: what counts as its tokens where no usage comes.
    pub(crate) events: u64,
    /// What the caller's key has left, for headers.
    pub(crate) standing: Standing,
    /// Charged to the caller's key; settled at the end.
    pub(crate) admission: Option<Admission>,
    first_event: Option<Instant>,
    bytes: u64,
    end: End,
    warn: bool,
}

impl Report {
    pub(crate) fn begin(core: &Arc<Core>, id: RequestId) -> Box<Self> {
        Box::new(Self {
            core: Arc::clone(core),
            begun: Instant::now(),
            id,
            operation: None,
            model: None,
            asked: None,
            backend: None,
            region: None,
            head: None,
            key: None,
            attempts: 0,
            queued_ms: 0,
            stream: false,
            body_read: false,
            status: None,
            usage: None,
            cached: None,
            events: 0,
            standing: Standing::default(),
            admission: None,
            first_event: None,
            bytes: 0,
            end: End::Open,
            warn: false,
        })
    }

    pub(crate) const fn begun(&self) -> Instant {
        self.begun
    }

    /// The answer is committed: its first content event or its whole body is there.
    pub(crate) fn committed(&mut self) {
        self.first_event.get_or_insert_with(Instant::now);
    }

    /// Takes note of the model that was asked for.
    pub(crate) fn asked(&mut self, model: &Arc<Model>) {
        self.model = Some(model.name.to_string());
        self.asked = Some(Arc::clone(model));
    }

    /// Takes note of who is calling.
    pub(crate) fn caller(&mut self, key: Option<Arc<KeySpec>>) -> Option<Arc<KeySpec>> {
        self.key = key.as_ref().map(|key| key.name.to_string());
        key
    }

    /// Where the answer, or the last attempt at one, came from.
    pub(crate) fn came_from(&mut self, origin: &Origin) {
        self.backend.clone_from(&origin.backend);
        self.region.clone_from(&origin.region);
        self.head.clone_from(&origin.head);
        self.model.clone_from(&origin.model);
        self.attempts = origin.attempts;
        self.queued_ms = origin.queued_ms;
    }

    /// The request ends in this error.
    pub(crate) const fn failed(&mut self, code: &'static str, warn: bool) {
        self.end = End::Failed(code);
        self.warn = warn;
    }

    pub(crate) fn panicked(&mut self) {
        self.core.plane.counters.panics.increment(1);
        self.failed("internal_error", true);
    }

    pub(crate) const fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// The client has everything that matters; what it does next is its own affair.
    pub(crate) fn delivered(&mut self) {
        if self.end == End::Open {
            self.end = End::Delivered;
        }
    }

    /// Adds this request to the tallies of its model and, as far as tokens go, of the backend that answered.
    fn tally(&self, status: u16, elapsed: Duration, first_event: Option<Duration>) {
        let tallies = &self.core.plane.tallies;
        if let Some(asked) = &self.asked {
            let count = tallies.models.of(&asked.name);
            let clients = (400..500).contains(&status);
            let failed = matches!(self.end, End::Failed(_)) && !clients;
            count.ended(failed, elapsed, SystemTime::now());
            if let Some(after) = first_event.filter(|_| self.stream) {
                count.first_event(after);
            }
            self.usage.iter().for_each(|usage| count.used(usage));
        }
        if let (Some(usage), Some(backend)) = (&self.usage, &self.backend)
            && let Some(count) = tallies.backends.known(backend)
            // What others read too was made once.
            && self.cached != Some(Cached::Coalesced)
        {
            count.used(usage);
        }
    }

    /// A piece of a stream that nobody scans for this request: its events count where tokens are paid for.
    pub(crate) fn heard(&mut self, piece: &[u8]) {
        if self.admission.as_ref().is_some_and(Admission::counts_tokens) {
            self.events += memchr::memmem::find_iter(piece, b"data:").count() as u64;
        }
    }

    /// Pays for what was used.
    fn settle(&mut self) {
        let Some(admission) = self.admission.take() else { return };
        let hit = self.cached == Some(Cached::Hit);
        let end = match (hit, self.first_event.is_some(), self.end) {
            (true, ..) => Used::Cached,
            (false, true, _) => Used::Answer { events: self.events },
            // Whatever a backend has read by then, it has read.
            (false, false, End::Open) => Used::Prompt,
            (false, false, _) => Used::Nothing,
        };
        admission.settle(end, self.usage.as_ref());
    }

    const fn outcome(&self) -> &'static str {
        match self.end {
            End::Open => "client_left",
            End::Delivered => "ok",
            End::Failed(code) => code,
        }
    }
}

/// nginx's number for a client that left before the answer began.
const CLIENT_LEFT: u16 = 499;

impl Drop for Report {
    fn drop(&mut self) {
        self.settle();
        let elapsed = self.begun.elapsed();
        let status = self.status.map_or(CLIENT_LEFT, |status| status.as_u16());
        let first_event = self.first_event.map(|at| at.duration_since(self.begun));
        let plane = &self.core.plane;
        plane.counters.request(self.operation, status, self.outcome(), elapsed, first_event);
        self.tally(status, elapsed, first_event);
        // One question to the log's own filter, so that its level can change while running.
        let wanted = if self.warn {
            tracing::enabled!(target: "forebay::request", tracing::Level::WARN)
        } else {
            tracing::enabled!(target: "forebay::request", tracing::Level::INFO)
        };
        if !wanted {
            return;
        }
        let usage = self.usage.as_ref();
        let line = Line {
            timestamp: timestamp(),
            level: if self.warn { "WARN" } else { "INFO" },
            message: "request",
            request_id: self.id.as_str(),
            upstream_id: self.id.own(),
            operation: self.operation.map_or("none", Operation::as_str),
            model: self.model.as_deref(),
            backend: self.backend.as_deref(),
            region: self.region.as_deref(),
            head: self.head.as_deref(),
            key: self.key.as_deref(),
            cache: self.cached.map(Cached::as_str),
            attempts: self.attempts,
            stream: self.stream,
            status,
            outcome: self.outcome(),
            bytes: self.bytes,
            prompt_tokens: usage.map(|usage| usage.prompt_tokens),
            completion_tokens: usage.map(|usage| usage.completion_tokens),
            queued_ms: (self.queued_ms > 0).then_some(self.queued_ms),
            first_event_ms: first_event.map(millis),
            duration_ms: millis(elapsed),
        };
        plane.log.line(self.core.index, &line);
    }
}

/// Milliseconds with three places, so that the log shows no digits of binary fractions.
fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}
