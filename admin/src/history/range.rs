//! Questions to the history, each bounded in points and in time.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::Metric;
use crate::store::{POINTS_MAX, Point, Series, Store, StoreError, Subject};

/// Longest time that an answer may take; the data plane's own threads have no part in it.
pub const QUERY_TIME_MAX: Duration = Duration::from_secs(2);

/// From when to when, in unix seconds, and how fine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The beginning.
    pub from: u64,
    /// The end, not included.
    pub to: u64,
    /// The width of a step that is wanted, seconds; what comes may be wider. `None` = as fine as may be.
    pub step: Option<u64>,
}

impl Range {
    /// Most points of each of so many series.
    fn points(self, series: usize) -> usize {
        let bound = POINTS_MAX / series.max(1);
        let wanted = self.step.map(|step| self.to.saturating_sub(self.from).div_ceil(step.max(1)));
        let wanted = wanted.and_then(|points| usize::try_from(points).ok());
        wanted.map_or(bound, |wanted| wanted.clamp(1, bound))
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// It would have taken longer than [`QUERY_TIME_MAX`].
    #[error("the answer took longer than {QUERY_TIME_MAX:?}; ask for a shorter range")]
    Slow,
    /// The store does not tell.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Series of a subject; all metrics for an empty list.
///
/// # Errors
/// [`RangeError`].
pub async fn read(
    store: &Store,
    subject: Subject,
    metrics: &[Metric],
    range: Range,
) -> Result<Vec<Series>, RangeError> {
    let metrics = if metrics.is_empty() { &Metric::ALL[..] } else { metrics };
    let names: Vec<&'static str> = metrics.iter().map(|metric| metric.as_str()).collect();
    let points = range.points(names.len());
    let asked = store.read(move |tx| tx.history(&subject, &names, range.from, range.to, points));
    Ok(tokio::time::timeout(QUERY_TIME_MAX, asked).await.map_err(|_| RangeError::Slow)??)
}

/// What a range comes to.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, ToSchema)]
pub struct Statistics {
    /// Requests that ended.
    pub requests: f64,
    /// Of these, those that ended in an error that was not the client's.
    pub errors: f64,
    /// Share of requests that ended well, 0 to 1; absent without requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<f64>,
    /// Mean time to the first event, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_event_ms: Option<f64>,
    /// Mean time to the end of an answer, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<f64>,
    /// Tokens written.
    pub output_tokens: f64,
    /// Tokens written per second of answering: how fast one answer is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
}

/// Puts series together. Means weigh as the requests of their steps do.
#[must_use]
pub fn statistics(series: &[Series]) -> Statistics {
    let requests = counts(series, Metric::Requests);
    // From a zero of its own: that of `sum` is negative.
    let add = |counts: &BTreeMap<_, f64>| counts.values().fold(0.0, |sum, one| sum + one);
    let total = |metric| add(&counts(series, metric));
    let mean = |metric: Metric| {
        let points = points(series, metric);
        let weigh = |point: &Point| (point.value, requests.get(&point.at).copied().unwrap_or(0.0));
        let (sum, weight) =
            points.iter().map(weigh).fold((0.0, 0.0), |(sum, all), (value, weight)| {
                (value.mul_add(weight, sum), all + weight)
            });
        (weight > 0.0).then(|| sum / weight)
    };
    let (ended, errors) = (add(&requests), total(Metric::Errors));
    let output_tokens = total(Metric::TokensPerSecond);
    let duration_ms = mean(Metric::DurationMs);
    let answering = duration_ms.map(|ms| ms / 1e3 * ended).filter(|seconds| *seconds > 0.0);
    Statistics {
        // What is kept of a rate has 7 digits; a count is whole again.
        requests: ended.round(),
        errors: errors.round(),
        success_rate: (ended > 0.0).then(|| (1.0 - errors / ended).clamp(0.0, 1.0)),
        first_event_ms: mean(Metric::FirstEventMs),
        duration_ms,
        output_tokens: output_tokens.round(),
        tokens_per_second: answering.map(|seconds| output_tokens / seconds),
    }
}

fn points(series: &[Series], metric: Metric) -> &[Point] {
    let found = series.iter().find(|series| series.metric == metric.as_str());
    found.map_or(&[], |series| &series.points)
}

/// A rate's steps as counts.
fn counts(series: &[Series], metric: Metric) -> BTreeMap<u64, f64> {
    let step = series.iter().find(|one| one.metric == metric.as_str()).map_or(0, |one| one.step);
    #[expect(clippy::cast_precision_loss, reason = "a step's seconds")]
    let count = |point: &Point| (point.at, point.value * step as f64);
    points(series, metric).iter().map(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(metric: Metric, points: &[(u64, f64)]) -> Series {
        let points = points.iter().map(|(at, value)| Point { at: *at, value: *value }).collect();
        Series { metric: metric.as_str().to_owned(), step: 10, points }
    }

    #[test]
    fn rates_become_counts_and_means_weigh_as_requests() {
        let found = statistics(&[
            series(Metric::Requests, &[(0, 1.0), (10, 3.0), (20, 0.0)]),
            series(Metric::Errors, &[(0, 0.0), (10, 1.0)]),
            series(Metric::FirstEventMs, &[(0, 100.0), (10, 500.0)]),
            series(Metric::DurationMs, &[(0, 1000.0), (10, 1000.0)]),
            series(Metric::TokensPerSecond, &[(0, 20.0), (10, 60.0)]),
        ]);
        assert!((found.requests - 40.0).abs() < 1e-9);
        assert!((found.success_rate.unwrap() - 0.75).abs() < 1e-9);
        assert!((found.first_event_ms.unwrap() - 400.0).abs() < 1e-9);
        assert!((found.output_tokens - 800.0).abs() < 1e-9);
        assert!((found.tokens_per_second.unwrap() - 20.0).abs() < 1e-9);
        assert_eq!(statistics(&[]), Statistics::default());
    }

    #[test]
    fn an_answer_has_no_more_points_than_it_may() {
        let range = Range { from: 0, to: u64::MAX, step: Some(1) };
        assert_eq!(range.points(9), POINTS_MAX / 9);
        assert_eq!(Range { from: 0, to: 3600, step: Some(60) }.points(9), 60);
        assert_eq!(Range { from: 5, to: 5, step: Some(60) }.points(9), 1);
    }
}
