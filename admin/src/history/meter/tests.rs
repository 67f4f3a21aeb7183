//! Whatever the times of the readings, nothing that was counted is lost or counted twice.

use std::time::Duration;

use proptest::prelude::*;
use router::{BackendName, ModelName};

use super::*;

fn tally(requests: u64, failures: u64, tokens: u64) -> Tally {
    Tally {
        requests,
        failures,
        output_tokens: tokens,
        busy: Duration::from_millis(100 * requests),
        first_events: (requests, Duration::from_millis(20 * requests)),
        ..Tally::default()
    }
}

fn reading(at: Instant, backend: Tally, model: Tally) -> Reading {
    let totals = Totals {
        backends: vec![(BackendName::try_from("b").unwrap(), backend)],
        models: vec![(ModelName::try_from("m").unwrap(), model)],
    };
    Reading { at, backends: Vec::new(), totals, queues: Vec::new() }
}

fn value(samples: &[Sample], kind: &str, metric: Metric) -> Option<f64> {
    let found = samples
        .iter()
        .find(|sample| sample.subject.kind == kind && sample.metric == metric.as_str());
    found.map(|sample| sample.value)
}

#[test]
fn differences_become_rates_and_means() {
    let mut meter = Meter::default();
    let start = Instant::now();
    let first = [("p".to_owned(), reading(start, tally(100, 10, 1000), tally(50, 0, 0)))];
    assert_eq!(meter.measure(&first, 1000), [], "a first reading is no difference");
    let later = start + Duration::from_secs(10);
    let next = [("p".to_owned(), reading(later, tally(120, 15, 3000), tally(50, 0, 0)))];
    let samples = meter.measure(&next, 1010);
    let near = |metric, expected: f64| {
        let found = value(&samples, BACKEND, metric).unwrap();
        assert!((found - expected).abs() < 1e-6, "{metric:?}: {found}");
    };
    near(Metric::Requests, 2.0);
    near(Metric::Errors, 0.5);
    near(Metric::TokensPerSecond, 200.0);
    near(Metric::DurationMs, 100.0);
    near(Metric::FirstEventMs, 20.0);
    assert_eq!(value(&samples, MODEL, Metric::Requests), None, "nobody asked for it yet");
}

#[test]
fn a_plane_that_began_anew_gives_no_negative_rates() {
    let mut meter = Meter::default();
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    meter.measure(&[("p".to_owned(), reading(at(0), tally(100, 0, 0), tally(1, 0, 0)))], 0);
    let samples =
        meter.measure(&[("p".to_owned(), reading(at(10), tally(3, 0, 0), tally(0, 0, 0)))], 10);
    assert_eq!(value(&samples, BACKEND, Metric::Requests), None);
    let samples =
        meter.measure(&[("p".to_owned(), reading(at(20), tally(13, 0, 0), tally(0, 0, 0)))], 20);
    assert_eq!(value(&samples, BACKEND, Metric::Requests), Some(1.0));
}

#[test]
fn a_model_is_written_down_for_a_while_after_its_last_request() {
    let mut meter = Meter::default();
    let start = Instant::now();
    let mut seen = 0;
    for turn in 0..200_u32 {
        let at = start + INTERVAL * turn;
        let model = tally(u64::from(turn.min(1)), 0, 0);
        let readings = [("p".to_owned(), reading(at, tally(0, 0, 0), model))];
        let samples = meter.measure(&readings, u64::from(turn) * 10);
        seen += u32::from(value(&samples, MODEL, Metric::Requests).is_some());
    }
    assert_eq!(seen, 1 + QUIET_READINGS);
}

const INTERVAL: Duration = Duration::from_secs(10);

proptest! {
    #[test]
    fn nothing_is_lost_or_counted_twice(
        steps in prop::collection::vec((1_u64..60, 0_u64..500, 0_u64..500), 1..40),
    ) {
        let mut meter = Meter::default();
        let mut at = Instant::now();
        let (mut one, mut two, mut counted) = (0, 0, 0.0);
        for (turn, (seconds, more, other)) in std::iter::once((0, 0, 0)).chain(steps).enumerate() {
            at += Duration::from_secs(seconds);
            one += more;
            two += other;
            let readings = [
                ("one".to_owned(), reading(at, tally(one, 0, 0), tally(0, 0, 0))),
                ("two".to_owned(), reading(at, tally(two, 0, 0), tally(0, 0, 0))),
            ];
            let samples = meter.measure(&readings, turn as u64 * 10);
            if let Some(rate) = value(&samples, BACKEND, Metric::Requests) {
                prop_assert!(rate >= 0.0);
                counted += rate * seconds as f64;
            }
        }
        prop_assert!((counted - (one + two) as f64).abs() < 1e-6, "{counted}");
    }
}
