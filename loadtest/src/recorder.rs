//! What the upstream saw and did: counters and a bounded record of requests.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// How many requests are kept; older ones are forgotten.
pub const MAX_RECORDED: usize = 1000;

/// How many bytes of heads and bodies are kept in all; older requests are forgotten beyond that.
pub const MAX_RECORDED_BYTES: usize = 256 * 1024 * 1024;

/// Counters since the start, or since [`Upstream::clear`](crate::Upstream::clear).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Connections accepted.
    pub connections_accepted: u64,
    /// Connections open now; not touched by a clear.
    pub connections_open: u64,
    /// Requests of every kind whose head was read.
    pub requests: u64,
    /// Requests for inference (chat, completions, embeddings, rerank).
    pub inference_requests: u64,
    /// Inference answers that were sent whole.
    pub finished: u64,
    /// Inference requests whose client left before the answer was complete.
    pub cancelled: u64,
    /// Inference answers that the script broke.
    pub broken: u64,
    /// Inference requests that are being read or answered; not touched by a clear.
    pub in_flight: u64,
    /// Of these, how many wait for a slot or for a load.
    pub waiting: u64,
    /// Requests that were not HTTP/1.x as this server reads it.
    pub malformed: u64,
    /// Model loads begun.
    pub loads: u64,
    /// Model loads given up because the client that caused them left.
    pub loads_aborted: u64,
    /// Events of streams sent until now.
    pub events_out: u64,
    /// Bytes given to the kernel until now, heads and framing included.
    pub bytes_out: u64,
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Number of the connection, from 1.
    pub connection: u64,
    /// Number of the request on that connection, from 1.
    pub sequence: u64,
    /// When its head was complete.
    pub at: Instant,
    /// The head, byte for byte, with the empty line at its end.
    pub raw_head: Bytes,
    /// Method.
    pub method: String,
    /// Request target as sent.
    pub target: String,
    /// Headers in order, names in their original case; bytes beyond UTF-8 are replaced (`raw_head`
    /// has them).
    pub headers: Vec<(String, String)>,
    /// The body without framing; empty while it is still being read.
    pub body: Bytes,
    /// Whether the whole body has arrived.
    pub complete: bool,
}

impl Recorded {
    /// The first header of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body as JSON; `Null` when it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// The first header of this name, in any case.
pub(crate) fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
}

#[derive(Debug, Default)]
pub(crate) struct Recorder {
    stats: Mutex<Stats>,
    ring: Mutex<Ring>,
    /// Counted at each write, so apart from the others.
    bytes_out: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Ring {
    requests: VecDeque<Recorded>,
    bytes: usize,
}

impl Recorded {
    fn size(&self) -> usize {
        self.raw_head.len() + self.body.len()
    }
}

impl Recorder {
    pub(crate) fn count(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut lock(&self.stats));
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats { bytes_out: self.bytes_out.load(Ordering::Relaxed), ..lock(&self.stats).clone() }
    }

    /// The counter of bytes sent.
    pub(crate) fn bytes_out(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.bytes_out)
    }

    pub(crate) fn begin(&self, request: Recorded) {
        let mut ring = lock(&self.ring);
        ring.bytes += request.size();
        ring.requests.push_back(request);
        ring.trim();
    }

    /// Adds the body to a request recorded before.
    pub(crate) fn complete(&self, connection: u64, sequence: u64, body: Bytes) {
        let mut ring = lock(&self.ring);
        let found = ring
            .requests
            .iter_mut()
            .rev()
            .find(|r| r.connection == connection && r.sequence == sequence);
        if let Some(request) = found {
            let len = body.len();
            request.body = body;
            request.complete = true;
            ring.bytes += len;
            ring.trim();
        }
    }

    pub(crate) fn requests(&self) -> Vec<Recorded> {
        lock(&self.ring).requests.iter().cloned().collect()
    }

    pub(crate) fn clear(&self) {
        let mut stats = lock(&self.stats);
        *stats = Stats {
            connections_open: stats.connections_open,
            in_flight: stats.in_flight,
            waiting: stats.waiting,
            ..Stats::default()
        };
        drop(stats);
        self.bytes_out.store(0, Ordering::Relaxed);
        *lock(&self.ring) = Ring::default();
    }
}

impl Ring {
    fn trim(&mut self) {
        while self.requests.len() > MAX_RECORDED || self.bytes > MAX_RECORDED_BYTES {
            let Some(old) = self.requests.pop_front() else { return };
            self.bytes -= old.size();
        }
    }
}

/// Locks a mutex; a panic elsewhere must not hide what was recorded until then.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
