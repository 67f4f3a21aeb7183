//! The small traits through which the planes meet: whoever edits objects publishes specs and looks at live state, and
//! knows nothing of sockets; whoever serves requests knows nothing of files and stores.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::backend::BackendStatus;
use crate::explain::Explanation;
use crate::health::HealthState;
use crate::ids::{BackendName, KeyName, ModelName, RegionName, TenantName};
use crate::query::{PlanError, Query};
use crate::snapshot::BuildError;
use crate::spec::{Catalog, Kind, SnapshotSpec};

/// Most events that a [`EventRing`] keeps.
pub const EVENTS_MAX: usize = 1024;

/// Puts a new world in place.
pub trait Publish: Send + Sync {
    /// Gives the new snapshot's version.
    ///
    /// # Errors
    /// Everything that is wrong with the spec; the current world stays.
    fn publish(&self, spec: SnapshotSpec) -> Result<u64, Vec<BuildError>>;
}

/// Looks at live state; changes nothing.
pub trait Inspect: Send + Sync {
    /// The version of the snapshot that requests see now.
    fn version(&self) -> u64;
    /// The process that it runs in. What was asked for in its snapshot cannot be had here: it holds credentials, and
    /// whoever published it has it.
    fn process(&self) -> ProcessView;
    /// Every backend that takes part, by name.
    fn backends(&self) -> Vec<BackendView>;
    /// What was discovered so far.
    fn catalog(&self) -> Catalog;
    /// What would happen to a request now.
    ///
    /// # Errors
    /// As [`crate::explain::explain`].
    fn explain(&self, query: &Query<'_>) -> Result<Explanation, PlanError>;
    /// What was counted since the plane started; everything in it only grows.
    fn totals(&self) -> Totals;
    /// Who waits for a free backend now, by model; models that nobody waits for are not here.
    fn queues(&self) -> Vec<QueueView>;
}

/// The process of a plane at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProcessView {
    /// Its number on its host.
    pub pid: u32,
    /// Which desired state requests see now: [`SnapshotSpec::revision`].
    pub revision: u64,
    /// Client connections that are open.
    pub connections: u64,
    /// Bytes of request bodies held.
    pub buffered_bytes: u64,
    /// It takes no new work and will end.
    pub stopping: bool,
    /// When the last configuration that was offered was refused, and why; `None` = it is in force.
    pub refusal: Option<(SystemTime, String)>,
}

/// Counts since the start of a plane.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// By backend, each attempt on it.
    pub backends: Vec<(BackendName, Tally)>,
    /// By the model that was asked for, each request.
    pub models: Vec<(ModelName, Tally)>,
}

/// What was counted of a backend or a model.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Requests (of a backend: attempts) that came to an end.
    pub requests: u64,
    /// Of these, those that ended in an error that was not the client's.
    pub failures: u64,
    /// Tokens read, as far as answers said.
    pub input_tokens: u64,
    /// Tokens written, as far as answers said.
    pub output_tokens: u64,
    /// Streams whose time to the first event was measured, and the sum of these times.
    pub first_events: (u64, Duration),
    /// Time from the beginning to the end of an answer, summed over all requests.
    pub busy: Duration,
    /// The end of the last one.
    pub last: Option<SystemTime>,
}

/// The requests that wait for a free backend of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueView {
    /// Which model.
    pub model: ModelName,
    /// How many.
    pub depth: u32,
    /// Most that may wait.
    pub size: u32,
    /// How long the oldest has waited.
    pub oldest: Duration,
    /// How long one that came now would wait, by the rate at which places became free; `None` = nothing became free yet.
    pub expected: Option<Duration>,
}

/// One backend, seen from outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendView {
    /// Its name.
    pub name: BackendName,
    /// What it speaks.
    pub kind: Kind,
    /// Where it stands.
    pub region: RegionName,
    /// Its health, with what its spec says.
    pub state: HealthState,
    /// Everything else.
    pub status: BackendStatus,
    /// The last active probe, as whoever asked it saw it.
    pub look: Option<Look>,
}

/// How one active probe went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// From the question to the whole answer.
    pub took: Duration,
    /// What was wrong, in words without addresses or credentials; `None` = nothing.
    pub error: Option<String>,
}

/// Acts on live state.
pub trait Operate: Send + Sync {
    /// Probes a backend and asks for its models as soon as possible; all of them for `None`.
    ///
    /// # Errors
    /// [`OperateError::UnknownBackend`].
    fn probe_now(&self, backend: Option<&str>) -> Result<(), OperateError>;
    /// No new work for a backend; running streams finish.
    ///
    /// # Errors
    /// [`OperateError::UnknownBackend`].
    fn drain(&self, backend: &str) -> Result<(), OperateError>;
    /// New work again, with a ramp.
    ///
    /// # Errors
    /// [`OperateError::UnknownBackend`].
    fn resume(&self, backend: &str) -> Result<(), OperateError>;
    /// Drops cached answers and gives their number.
    ///
    /// # Errors
    /// [`OperateError::Unsupported`] where there is no cache.
    fn purge(&self, scope: &PurgeScope) -> Result<u64, OperateError>;
}

/// Whose cached answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PurgeScope {
    /// All.
    All,
    /// A model's.
    Model(ModelName),
    /// A tenant's.
    Tenant(TenantName),
    /// A key's.
    Key(KeyName),
}

/// Why an operation was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum OperateError {
    /// There is no backend of this name.
    #[error("there is no backend {0:?}")]
    UnknownBackend(String),
    /// This plane cannot do that.
    #[error("not supported here")]
    Unsupported,
    /// The plane did not answer, so that nobody knows whether it was done.
    #[error("the data plane does not answer: {0}")]
    Unreachable(String),
}

/// What happened in a data plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Counts events from 1; a gap = events were lost.
    pub number: u64,
    /// When.
    pub at: SystemTime,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum EventKind {
    /// A snapshot is in place.
    Published {
        /// Its version.
        version: u64,
    },
    /// A backend's health changed.
    Health {
        /// Which one.
        backend: BackendName,
        /// Before.
        from: HealthState,
        /// After.
        to: HealthState,
    },
    /// A breaker changed.
    Breaker {
        /// Whose.
        backend: BackendName,
        /// How.
        transition: crate::breaker::Transition,
    },
    /// A configuration was offered and is not used.
    Refused {
        /// What was wrong with it.
        diagnostics: String,
    },
    /// A backend's models changed.
    Discovered {
        /// Where.
        backend: BackendName,
        /// How many there are now.
        models: usize,
    },
}

/// A bounded stream of events, to be pulled.
pub trait Feed: Send + Sync {
    /// At most `most` events after the number `after` (0 = from the oldest that is kept), oldest first.
    fn events(&self, after: u64, most: usize) -> Vec<Event>;
}

/// The last [`EVENTS_MAX`] events.
#[derive(Debug, Default)]
pub struct EventRing(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    last: u64,
    events: VecDeque<Event>,
}

impl EventRing {
    /// Adds an event and gives its number; the oldest goes where there is no room.
    pub fn push(&self, kind: EventKind, at: SystemTime) -> u64 {
        let mut ring = self.lock();
        ring.last += 1;
        let number = ring.last;
        if ring.events.len() >= EVENTS_MAX {
            ring.events.pop_front();
        }
        ring.events.push_back(Event { number, at, kind });
        number
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feed for EventRing {
    fn events(&self, after: u64, most: usize) -> Vec<Event> {
        let ring = self.lock();
        let newer = ring.events.iter().filter(|event| event.number > after);
        newer.take(most).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_bounded_and_readers_see_their_gap() {
        let ring = EventRing::default();
        for version in 1..=2000 {
            ring.push(EventKind::Published { version }, SystemTime::UNIX_EPOCH);
        }
        let events = ring.events(500, 10);
        assert_eq!(events.len(), 10);
        assert_eq!(events[0].number, 2000 - 1024 + 1);
        assert_eq!(ring.events(2000, 10), []);
        assert_eq!(ring.events(1998, 10).len(), 2);
    }
}
