//! What a run of the generator saw.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::histogram::{Histogram, Percentiles};
use super::judge::Outcome;

/// Most different values of the counted header that are kept apart.
const MAX_LABELS: usize = 32;

/// Counts of requests by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Requests that were due and sent.
    pub offered: u64,
    /// Whole answers.
    pub ok: u64,
    /// Failed before any content: an error status or no answer at all.
    pub failed_before_commit: u64,
    /// Error events in mid-stream.
    pub error_events: u64,
    /// Connections cut in mid-answer.
    pub cut: u64,
    /// Answers that ended as if whole and were not. Must be 0.
    pub silent_truncations: u64,
    /// Answers with a word lost, doubled or garbled. Must be 0.
    pub corrupt: u64,
    /// No end within the time limit.
    pub timeouts: u64,
    /// Left in mid-answer on purpose.
    pub left: u64,
}

impl Counts {
    fn add(&mut self, outcome: Outcome) {
        let count = match outcome {
            Outcome::Ok => &mut self.ok,
            Outcome::Refused(_) | Outcome::Transport => &mut self.failed_before_commit,
            Outcome::ErrorEvent => &mut self.error_events,
            Outcome::Cut => &mut self.cut,
            Outcome::SilentTruncation => &mut self.silent_truncations,
            Outcome::Corrupt => &mut self.corrupt,
            Outcome::Timeout => &mut self.timeouts,
            Outcome::Left => &mut self.left,
        };
        *count += 1;
    }

    /// Requests whose answer has come or failed.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.ok
            + self.failed_before_commit
            + self.error_events
            + self.cut
            + self.silent_truncations
            + self.corrupt
            + self.timeouts
            + self.left
    }
}

/// One second of a run, by the time at which the requests were due.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Second {
    /// What became of the requests that were due in it.
    pub counts: Counts,
    /// How many answers carried each value of the counted header.
    pub labels: BTreeMap<String, u64>,
}

/// What a run saw. Times count from the moment at which a request was due, so a slow server cannot
/// hide its delay by holding back later requests (coordinated omission).
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// All requests.
    pub counts: Counts,
    /// Requests not sent because too many were in flight: the generator's own limit.
    pub shed: u64,
    /// Transport failures before any content.
    pub transport: u64,
    /// Error statuses before any content.
    pub statuses: BTreeMap<u16, u64>,
    /// How many answers carried each value of the counted header.
    pub labels: BTreeMap<String, u64>,
    /// Time to the first event with data (streams).
    pub first_event: Histogram,
    /// Time to the end (whole answers).
    pub total: Histogram,
    /// Time between events (streams).
    pub gap: Histogram,
    /// Second by second.
    pub seconds: Vec<Second>,
    /// How long the run took.
    pub elapsed: Duration,
}

/// What one request saw.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// When it was due, from the start of the run.
    pub(crate) due: Duration,
    pub(crate) outcome: Outcome,
    pub(crate) first_event: Option<Duration>,
    pub(crate) total: Duration,
    pub(crate) gaps: Vec<Duration>,
    pub(crate) label: Option<String>,
}

impl Report {
    fn second(&mut self, due: Duration) -> &mut Second {
        let index = usize::try_from(due.as_secs()).unwrap_or_default();
        if self.seconds.len() <= index {
            self.seconds.resize_with(index + 1, Second::default);
        }
        &mut self.seconds[index]
    }

    pub(crate) fn offer(&mut self, due: Duration) {
        self.counts.offered += 1;
        self.second(due).counts.offered += 1;
    }

    pub(crate) fn add(&mut self, sample: Sample) {
        self.counts.add(sample.outcome);
        match sample.outcome {
            Outcome::Ok => self.total.record(sample.total),
            Outcome::Refused(status) => *self.statuses.entry(status).or_default() += 1,
            Outcome::Transport => self.transport += 1,
            _ => {}
        }
        if let Some(first) = sample.first_event {
            self.first_event.record(first);
        }
        for gap in sample.gaps {
            self.gap.record(gap);
        }
        let second = self.second(sample.due);
        second.counts.add(sample.outcome);
        if let Some(label) = sample.label {
            count(&mut second.labels, &label);
            count(&mut self.labels, &label);
        }
    }

    /// The report as JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "counts": self.counts,
            "shed": self.shed,
            "transport": self.transport,
            "statuses": self.statuses,
            "labels": self.labels,
            "first_event": self.first_event.summary(),
            "total": self.total.summary(),
            "gap": self.gap.summary(),
            "seconds": self.seconds,
            "elapsed_s": self.elapsed.as_secs_f64(),
        })
    }
}

fn count(labels: &mut BTreeMap<String, u64>, label: &str) {
    if labels.len() < MAX_LABELS || labels.contains_key(label) {
        *labels.entry(label.to_owned()).or_default() += 1;
    } else {
        *labels.entry("(other)".to_owned()).or_default() += 1;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.counts;
        let seconds = self.elapsed.as_secs_f64();
        let rate = c.ended() as f64 / seconds.max(1e-9);
        writeln!(f, "{} requests in {seconds:.1} s ({rate:.1}/s)", c.offered)?;
        writeln!(f, "  ok                    {}", c.ok)?;
        writeln!(f, "  failed before commit  {}", c.failed_before_commit)?;
        for (status, n) in &self.statuses {
            writeln!(f, "    status {status}          {n}")?;
        }
        if self.transport > 0 {
            writeln!(f, "    transport           {}", self.transport)?;
        }
        writeln!(f, "  error events          {}", c.error_events)?;
        writeln!(f, "  cut                   {}", c.cut)?;
        writeln!(f, "  timeouts              {}", c.timeouts)?;
        writeln!(f, "  left on purpose       {}", c.left)?;
        writeln!(f, "  not sent (own limit)  {}", self.shed)?;
        writeln!(f, "  SILENT TRUNCATIONS    {}", c.silent_truncations)?;
        writeln!(f, "  CORRUPT               {}", c.corrupt)?;
        for (label, n) in &self.labels {
            writeln!(f, "  by {label}: {n}")?;
        }
        for (name, histogram) in
            [("first event", &self.first_event), ("total", &self.total), ("gap", &self.gap)]
        {
            let Percentiles { count, mean_ms, p50_ms, p90_ms, p99_ms, p999_ms, max_ms } =
                histogram.summary();
            if count > 0 {
                writeln!(
                    f,
                    "  {name:<12} ms: mean {mean_ms:.2} p50 {p50_ms:.2} p90 {p90_ms:.2} p99 {p99_ms:.2} p99.9 {p999_ms:.2} max {max_ms:.2}"
                )?;
            }
        }
        Ok(())
    }
}
