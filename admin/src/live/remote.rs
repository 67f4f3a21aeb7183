//! A data plane of another process, through its socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use router::explain::Explanation;
use router::plan::{PlanError, Query};
use router::planes::{
    BackendView, Event, Feed, Inspect, Operate, OperateError, ProcessView, PurgeScope, QueueView,
    Totals,
};
use router::spec::Catalog;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::explanation::Told;
use super::folder::Folder;
use super::words::{After, Asked, Discovered, Order, State};

/// Longest time for one question and its answer.
const DEADLINE: Duration = Duration::from_secs(2);
/// Largest answer, in bytes.
const ANSWER_MAX: u64 = 64 << 20;
/// Largest head of an answer, in bytes.
const HEAD_MAX: usize = 16 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Its process is gone, or closed its socket.
    #[error("its process is gone")]
    Gone,
    /// No whole answer in time.
    #[error("no answer within {DEADLINE:?}")]
    Timeout,
    /// The token of the store's folder is not its own.
    #[error("it refuses the token beside the store")]
    Refused,
    /// It is another build.
    #[error("it answers what this build does not understand; run the same version of both")]
    Foreign,
    /// Anything else.
    #[error("{0}")]
    Io(io::Error),
}

impl From<io::Error> for RemoteError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Self::Gone,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::Timeout,
            _ => Self::Io(error),
        }
    }
}

/// A data plane of another process. What is read from it is what it said at the last [`Self::refresh`].
#[derive(Debug)]
pub struct Remote {
    folder: Folder,
    name: String,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    state: State,
    /// Of this version.
    catalog: Option<(u64, Arc<Catalog>)>,
}

impl Remote {
    pub(super) fn new(folder: Folder, name: String) -> Self {
        Self { folder, name, known: Mutex::default() }
    }

    /// Asks for everything anew.
    ///
    /// # Errors
    /// When it does not answer; nothing is known of it then.
    pub fn refresh(&self) -> Result<(), RemoteError> {
        let refreshed = self.look();
        if refreshed.is_err() {
            *self.lock() = Known::default();
        }
        refreshed
    }

    fn look(&self) -> Result<(), RemoteError> {
        let state: State = self.ask::<(), _>("/live/state", None)?;
        let version = state.version;
        let before = self.lock().catalog.take().filter(|(known, _)| *known == version);
        let catalog = match before {
            Some(kept) => kept,
            None => {
                let found: Discovered = self.ask::<(), _>("/live/catalog", None)?;
                (version, Arc::new(found.into()))
            }
        };
        *self.lock() = Known { state, catalog: Some(catalog) };
        Ok(())
    }

    fn order(&self, order: &Order) -> Result<u64, OperateError> {
        let done: Result<Result<u64, OperateError>, RemoteError> =
            self.ask("/live/operate", Some(order));
        done.unwrap_or_else(|error| Err(OperateError::Unreachable(error.to_string())))
    }

    /// One question: `GET`, or `POST` where there is something to say.
    fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        path: &str,
        question: Option<&Q>,
    ) -> Result<A, RemoteError> {
        let until = Instant::now() + DEADLINE;
        let token = self.folder.token()?;
        let body = match question {
            Some(question) => serde_json::to_vec(question).map_err(|_| RemoteError::Foreign)?,
            None => Vec::new(),
        };
        let method = if question.is_some() { "POST" } else { "GET" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: plane\r\nauthorization: Bearer {}\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            *token,
            body.len()
        );
        let mut socket = self.folder.connect(&self.name)?;
        socket.set_write_timeout(Some(DEADLINE))?;
        socket.write_all(head.as_bytes())?;
        socket.write_all(&body)?;
        let answer = read(socket, until)?;
        serde_json::from_slice(whole(&answer)?).map_err(|_| RemoteError::Foreign)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything up to the end of the connection.
fn read(mut socket: UnixStream, until: Instant) -> Result<Vec<u8>, RemoteError> {
    let mut answer = Vec::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(RemoteError::Timeout);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.read(&mut piece)? {
            0 => return Ok(answer),
            n => answer.extend_from_slice(&piece[..n]),
        }
        if answer.len() as u64 > ANSWER_MAX {
            return Err(RemoteError::Foreign);
        }
    }
}

/// The body of an answer of [`super::Socket`], which always says its length.
fn whole(answer: &[u8]) -> Result<&[u8], RemoteError> {
    let head = &answer[..answer.len().min(HEAD_MAX)];
    let end = head.windows(4).position(|four| four == b"\r\n\r\n").ok_or(RemoteError::Gone)?;
    let body = &answer[end + 4..];
    let head = std::str::from_utf8(&head[..end]).map_err(|_| RemoteError::Foreign)?;
    let mut lines = head.split("\r\n");
    match lines.next().and_then(|line| line.split(' ').nth(1)) {
        Some("200") => {}
        Some("401") => return Err(RemoteError::Refused),
        _ => return Err(RemoteError::Foreign),
    }
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    if length == Some(body.len()) { Ok(body) } else { Err(RemoteError::Gone) }
}

impl Inspect for Remote {
    fn version(&self) -> u64 {
        self.lock().state.version
    }

    fn process(&self) -> ProcessView {
        self.lock().state.process.clone()
    }

    fn backends(&self) -> Vec<BackendView> {
        self.lock().state.backends.clone()
    }

    fn catalog(&self) -> Catalog {
        let catalog = self.lock().catalog.clone();
        catalog.map(|(_, catalog)| Catalog::clone(&catalog)).unwrap_or_default()
    }

    fn explain(&self, query: &Query<'_>) -> Result<Explanation, PlanError> {
        let told: Result<Result<Told, PlanError>, RemoteError> =
            self.ask("/live/explain", Some(&Asked::from(query)));
        let told = told.map_err(|error| {
            tracing::debug!(plane = self.name, %error, "no explanation");
            PlanError::NoAnswer
        })?;
        told.map(|told| told.into_explanation(Instant::now()))
    }

    fn totals(&self) -> Totals {
        self.lock().state.totals.clone()
    }

    fn queues(&self) -> Vec<QueueView> {
        self.lock().state.queues.clone()
    }
}

impl Operate for Remote {
    fn probe_now(&self, backend: Option<&str>) -> Result<(), OperateError> {
        self.order(&Order::Probe(backend.map(ToOwned::to_owned))).map(drop)
    }

    fn drain(&self, backend: &str) -> Result<(), OperateError> {
        self.order(&Order::Drain(backend.to_owned())).map(drop)
    }

    fn resume(&self, backend: &str) -> Result<(), OperateError> {
        self.order(&Order::Resume(backend.to_owned())).map(drop)
    }

    fn purge(&self, scope: &PurgeScope) -> Result<u64, OperateError> {
        self.order(&Order::Purge(scope.clone()))
    }
}

impl Feed for Remote {
    fn events(&self, after: u64, most: usize) -> Vec<Event> {
        let events = self.ask("/live/events", Some(&After { number: after, most }));
        events.unwrap_or_else(|error| {
            tracing::debug!(plane = self.name, %error, "no events");
            Vec::new()
        })
    }
}
