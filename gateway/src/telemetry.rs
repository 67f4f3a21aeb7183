//! Metrics: every name is here, every handle is made once, and no label is a client's string.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use router::Operation;
use router::breaker::{BreakerState, Transition};

use crate::cache::counters::CacheCounters;
use crate::io::Expired;
use crate::limits::LimitCounters;
use crate::queue::{QueueCounters, REFUSALS};
use crate::redis::RedisCounters;

const META: Metadata<'static> = Metadata::new("forebay", Level::INFO, None);
/// Statuses that have a series of their own; others count as `other`.
const STATUSES: [u16; 17] =
    [200, 204, 400, 401, 403, 404, 405, 408, 413, 415, 422, 429, 499, 500, 502, 503, 504];
/// Ends of attempts, as labels.
pub(crate) const ATTEMPT_ENDS: [&str; 4] = ["success", "abandoned", "failure", "client_fault"];
/// States of a breaker, in the order of their numbers in `forebay_backend_breaker`.
const BREAKER_STATES: [BreakerState; 3] =
    [BreakerState::Closed, BreakerState::HalfOpen, BreakerState::Open];
const DURATION_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

/// Names and help of all metrics; `docs/metrics.md` lists the same.
pub const METRICS: &[(&str, &str)] = &[
    ("forebay_build_info", "Version of the running binary."),
    ("forebay_connections_accepted_total", "Client connections accepted."),
    ("forebay_connections_open", "Client connections that are open."),
    ("forebay_accept_errors_total", "Failed accepts."),
    ("forebay_tls_failures_total", "Failed TLS handshakes of clients."),
    ("forebay_connections_expired_total", "Client connections ended by a deadline."),
    ("forebay_requests_total", "Requests by operation and status."),
    ("forebay_request_duration_seconds", "From head to the end of the answer."),
    ("forebay_first_event_seconds", "From head to the first content event or the whole answer."),
    ("forebay_client_left_total", "Requests whose client left before the end."),
    ("forebay_streams_broken_total", "Streams that ended in an error after they had begun."),
    ("forebay_log_lines_dropped_total", "Request log lines lost: the log's reader stalled."),
    ("forebay_panics_total", "Requests that met a defect of ours."),
    ("forebay_attempts_total", "Attempts by backend and end."),
    ("forebay_connections_reused_died_total", "Requests sent again: a reused connection had died."),
    ("forebay_encoded_answers_total", "Answers that were encoded against our wish."),
    ("forebay_backend_in_flight", "Running requests of a backend."),
    ("forebay_backend_up", "1 when a backend may get work."),
    ("forebay_backend_breaker", "0 closed, 1 half-open, 2 open."),
    ("forebay_breaker_transitions_total", "Changes of a backend's breaker, by new state."),
    ("forebay_buffered_bytes", "Bytes of request bodies held."),
    ("forebay_config_last_reload_successful", "1 unless the last reload was refused."),
    ("forebay_config_last_reload_timestamp_seconds", "When the last good reload was."),
    ("forebay_config_reloads_total", "Reloads by result."),
    ("forebay_cache_hits_total", "Stored answers given again, by tier."),
    ("forebay_cache_misses_total", "Requests whose answer was not stored."),
    ("forebay_cache_bypass_total", "Requests that went past the cache, by reason."),
    ("forebay_cache_coalesced_total", "Requests that read an answer made for another one."),
    ("forebay_cache_stores_total", "Answers stored, by tier."),
    ("forebay_cache_unstored_total", "Answers that were not stored, by reason."),
    ("forebay_cache_evictions_total", "Answers that had to make room in memory."),
    ("forebay_cache_corrupt_total", "Answers in Redis that could not be read."),
    ("forebay_cache_bytes", "Bytes that answers take in memory."),
    ("forebay_snapshot_version", "Version of the snapshot that new requests see."),
    ("forebay_queue_depth", "Requests that wait for a free backend of a model."),
    ("forebay_queue_waited_seconds", "Waits that ended in a free backend."),
    ("forebay_queue_refused_total", "Requests that waited in vain, or could not wait."),
    ("forebay_limits_refused_total", "Requests refused by a key's limits, by cause."),
    ("forebay_limits_alone_total", "Requests judged by this gateway's share, for want of Redis."),
    ("forebay_redis_up", "1 while Redis answers."),
    ("forebay_redis_errors_total", "Failed Redis commands by reason."),
    (
        "forebay_redis_writes_dropped_total",
        "Writes to Redis that nobody waited for, and that were lost.",
    ),
];

/// The metrics of one data plane.
pub struct Counters {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    pub(crate) connections_accepted: Counter,
    pub(crate) accept_errors: Counter,
    pub(crate) tls_failures: Counter,
    pub(crate) header_timeouts: Counter,
    idle_timeouts: Counter,
    write_timeouts: Counter,
    pub(crate) panics: Counter,
    pub(crate) streams_broken: Counter,
    pub(crate) reused_died: Counter,
    pub(crate) encoded: Counter,
    pub(crate) lines_dropped: Counter,
    client_left: Counter,
    operations: [PerOperation; Operation::ALL.len() + 1],
    connections: Gauge,
    in_buffers: Gauge,
    version: Gauge,
    reload_successful: Gauge,
    reload_timestamp: Gauge,
    reloads: [Counter; 2],
    pub(crate) redis: RedisCounters,
    pub(crate) cache: CacheCounters,
    pub(crate) queue: QueueCounters,
    pub(crate) limits: LimitCounters,
}

struct PerOperation {
    statuses: [OnceLock<Counter>; STATUSES.len() + 1],
    duration: Histogram,
    first_event: Histogram,
}

/// The metrics of one backend.
pub(crate) struct BackendCounters {
    attempts: [Counter; ATTEMPT_ENDS.len()],
    in_flight: Gauge,
    up: Gauge,
    breaker: Gauge,
    transitions: [Counter; BREAKER_STATES.len()],
}

impl BackendCounters {
    /// Takes note of a change of the backend's breaker, and says so.
    pub(crate) fn moved(&self, backend: &str, change: Transition) {
        if let Some(index) = BREAKER_STATES.iter().position(|known| *known == change.to) {
            self.transitions[index].increment(1);
        }
        let (from, to) = (change.from.as_str(), change.to.as_str());
        tracing::warn!(backend, from, to, "breaker");
    }

    pub(crate) fn attempt(&self, end: &str) {
        if let Some(index) = ATTEMPT_ENDS.iter().position(|known| *known == end) {
            self.attempts[index].increment(1);
        }
    }

    pub(crate) fn show(&self, in_flight: u32, up: bool, breaker: BreakerState) {
        let breaker = BREAKER_STATES.iter().position(|known| *known == breaker).unwrap_or(0);
        self.breaker.set(f64::from(u32::try_from(breaker).unwrap_or(0)));
        self.in_flight.set(f64::from(in_flight));
        self.up.set(if up { 1.0 } else { 0.0 });
    }
}

impl Drop for BackendCounters {
    /// A backend that is gone is not up, and nothing runs on it.
    fn drop(&mut self) {
        self.show(0, false, BreakerState::Closed);
    }
}

const fn operation_label(index: usize) -> &'static str {
    if index < Operation::ALL.len() { Operation::ALL[index].as_str() } else { "none" }
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<Label> =
        labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
    Key::from_parts(name, labels)
}

impl Counters {
    /// Registers everything that has no label known only later.
    ///
    /// # Errors
    /// When the histogram buckets are refused, which does not happen.
    pub fn new() -> Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &DURATION_BUCKETS)?
            .build_recorder();
        for &(name, help) in METRICS {
            let describe = if name.ends_with("_total") {
                Recorder::describe_counter
            } else if name.ends_with("_seconds") {
                Recorder::describe_histogram
            } else {
                Recorder::describe_gauge
            };
            describe(&recorder, name.into(), None, help.into());
        }
        let version = env!("CARGO_PKG_VERSION");
        recorder
            .register_gauge(&key("forebay_build_info", &[("version", version)]), &META)
            .set(1.0);
        let plain = |name| recorder.register_counter(&key(name, &[]), &META);
        let expired = |by| {
            recorder.register_counter(
                &key("forebay_connections_expired_total", &[("deadline", by)]),
                &META,
            )
        };
        let labelled = |name, label: Option<&'static str>, value| {
            let labels = label.map(|label| (label, value));
            recorder.register_counter(&key(name, labels.as_slice()), &META)
        };
        let gauge = |name| recorder.register_gauge(&key(name, &[]), &META);
        Ok(Self {
            connections_accepted: plain("forebay_connections_accepted_total"),
            accept_errors: plain("forebay_accept_errors_total"),
            tls_failures: plain("forebay_tls_failures_total"),
            header_timeouts: expired("head"),
            idle_timeouts: expired("idle"),
            write_timeouts: expired("write"),
            panics: plain("forebay_panics_total"),
            streams_broken: plain("forebay_streams_broken_total"),
            reused_died: plain("forebay_connections_reused_died_total"),
            encoded: plain("forebay_encoded_answers_total"),
            lines_dropped: plain("forebay_log_lines_dropped_total"),
            client_left: plain("forebay_client_left_total"),
            operations: std::array::from_fn(|index| PerOperation::new(&recorder, index)),
            connections: gauge("forebay_connections_open"),
            in_buffers: gauge("forebay_buffered_bytes"),
            version: gauge("forebay_snapshot_version"),
            reload_successful: gauge("forebay_config_last_reload_successful"),
            reload_timestamp: gauge("forebay_config_last_reload_timestamp_seconds"),
            reloads: ["refused", "applied"].map(|result| {
                let labels = [("result", result)];
                recorder.register_counter(&key("forebay_config_reloads_total", &labels), &META)
            }),
            cache: CacheCounters::new(labelled, gauge("forebay_cache_bytes")),
            queue: QueueCounters {
                waited: recorder
                    .register_histogram(&key("forebay_queue_waited_seconds", &[]), &META),
                refused: REFUSALS
                    .map(|reason| labelled("forebay_queue_refused_total", Some("reason"), reason)),
            },
            limits: LimitCounters::new(labelled),
            redis: RedisCounters::new(labelled, gauge("forebay_redis_up")),
            handle: recorder.handle(),
            recorder,
        })
    }

    pub(crate) fn expired(&self, what: Expired) {
        match what {
            Expired::Head => self.header_timeouts.increment(1),
            Expired::Idle => self.idle_timeouts.increment(1),
            Expired::Write => self.write_timeouts.increment(1),
        }
    }

    pub(crate) fn backend(&self, name: &str) -> BackendCounters {
        let labels = [("backend", name)];
        BackendCounters {
            attempts: ATTEMPT_ENDS.map(|end| {
                let labels = [("backend", name), ("end", end)];
                self.recorder.register_counter(&key("forebay_attempts_total", &labels), &META)
            }),
            in_flight: self
                .recorder
                .register_gauge(&key("forebay_backend_in_flight", &labels), &META),
            up: self.recorder.register_gauge(&key("forebay_backend_up", &labels), &META),
            breaker: self.recorder.register_gauge(&key("forebay_backend_breaker", &labels), &META),
            transitions: BREAKER_STATES.map(|to| {
                let labels = [("backend", name), ("to", to.as_str())];
                let key = key("forebay_breaker_transitions_total", &labels);
                self.recorder.register_counter(&key, &META)
            }),
        }
    }

    /// The gauge of one model's queue.
    pub(crate) fn queue_depth(&self, model: &str) -> Gauge {
        self.recorder.register_gauge(&key("forebay_queue_depth", &[("model", model)]), &META)
    }

    /// Counts one finished request.
    pub(crate) fn request(
        &self,
        operation: Option<Operation>,
        status: u16,
        outcome: &str,
        elapsed: Duration,
        first_event: Option<Duration>,
    ) {
        let index = operation
            .and_then(|operation| Operation::ALL.iter().position(|known| *known == operation))
            .unwrap_or(Operation::ALL.len());
        let per_operation = &self.operations[index];
        per_operation.status(&self.recorder, index, status).increment(1);
        per_operation.duration.record(elapsed.as_secs_f64());
        if let Some(first_event) = first_event {
            per_operation.first_event.record(first_event.as_secs_f64());
        }
        if outcome == "client_left" {
            self.client_left.increment(1);
        }
    }

    /// Counts a reload; a refused one leaves the old configuration in force.
    pub(crate) fn reloaded(&self, applied: bool) {
        self.reloads[usize::from(applied)].increment(1);
        self.show_config(applied);
    }

    /// Says whether the last configuration that was offered is in force.
    pub(crate) fn show_config(&self, in_force: bool) {
        self.reload_successful.set(if in_force { 1.0 } else { 0.0 });
        if in_force {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.reload_timestamp.set(now.as_secs_f64());
        }
    }

    /// The Prometheus text, with gauges set by `refresh` just before.
    pub(crate) fn render(&self, connections: u64, buffered: u64, version: u64) -> String {
        #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
        {
            self.connections.set(connections as f64);
            self.in_buffers.set(buffered as f64);
            self.version.set(version as f64);
        }
        self.upkeep();
        self.handle.render()
    }

    /// Sums up the samples of histograms, which are kept one by one until then.
    pub(crate) fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

impl PerOperation {
    fn new(recorder: &PrometheusRecorder, index: usize) -> Self {
        let labels = [("operation", operation_label(index))];
        let histogram = |name| recorder.register_histogram(&key(name, &labels), &META);
        Self {
            statuses: [const { OnceLock::new() }; STATUSES.len() + 1],
            duration: histogram("forebay_request_duration_seconds"),
            first_event: histogram("forebay_first_event_seconds"),
        }
    }

    fn status(&self, recorder: &PrometheusRecorder, index: usize, status: u16) -> &Counter {
        let slot = STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len());
        self.statuses[slot].get_or_init(|| {
            let status = STATUSES.get(slot).map_or("other".to_owned(), u16::to_string);
            let labels = [("operation", operation_label(index)), ("status", status.as_str())];
            recorder.register_counter(&key("forebay_requests_total", &labels), &META)
        })
    }
}
