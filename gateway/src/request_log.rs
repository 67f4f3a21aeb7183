//! The request log: one JSON object a line, gathered per core and written by a thread of its own, so that neither the
//! system call nor a stalled reader of the log is on any request's path.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use metrics::Counter;
use serde::Serialize;

/// How long a line waits for company before it is handed to the writer.
const GATHER: Duration = Duration::from_millis(50);
/// A core's lines are handed over at once beyond this many bytes.
const LANE_MAX: usize = 64 << 10;
/// Batches that may wait for the writer; beyond it, batches are dropped and counted.
const BATCHES_MAX: usize = 64;

/// What one line says.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    pub(crate) timestamp: String,
    pub(crate) level: &'static str,
    pub(crate) message: &'static str,
    pub(crate) request_id: &'a str,
    pub(crate) upstream_id: &'a str,
    pub(crate) operation: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) backend: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) region: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) head: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache: Option<&'static str>,
    pub(crate) attempts: u32,
    pub(crate) stream: bool,
    pub(crate) status: u16,
    pub(crate) outcome: &'static str,
    pub(crate) bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prompt_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) queued_ms: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_event_ms: Option<f64>,
    pub(crate) duration_ms: f64,
}

/// The wall clock in RFC 3339, with milliseconds.
pub(crate) fn timestamp() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

enum Batch {
    Lines(Vec<u8>),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

/// Takes lines on any core.
#[derive(Debug)]
pub struct RequestLog {
    lanes: Box<[Mutex<Vec<u8>>]>,
    writer: SyncSender<Batch>,
    dropped: Counter,
}

impl RequestLog {
    /// Starts the writer.
    ///
    /// # Errors
    /// When its thread cannot be made.
    pub(crate) fn start(
        cores: usize,
        mut sink: Box<dyn Write + Send>,
        dropped: Counter,
    ) -> std::io::Result<Arc<Self>> {
        let (writer, batches) = sync_channel(BATCHES_MAX);
        thread::Builder::new()
            .name("request-log".to_owned())
            .spawn(move || write(&batches, &mut *sink))?;
        let lanes = (0..cores.max(1)).map(|_| Mutex::new(Vec::new())).collect();
        Ok(Arc::new(Self { lanes, writer, dropped }))
    }

    fn lane(&self, core: usize) -> MutexGuard<'_, Vec<u8>> {
        self.lanes[core % self.lanes.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line; called on the core's own thread.
    pub(crate) fn line(self: &Arc<Self>, core: usize, line: &Line<'_>) {
        let mut lane = self.lane(core);
        let first = lane.is_empty();
        // Writing to memory cannot fail, and the types are ours: nothing to report.
        let _ = serde_json::to_writer(&mut *lane, line);
        lane.push(b'\n');
        let full = lane.len() > LANE_MAX;
        drop(lane);
        if full {
            self.hand_over(core);
        } else if first {
            self.hand_over_soon(core);
        }
    }

    fn hand_over_soon(self: &Arc<Self>, core: usize) {
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                let log = Arc::clone(self);
                runtime.spawn(async move {
                    tokio::time::sleep(GATHER).await;
                    log.hand_over(core);
                });
            }
            Err(_) => self.hand_over(core),
        }
    }

    fn hand_over(&self, core: usize) {
        let lines = std::mem::take(&mut *self.lane(core));
        if lines.is_empty() {
            return;
        }
        let count = memchr::memchr_iter(b'\n', &lines).count() as u64;
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.writer.try_send(Batch::Lines(lines))
        {
            self.dropped.increment(count);
        }
    }

    /// Writes out what has been gathered, waiting at most `limit`.
    pub fn flush(&self, limit: Duration) {
        (0..self.lanes.len()).for_each(|core| self.hand_over(core));
        let (done, written) = sync_channel(1);
        if self.writer.try_send(Batch::Flush(done)).is_ok() {
            let _ = written.recv_timeout(limit);
        }
    }
}

fn write(batches: &Receiver<Batch>, sink: &mut dyn Write) {
    while let Ok(batch) = batches.recv() {
        match batch {
            // Where the log goes may be gone; serving goes on.
            Batch::Lines(lines) => drop(sink.write_all(&lines).and_then(|()| sink.flush())),
            Batch::Flush(done) => drop(done.send(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn line(id: &str) -> Line<'_> {
        Line {
            timestamp: timestamp(),
            level: "INFO",
            message: "request",
            request_id: id,
            upstream_id: "fb-1",
            operation: "chat_completions",
            model: Some("a \"quoted\" name"),
            backend: None,
            region: None,
            head: None,
            key: None,
            cache: None,
            attempts: 1,
            stream: false,
            status: 200,
            outcome: "ok",
            bytes: 7,
            prompt_tokens: None,
            completion_tokens: None,
            queued_ms: None,
            first_event_ms: None,
            duration_ms: 1.5,
        }
    }

    #[tokio::test]
    async fn every_line_is_one_json_object_and_none_is_lost_at_a_flush() {
        let sink = Sink::default();
        let log = RequestLog::start(2, Box::new(sink.clone()), Counter::noop()).unwrap();
        for n in 0..1000 {
            log.line(n % 2, &line(&format!("id-{n}")));
        }
        log.flush(Duration::from_secs(10));
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let mut seen: Vec<String> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|line| line["request_id"].as_str().unwrap().to_owned())
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 1000);
    }
}
