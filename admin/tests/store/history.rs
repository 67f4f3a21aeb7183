//! History: what was measured comes back, coarser with age, and the longest range in a bounded time.

use std::time::Instant;

use admin::store::{POINTS_MAX, STEPS, Sample, Series, Store, StoreError, Subject};

use crate::Place;

const HOUR: u64 = 60 * 60;
/// A multiple of every step.
const START: u64 = 1_700_000_100 / 900 * 900;

fn sample(name: &str, metric: &str, at: u64, value: f64) -> Sample {
    Sample { subject: Subject::new("backend", name), metric: metric.to_owned(), at, value }
}

fn ask(store: &Store, name: &str, from: u64, to: u64, points: usize) -> Vec<Series> {
    let subject = Subject::new("backend", name);
    store.read_blocking(move |tx| tx.history(&subject, &[], from, to, points)).unwrap()
}

fn roll_up(store: &Store, now: u64) {
    while store.write_blocking(move |tx| tx.roll_up(now)).unwrap() {}
}

#[test]
fn fresh_values_come_back_as_they_were() {
    let place = Place::new();
    let store = place.writer();
    let add = |samples: Vec<Sample>| store.write_blocking(move |tx| tx.add_samples(&samples));
    for tick in 0..6 {
        let at = START + tick * 10 + 3;
        let values = vec![
            sample("a", "in_flight", at, tick as f64),
            sample("b", "in_flight", at, 100.0),
            sample("a", "broken", at, f64::NAN),
        ];
        add(values).unwrap();
        add(vec![sample("a", "vram", at, 80e9)]).unwrap();
    }
    let series = ask(&store, "a", START, START + 40, 1000);
    assert_eq!(series.len(), 2);
    assert_eq!((series[0].metric.as_str(), series[0].step), ("in_flight", 10));
    let points: Vec<_> = series[0].points.iter().map(|point| (point.at, point.value)).collect();
    assert_eq!(points, [(START, 0.0), (START + 10, 1.0), (START + 20, 2.0), (START + 30, 3.0)]);
    assert!((series[1].points[0].value - 80e9).abs() < 10_000.0);
    // Fewer points are means of more.
    let series = ask(&store, "a", START, START + 60, 2);
    let points: Vec<_> = series[0].points.iter().map(|point| point.value).collect();
    assert_eq!((points, series[0].step), (vec![1.0, 4.0], 30));
    let only = store
        .read_blocking(|tx| tx.history(&Subject::new("backend", "a"), &["vram"], 0, u64::MAX, 10));
    assert_eq!(only.unwrap().len(), 1);
    assert!(ask(&store, "unknown", 0, u64::MAX, 10).is_empty());
    assert!(ask(&store, "a", START + HOUR, START, 10).is_empty());
}

#[test]
fn a_range_reads_the_finest_step_that_reaches_back_and_the_newest_values_too() {
    let place = Place::new();
    let store = place.writer();
    let end = START + 30 * HOUR + 250;
    let write = store.write_blocking(move |tx| {
        let mut at = START;
        while at < end {
            tx.add_samples(&[sample("a", "m", at, ((at - START) / HOUR) as f64)])?;
            if at.is_multiple_of(600) {
                while tx.roll_up(at)? {}
            }
            at += 10;
        }
        while tx.roll_up(end)? {}
        Ok::<_, StoreError>(())
    });
    write.unwrap();
    let last = |from: u64| {
        let series = ask(&store, "a", from, u64::MAX, POINTS_MAX).remove(0);
        let points = &series.points;
        let (first, last) = (points[0], *points.last().unwrap());
        assert!((last.value - 30.0).abs() < 0.1, "{last:?}");
        assert!((first.value - ((first.at - START) / HOUR) as f64).abs() < 0.01, "{first:?}");
        // No gap from the first to the last.
        let gaps = points.windows(2).filter(|pair| pair[1].at - pair[0].at != series.step);
        assert_eq!(gaps.count(), 0);
        (series.step, first.at)
    };
    assert_eq!(last(end - 5 * HOUR).0, 10);
    assert_eq!(last(end - 10 * HOUR), (60, (end - 10 * HOUR) / 60 * 60));
    assert_eq!(last(0), (60, START));
    // What is too old has gone, and only that.
    let kept = store.read_blocking(|tx| tx.check_integrity());
    kept.unwrap();
    let conn = rusqlite::Connection::open(place.path()).unwrap();
    let count = |step: u64| {
        let sql = "SELECT count(*) FROM samples WHERE step = ?1";
        conn.query_row(sql, [step], |row| row.get::<_, u64>(0)).unwrap()
    };
    assert_eq!(count(10), STEPS[0].kept / 10);
    assert_eq!(count(60), (end - START) / 60);
    assert_eq!(count(900), (end - START) / 900);
}

#[test]
fn a_long_pause_and_a_clock_that_was_set_back_stop_nothing() {
    let place = Place::new();
    let store = place.writer();
    let add =
        |at: u64| store.write_blocking(move |tx| tx.add_samples(&[sample("a", "m", at, 1.0)]));
    add(START).unwrap();
    add(START + 10).unwrap();
    // A month later.
    let later = START + 30 * 24 * HOUR;
    add(later).unwrap();
    roll_up(&store, later + 2000);
    assert_eq!(ask(&store, "a", 0, u64::MAX, 100)[0].points.len(), 2);
    // The clock was a day ahead.
    let earlier = later - 24 * HOUR;
    for tick in 0..200 {
        add(earlier + tick * 10).unwrap();
    }
    roll_up(&store, earlier + 2000);
    let count = |series: &[Series]| series[0].points.len();
    assert!(count(&ask(&store, "a", 0, later - HOUR, 1000)) >= 3);
    // Too old is too old.
    roll_up(&store, later + 200 * 24 * HOUR);
    assert!(ask(&store, "a", 0, u64::MAX, 100).is_empty());
}

/// The biggest range of one of 500 backends, with everything in the file that 90 days leave there.
#[test]
fn the_biggest_range_is_read_in_a_bounded_number_of_steps() {
    let place = Place::new();
    let store = place.writer();
    drop(store);
    let conn = rusqlite::Connection::open(place.path()).unwrap();
    // Ninety days of 500 backends in the coarse step: as many rows as the longest range looks through.
    conn.execute_batch(
        "PRAGMA synchronous = off;
         BEGIN;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
         INSERT INTO subjects (id, kind, name, seen) SELECT i, 'backend', 'b' || i, 2000000000 FROM n;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9)
         INSERT INTO metrics (id, name) SELECT i, 'm' || i FROM n;",
    )
    .unwrap();
    let packed: Vec<u8> =
        (1..=9_u8).flat_map(|m| [[m].as_slice(), &1.5_f32.to_le_bytes()].concat()).collect();
    let fill = "WITH RECURSIVE t(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM t WHERE i < 8639),
                               s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 500)
                INSERT INTO samples (step, at, subject, packed)
                SELECT 900, ?1 + t.i * 900, s.i, ?2 FROM t, s WHERE (t.i + s.i) % 10 = 0";
    conn.execute(fill, rusqlite::params![START, packed]).unwrap();
    conn.execute_batch(
        "INSERT INTO meta (name, value) VALUES ('rolled_900', '9999999999'); COMMIT;",
    )
    .unwrap();
    drop(conn);
    let store = place.writer();
    let begun = Instant::now();
    let series = ask(&store, "b250", 0, u64::MAX, POINTS_MAX);
    println!("90 days of one backend, 9 metrics: {:?}", begun.elapsed());
    assert_eq!(series.len(), 9);
    assert!(series.iter().all(|series| series.step == 900 && series.points.len() == 864));
}
