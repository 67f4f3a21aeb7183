//! Writes that nobody waits for: a bounded queue, emptied in order by the keeper's thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use ::redis::Cmd;
use tokio::sync::mpsc;

use super::Shared;

/// Most writes that wait.
const WRITES_MAX: usize = 4096;
/// Most bytes of all writes that wait.
const BYTES_MAX: usize = 32 << 20;
/// How long one such write may take: it may be large, and delays nobody.
const WRITE_LIMIT: Duration = Duration::from_millis(250);

/// The end that callers see.
pub(super) struct WriteBehind {
    queue: mpsc::Sender<Write>,
    bytes: Arc<AtomicUsize>,
}

/// One write that waits.
pub(super) struct Write {
    command: Cmd,
    bytes: usize,
}

impl WriteBehind {
    pub(super) fn new() -> (Self, mpsc::Receiver<Write>) {
        let (queue, writes) = mpsc::channel(WRITES_MAX);
        (Self { queue, bytes: Arc::default() }, writes)
    }

    /// Queues a write, or drops this one: what is in the queue came first.
    pub(super) fn push(&self, shared: &Shared, command: Cmd) {
        let bytes = command.args_iter().map(|arg| size(&arg)).sum();
        let fits = self.bytes.fetch_add(bytes, Relaxed).saturating_add(bytes) <= BYTES_MAX;
        let write = Write { command, bytes };
        if !fits || !shared.gate.admits() || self.queue.try_send(write).is_err() {
            self.bytes.fetch_sub(bytes, Relaxed);
            shared.counters.redis.dropped.increment(1);
        }
    }
}

fn size(arg: &::redis::Arg<&[u8]>) -> usize {
    match arg {
        ::redis::Arg::Simple(bytes) => bytes.len(),
        _ => 0,
    }
}

/// Empties the queue until its task is aborted.
pub(super) async fn write(shared: Arc<Shared>, mut writes: mpsc::Receiver<Write>) {
    while let Some(Write { command, bytes }) = writes.recv().await {
        let written = match shared.usable() {
            Some(connection) => shared.send(connection, &command, WRITE_LIMIT).await.is_ok(),
            None => false,
        };
        shared.behind.bytes.fetch_sub(bytes, Relaxed);
        if !written {
            shared.counters.redis.dropped.increment(1);
        }
    }
}
