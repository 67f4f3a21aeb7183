//! History: what was measured of backends and models, in steps that get coarser with age.
//!
//! A row holds all values of one subject at one time (5 bytes each), and rows lie in the order of time. So a sampling of 500 backends
//! writes some 15 neighbouring pages instead of one page per series, what is too old goes in one sweep, and a range of one subject
//! is a known list of keys to look up. Values are gauges or rates, never sums: the mean is what becomes of them in a coarser step.

use std::collections::{BTreeMap, HashMap};

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::rollup::STEPS;
use super::{StoreError, Tx};

/// Most points that a series of one answer has.
pub const POINTS_MAX: usize = 10_000;
/// Most names of metrics.
pub const METRICS_MAX: u64 = 200;
/// Most subjects; samples of further ones are left out.
pub const SUBJECTS_MAX: u64 = 10_000;
/// A subject's last sight is written down at most this often, seconds.
const SEEN_EVERY: u64 = 60 * 60;

/// What was measured.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject {
    /// `backend` or `model`, for example.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl Subject {
    /// The subject of this kind and name.
    #[must_use]
    pub fn new(kind: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), name: name.to_owned() }
    }
}

/// One measured value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Of what.
    pub subject: Subject,
    /// Which quantity: a gauge or a rate, in the unit that its name says.
    pub metric: String,
    /// Unix time, seconds; rounded down to the finest step.
    pub at: u64,
    /// Kept with 7 significant digits; what is not finite is left out.
    pub value: f64,
}

/// A value over a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The step's beginning, unix time in seconds.
    pub at: u64,
    /// The mean over the step.
    pub value: f64,
}

/// One metric of one subject over a range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Which quantity.
    pub metric: String,
    /// The length of a step, seconds.
    pub step: u64,
    /// By time; steps without a value are missing.
    pub points: Vec<Point>,
}

/// Packed values of one row: a metric's number and a little-endian `f32`, again and again.
pub(super) fn packed(values: &BTreeMap<u8, f64>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.len() * 5);
    for (metric, value) in values {
        #[expect(clippy::cast_possible_truncation, reason = "7 digits are kept on purpose")]
        let value = *value as f32;
        bytes.push(*metric);
        bytes.extend(value.to_le_bytes());
    }
    bytes
}

pub(super) fn unpacked(bytes: &[u8]) -> impl Iterator<Item = (u8, f64)> {
    bytes
        .as_chunks::<5>()
        .0
        .iter()
        .map(|[metric, value @ ..]| (*metric, f64::from(f32::from_le_bytes(*value))))
}

impl Tx {
    /// Adds measured values in the finest step. A second value of the same metric in one step replaces the first.
    ///
    /// # Errors
    /// [`StoreError::Other`] at [`METRICS_MAX`]; as [`StoreError`].
    pub fn add_samples(&self, samples: &[Sample]) -> Result<(), StoreError> {
        let mut subjects: HashMap<&Subject, Option<u64>> = HashMap::new();
        let mut metrics: HashMap<&str, u8> = HashMap::new();
        let mut rows: BTreeMap<(u64, u64), BTreeMap<u8, f64>> = BTreeMap::new();
        let step = STEPS[0].step;
        for sample in samples.iter().filter(|sample| sample.value.is_finite()) {
            let subject = match subjects.get(&sample.subject) {
                Some(known) => *known,
                None => {
                    let id = self.subject_seen(&sample.subject, sample.at)?;
                    *subjects.entry(&sample.subject).or_insert(id)
                }
            };
            let Some(subject) = subject else { continue };
            let metric = match metrics.get(sample.metric.as_str()) {
                Some(known) => *known,
                None => *metrics.entry(&sample.metric).or_insert(self.metric_of(&sample.metric)?),
            };
            let at = sample.at / step * step;
            rows.entry((at, subject)).or_default().insert(metric, sample.value);
        }
        for ((at, subject), mut values) in rows {
            let former = self.packed_at(step, at, subject)?.unwrap_or_default();
            for (metric, value) in unpacked(&former) {
                values.entry(metric).or_insert(value);
            }
            self.put_packed(step, at, subject, &values)?;
        }
        Ok(())
    }

    /// The series of a subject's metrics (all of them for an empty list) from `from` up to and without `to`, in unix seconds. The step is the
    /// finest that reaches back far enough, widened until no series has more than `points_max` points.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn history(
        &self,
        subject: &Subject,
        metrics: &[&str],
        from: u64,
        to: u64,
        points_max: usize,
    ) -> Result<Vec<Series>, StoreError> {
        let sql = "SELECT id FROM subjects WHERE kind = ?1 AND name = ?2";
        let id = self.first(sql, params![subject.kind, subject.name], |row| Ok(row.get(0)?))?;
        let (Some(id), Some(span)) = (id, self.span_of(from, to)?) else { return Ok(Vec::new()) };
        let points_max = points_max.clamp(1, POINTS_MAX) as u64;
        let steps = (span.to - span.from).div_ceil(span.step);
        let width = span.step * steps.div_ceil(points_max).max(1);
        let names: BTreeMap<u8, String> = self
            .rows("SELECT id, name FROM metrics", [], |row| Ok((row.get(0)?, row.get(1)?)))?
            .into_iter()
            .filter(|(_, name): &(u8, String)| {
                metrics.is_empty() || metrics.contains(&name.as_str())
            })
            .collect();
        let mut means: BTreeMap<u8, BTreeMap<u64, Mean>> =
            names.keys().map(|metric| (*metric, BTreeMap::new())).collect();
        // What is not rolled up yet is read where it is.
        let rolled = span.rolled.clamp(span.from, span.to);
        for (step, from, to) in [(span.step, span.from, rolled), (STEPS[0].step, rolled, span.to)] {
            for at in (from.div_ceil(step) * step..to).step_by(usize::try_from(step).unwrap_or(1)) {
                let Some(packed) = self.packed_at(step, at, id)? else { continue };
                for (metric, value) in unpacked(&packed) {
                    if let Some(means) = means.get_mut(&metric) {
                        means.entry(at / width * width).or_default().add(value, step);
                    }
                }
            }
        }
        let series = names.into_iter().map(|(metric, name)| Series {
            metric: name,
            step: width,
            points: means
                .remove(&metric)
                .unwrap_or_default()
                .into_iter()
                .map(Mean::point)
                .collect(),
        });
        Ok(series.filter(|series| !series.points.is_empty()).collect())
    }

    /// What of a range there is, and in which step it is read.
    fn span_of(&self, from: u64, to: u64) -> Result<Option<Span>, StoreError> {
        let sql = "SELECT max(at) FROM samples WHERE step = ?1";
        let oldest = STEPS.map(|kept| self.oldest(kept.step));
        let newest = STEPS.map(|kept| self.number(sql, [kept.step]).map(|at| at + kept.step));
        let mut end = 0;
        for at in newest {
            end = end.max(at?);
        }
        let [fine, middle, coarse] = oldest;
        let oldest = [fine?, middle?, coarse?];
        let Some(first) = oldest.iter().flatten().min() else { return Ok(None) };
        let to = to.min(end);
        // A coarse step begins before its first sample was taken.
        let reach = from.max(*first + STEPS[2].step);
        let reaches = |(_, oldest): &(_, Option<u64>)| oldest.is_some_and(|oldest| oldest <= reach);
        let chosen = STEPS.into_iter().zip(oldest).find(reaches);
        let step = chosen.map_or(STEPS[2].step, |(kept, _)| kept.step);
        let from = (from.max(*first) / step * step).max(to.saturating_sub(STEPS[2].kept));
        let rolled = if step == STEPS[0].step { to } else { self.rolled(step)? };
        Ok((from < to).then_some(Span { step, from, to, rolled }))
    }

    /// The time of the oldest row of a step.
    pub(super) fn oldest(&self, step: u64) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT at FROM samples WHERE step = ?1 ORDER BY at LIMIT 1";
        self.first(sql, [step], |row| Ok(row.get(0)?))
    }

    fn packed_at(&self, step: u64, at: u64, subject: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT packed FROM samples WHERE step = ?1 AND at = ?2 AND subject = ?3";
        self.first(sql, [step, at, subject], |row| Ok(row.get(0)?))
    }

    pub(super) fn put_packed(
        &self,
        step: u64,
        at: u64,
        subject: u64,
        values: &BTreeMap<u8, f64>,
    ) -> Result<(), StoreError> {
        self.execute(
            "INSERT OR REPLACE INTO samples (step, at, subject, packed) VALUES (?1, ?2, ?3, ?4)",
            params![step, at, subject, packed(values)],
        )?;
        Ok(())
    }

    /// The number of a subject, which is made if need be; `None` beyond [`SUBJECTS_MAX`].
    fn subject_seen(&self, subject: &Subject, at: u64) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT id, seen FROM subjects WHERE kind = ?1 AND name = ?2";
        let found = self.first(sql, params![subject.kind, subject.name], |row| {
            Ok((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?))
        })?;
        if let Some((id, seen)) = found {
            if seen + SEEN_EVERY <= at {
                self.execute("UPDATE subjects SET seen = ?2 WHERE id = ?1", [id, at])?;
            }
            return Ok(Some(id));
        }
        if self.number("SELECT count(*) FROM subjects", [])? >= SUBJECTS_MAX {
            return Ok(None);
        }
        self.execute(
            "INSERT INTO subjects (kind, name, seen) VALUES (?1, ?2, ?3)",
            params![subject.kind, subject.name, at],
        )?;
        Ok(u64::try_from(self.conn.last_insert_rowid()).ok())
    }

    /// The number of a metric, which is made if need be.
    fn metric_of(&self, name: &str) -> Result<u8, StoreError> {
        let sql = "SELECT id FROM metrics WHERE name = ?1";
        if let Some(id) = self.first(sql, [name], |row| Ok(row.get(0)?))? {
            return Ok(id);
        }
        if self.number("SELECT count(*) FROM metrics", [])? >= METRICS_MAX {
            return Err(StoreError::Other(format!("it knows {METRICS_MAX} metrics at most")));
        }
        self.execute("INSERT INTO metrics (name) VALUES (?1)", [name])?;
        u8::try_from(self.conn.last_insert_rowid())
            .map_err(|_| StoreError::Corrupt("a metric's number is too large".to_owned()))
    }
}

/// What of a range is read, and how.
struct Span {
    step: u64,
    from: u64,
    to: u64,
    /// Up to where rows of this step exist.
    rolled: u64,
}

/// A mean that is being made; each value weighs as long as its step.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    #[expect(clippy::cast_precision_loss, reason = "a step's seconds")]
    pub(super) fn add(&mut self, value: f64, step: u64) {
        self.sum += value * step as f64;
        self.weight += step as f64;
    }

    pub(super) fn value(self) -> f64 {
        self.sum / self.weight
    }

    fn point((at, mean): (u64, Self)) -> Point {
        Point { at, value: mean.value() }
    }
}
