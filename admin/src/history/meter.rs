//! From two readings of a plane to samples: a pure function. Counters become rates, and planes are added up.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use router::planes::{BackendView, QueueView, Tally, Totals};

use super::{BACKEND, MODEL, Metric};
use crate::store::{Sample, Subject};

/// For how many readings a model that nobody asks for any more is still written down. Its zeros make the means of the
/// coarser steps true.
const QUIET_READINGS: u32 = 90;

/// What a plane told at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// When.
    pub at: Instant,
    /// Its backends.
    pub backends: Vec<BackendView>,
    /// What it counted so far.
    pub totals: Totals,
    /// Who waits.
    pub queues: Vec<QueueView>,
}

/// Remembers the last readings, so that the next ones become differences.
#[derive(Debug, Default)]
pub struct Meter {
    last: HashMap<String, Known>,
    /// Readings since a model was last asked for.
    quiet: HashMap<String, u32>,
}

#[derive(Debug)]
struct Known {
    at: Instant,
    backends: HashMap<String, Tally>,
    models: HashMap<String, Tally>,
}

/// What is added up of one subject over all planes.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    in_flight: Option<f64>,
    queue: Option<f64>,
    kv_use: Option<f64>,
    vram: Option<f64>,
    rates: Option<Rates>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Rates {
    requests: f64,
    errors: f64,
    tokens: f64,
    /// Requests, and the seconds that they took.
    ended: (f64, f64),
    /// Streams with a first event, and the seconds until it.
    first_events: (f64, f64),
}

impl Meter {
    /// The samples of one moment, from the readings of all planes that answered. A plane's first reading gives no rates, since
    /// its counters began before.
    pub fn measure(&mut self, readings: &[(String, Reading)], unix: u64) -> Vec<Sample> {
        let mut sums: BTreeMap<Subject, Sum> = BTreeMap::new();
        for (plane, reading) in readings {
            let before = self.last.remove(plane);
            levels(&mut sums, reading);
            let known = known(reading);
            if let Some(before) = before {
                rates(&mut sums, &before, &known);
            }
            self.last.insert(plane.clone(), known);
        }
        self.last.retain(|plane, _| readings.iter().any(|(name, _)| name == plane));
        self.forget_quiet(&mut sums);
        let samples = sums.into_iter().flat_map(|(subject, sum)| {
            sum.samples().into_iter().map(move |(metric, value)| Sample {
                subject: subject.clone(),
                metric: metric.as_str().to_owned(),
                at: unix,
                value,
            })
        });
        samples.collect()
    }

    /// Leaves out models that were not asked for in a long time: there may be thousands.
    fn forget_quiet(&mut self, sums: &mut BTreeMap<Subject, Sum>) {
        let quiet = &mut self.quiet;
        sums.retain(|subject, sum| {
            if subject.kind != MODEL {
                return true;
            }
            if sum.is_busy() {
                quiet.insert(subject.name.clone(), 0);
                return true;
            }
            let Some(since) = quiet.get_mut(&subject.name) else { return false };
            *since += 1;
            *since <= QUIET_READINGS
        });
        quiet.retain(|_, since| *since <= QUIET_READINGS);
    }
}

fn known(reading: &Reading) -> Known {
    let backends = reading.totals.backends.iter();
    let models = reading.totals.models.iter();
    Known {
        at: reading.at,
        backends: backends.map(|(name, tally)| (name.to_string(), *tally)).collect(),
        models: models.map(|(name, tally)| (name.to_string(), *tally)).collect(),
    }
}

/// What is so now. Every plane hears the same figures from a server, so these are not added up.
fn levels(sums: &mut BTreeMap<Subject, Sum>, reading: &Reading) {
    for view in &reading.backends {
        let sum = sums.entry(Subject::new(BACKEND, view.name.as_str())).or_default();
        add(&mut sum.in_flight, f64::from(view.status.in_flight));
        if let Some(signals) = &view.status.signals {
            most(&mut sum.queue, signals.waiting.map(f64::from));
            most(&mut sum.kv_use, signals.kv_usage.map(f64::from));
            #[expect(clippy::cast_precision_loss, reason = "bytes of a GPU's memory")]
            most(&mut sum.vram, signals.vram.map(|bytes| bytes as f64));
        }
    }
    for queue in &reading.queues {
        let sum = sums.entry(Subject::new(MODEL, queue.model.as_str())).or_default();
        add(&mut sum.queue, f64::from(queue.depth));
    }
}

fn add(to: &mut Option<f64>, value: f64) {
    *to = Some(to.unwrap_or(0.0) + value);
}

fn most(of: &mut Option<f64>, value: Option<f64>) {
    *of = match (*of, value) {
        (Some(one), Some(other)) => Some(one.max(other)),
        (one, other) => one.or(other),
    };
}

fn rates(sums: &mut BTreeMap<Subject, Sum>, before: &Known, now: &Known) {
    let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
    if seconds <= 0.0 {
        return;
    }
    let kinds = [(BACKEND, &before.backends, &now.backends), (MODEL, &before.models, &now.models)];
    for (kind, before, now) in kinds {
        for (name, tally) in now {
            let former = before.get(name).copied().unwrap_or_default();
            // Counters that fell belong to another process of the same name.
            if tally.requests < former.requests {
                continue;
            }
            let sum = sums.entry(Subject::new(kind, name)).or_default();
            sum.rates.get_or_insert_default().add(&former, tally, seconds);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of ten seconds")]
fn more(before: u64, now: u64) -> f64 {
    now.saturating_sub(before) as f64
}

impl Rates {
    fn add(&mut self, before: &Tally, now: &Tally, seconds: f64) {
        let requests = more(before.requests, now.requests);
        self.requests += requests / seconds;
        self.errors += more(before.failures, now.failures) / seconds;
        self.tokens += more(before.output_tokens, now.output_tokens) / seconds;
        self.ended.0 += requests;
        self.ended.1 += now.busy.saturating_sub(before.busy).as_secs_f64();
        self.first_events.0 += more(before.first_events.0, now.first_events.0);
        let waited = now.first_events.1.saturating_sub(before.first_events.1);
        self.first_events.1 += waited.as_secs_f64();
    }
}

/// The mean in milliseconds of a count and its seconds.
fn mean((count, seconds): (f64, f64)) -> Option<f64> {
    (count > 0.0).then(|| seconds / count * 1e3)
}

impl Sum {
    fn is_busy(&self) -> bool {
        self.queue.is_some_and(|depth| depth > 0.0)
            || self.rates.is_some_and(|rates| rates.requests > 0.0)
    }

    fn samples(&self) -> Vec<(Metric, f64)> {
        let rates = self.rates;
        let all = [
            (Metric::InFlight, self.in_flight),
            (Metric::Queue, self.queue),
            (Metric::KvUse, self.kv_use),
            (Metric::Vram, self.vram),
            (Metric::Requests, rates.map(|rates| rates.requests)),
            (Metric::Errors, rates.map(|rates| rates.errors)),
            (Metric::TokensPerSecond, rates.map(|rates| rates.tokens)),
            (Metric::FirstEventMs, rates.and_then(|rates| mean(rates.first_events))),
            (Metric::DurationMs, rates.and_then(|rates| mean(rates.ended))),
        ];
        all.into_iter().filter_map(|(metric, value)| Some((metric, value?))).collect()
    }
}

#[cfg(test)]
mod tests;
