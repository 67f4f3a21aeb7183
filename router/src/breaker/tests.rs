use proptest::prelude::*;

use super::*;
use crate::outcome::{Failure, FailureKind, Origin, Outcome, Retry, Stage};

fn breaker(now: Instant) -> Arc<Breaker> {
    Arc::new(Breaker::new(BreakerSpec::default(), now))
}

fn rng() -> fastrand::Rng {
    fastrand::Rng::with_seed(7)
}

fn attempt(breaker: &Arc<Breaker>, class: BreakerClass, now: Instant) -> Option<Transition> {
    let permit = breaker.admit(now).unwrap();
    breaker.resolve(permit, class, now, &mut rng())
}

/// Opens it and gives the moment when its time is over.
fn open(breaker: &Arc<Breaker>, now: Instant) -> Instant {
    let changes = (0..5).filter_map(|_| attempt(breaker, BreakerClass::Failure, now));
    let changes: Vec<_> = changes.collect();
    assert_eq!(changes.len(), 1, "opens once");
    now + changes[0].open_for.unwrap()
}

#[test]
fn five_failures_in_a_row_open_and_a_success_in_between_does_not_let_them() {
    let now = Instant::now();
    let breaker = breaker(now);
    for class in [BreakerClass::Failure; 4] {
        assert_eq!(attempt(&breaker, class, now), None);
    }
    attempt(&breaker, BreakerClass::Success, now);
    for class in [BreakerClass::Failure; 4] {
        assert_eq!(attempt(&breaker, class, now), None);
    }
    assert!(attempt(&breaker, BreakerClass::Failure, now).is_some());
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[test]
fn refusals_open_by_rate_alone_and_only_with_enough_requests() {
    let now = Instant::now();
    let breaker = breaker(now);
    for _ in 0..9 {
        attempt(&breaker, BreakerClass::Success, now);
    }
    for _ in 0..10 {
        assert_eq!(attempt(&breaker, BreakerClass::Refusal, now), None);
    }
    assert!(attempt(&breaker, BreakerClass::Refusal, now).is_some(), "9 of 20 is under half");
}

#[test]
fn half_of_the_requests_failing_opens_within_the_window() {
    let start = Instant::now();
    let breaker = breaker(start);
    let mut opened = None;
    for step in 0..200 {
        let now = start + Duration::from_millis(50 * step);
        // Three of five fail, never five in a row.
        let class = if step % 5 < 3 { BreakerClass::Failure } else { BreakerClass::Success };
        if attempt(&breaker, class, now).is_some() {
            opened = Some(now - start);
            break;
        }
    }
    assert!(opened.is_some_and(|span| span <= Duration::from_secs(10)), "{opened:?}");
}

#[test]
fn what_happened_before_the_window_does_not_count() {
    let start = Instant::now();
    let breaker = breaker(start);
    for _ in 0..19 {
        attempt(&breaker, BreakerClass::Refusal, start);
    }
    let later = start + Duration::from_secs(11);
    assert_eq!(attempt(&breaker, BreakerClass::Refusal, later), None);
}

#[test]
fn open_admits_nobody_until_its_time_is_over_then_one() {
    let now = Instant::now();
    let breaker = breaker(now);
    let until = open(&breaker, now);
    assert!(until >= now + Duration::from_secs(27) && until <= now + Duration::from_secs(33));
    let before = until - Duration::from_millis(1);
    assert_eq!(breaker.admit(before).unwrap_err(), Rejected::Open { until });
    let trial = breaker.admit(until).unwrap();
    assert!(trial.is_trial());
    assert_eq!(breaker.admit(until).unwrap_err(), Rejected::TrialUnderWay);
    drop(trial);
    let trial = breaker.admit(until).unwrap();
    let change = breaker.resolve(trial, BreakerClass::Success, until, &mut rng()).unwrap();
    assert_eq!((change.from, change.to), (BreakerState::HalfOpen, BreakerState::Closed));
    assert!(!breaker.admit(until).unwrap().is_trial());
}

#[test]
fn time_open_doubles_with_failed_trials_up_to_its_limit() {
    let mut now = Instant::now();
    let breaker = breaker(now);
    now = open(&breaker, now);
    for about in [60.0, 120.0, 240.0, 300.0, 300.0] {
        let trial = breaker.admit(now).unwrap();
        let change = breaker.resolve(trial, BreakerClass::Failure, now, &mut rng()).unwrap();
        let span = change.open_for.unwrap();
        let seconds = span.as_secs_f64();
        assert!((about * 0.9..=f64::min(about * 1.1, 300.0)).contains(&seconds), "{seconds}");
        now += span;
    }
}

#[test]
fn a_refusal_fails_a_trial_without_doubling() {
    let now = Instant::now();
    let breaker = breaker(now);
    let until = open(&breaker, now);
    let trial = breaker.admit(until).unwrap();
    let change = breaker.resolve(trial, BreakerClass::Refusal, until, &mut rng()).unwrap();
    assert_eq!(change.to, BreakerState::Open);
    assert!(change.open_for.unwrap() <= Duration::from_secs(33));
}

#[test]
fn stragglers_change_nothing() {
    let now = Instant::now();
    let breaker = breaker(now);
    let early: Vec<_> = (0..3).map(|_| breaker.admit(now).unwrap()).collect();
    let until = open(&breaker, now);
    let mut early = early.into_iter();
    let mut end = |class| breaker.resolve(early.next().unwrap(), class, now, &mut rng());
    assert_eq!(end(BreakerClass::Success), None);
    assert_eq!(breaker.state(), BreakerState::Open);
    let trial = breaker.admit(until).unwrap();
    assert_eq!(end(BreakerClass::Failure), None);
    breaker.resolve(trial, BreakerClass::Success, until, &mut rng());
    assert_eq!(end(BreakerClass::Failure), None);
    assert_eq!(breaker.counts(until), (1, 0), "only the trial counts after the change");
}

#[test]
fn a_passed_probe_half_opens_unless_a_trial_failed_a_moment_ago() {
    let now = Instant::now();
    let breaker = breaker(now);
    open(&breaker, now);
    let now = now + Duration::from_secs(1);
    let change = breaker.probe_passed(now).unwrap();
    assert_eq!((change.from, change.to), (BreakerState::Open, BreakerState::HalfOpen));
    let trial = breaker.admit(now).unwrap();
    breaker.resolve(trial, BreakerClass::Failure, now, &mut rng());
    assert_eq!(breaker.probe_passed(now + Duration::from_millis(9_999)), None);
    assert!(breaker.probe_passed(now + TRIAL_REST).is_some());
}

#[test]
fn a_flapping_backend_opens_at_most_once_in_ten_seconds_after_its_first_relapse() {
    // Up for two seconds, down for two; asked 20 times a second, probed every second.
    let start = Instant::now();
    let breaker = breaker(start);
    let mut opened = Vec::new();
    for step in 0..1200_u64 {
        let now = start + Duration::from_millis(50 * step);
        let up = (step / 40) % 2 == 1;
        if up && step % 20 == 0 {
            breaker.probe_passed(now);
        }
        let class = if up { BreakerClass::Success } else { BreakerClass::Failure };
        let Ok(permit) = breaker.admit(now) else { continue };
        let change = breaker.resolve(permit, class, now, &mut rng());
        if change.is_some_and(|change| change.from == BreakerState::Closed) {
            opened.push(now - start);
        }
    }
    assert!(opened.len() >= 2, "{opened:?}");
    for pair in opened.windows(2).skip(1) {
        assert!(pair[1] - pair[0] >= Duration::from_secs(10), "{opened:?}");
    }
}

#[test]
fn a_late_failure_takes_its_success_back() {
    let now = Instant::now();
    let breaker = breaker(now);
    // Every stream begins well and dies: a success that is taken back ends no row of failures.
    let opened = (1..=20).find(|_| {
        attempt(&breaker, BreakerClass::Success, now);
        breaker.fail_late(now, now, &mut rng()).is_some()
    });
    assert_eq!(opened, Some(5));
}

#[test]
fn late_failures_between_lasting_successes_open_by_their_rate() {
    let now = Instant::now();
    let breaker = breaker(now);
    let opened = (1..=40).find(|_| {
        attempt(&breaker, BreakerClass::Success, now);
        attempt(&breaker, BreakerClass::Success, now);
        attempt(&breaker, BreakerClass::Success, now);
        (0..2).any(|_| breaker.fail_late(now, now, &mut rng()).is_some())
    });
    // Two of three fail, never five in a row: at 20 of them.
    assert_eq!(opened, Some(7));
}

#[test]
fn five_late_failures_in_a_row_open() {
    let now = Instant::now();
    let breaker = breaker(now);
    for _ in 0..50 {
        attempt(&breaker, BreakerClass::Success, now);
    }
    let changes = (0..5).filter_map(|_| breaker.fail_late(now, now, &mut rng())).count();
    assert_eq!(changes, 1);
}

#[test]
fn streams_that_began_before_a_recovery_do_not_undo_it() {
    let start = Instant::now();
    let breaker = breaker(start);
    let until = open(&breaker, start);
    let trial = breaker.admit(until).unwrap();
    breaker.resolve(trial, BreakerClass::Success, until, &mut rng());
    // The network is back; what it cut off stalls out now, one stream after the other.
    let now = until + Duration::from_secs(5);
    assert!((0..50).all(|_| breaker.fail_late(start, now, &mut rng()).is_none()));
    assert_eq!(breaker.counts(now), (1, 0));
    // The trial's own stream is none of them.
    let opened = (1..=5).find(|_| breaker.fail_late(until, now, &mut rng()).is_some());
    assert_eq!(opened, Some(5));
}

#[test]
fn a_panic_trial_closes_an_open_breaker_and_its_failure_leaves_it_as_it_was() {
    let now = Instant::now();
    let breaker = breaker(now);
    let until = open(&breaker, now);
    let trial = breaker.admit_in_panic(now).unwrap();
    assert!(breaker.admit_in_panic(now).is_err(), "one at a time");
    assert_eq!(breaker.resolve(trial, BreakerClass::Failure, now, &mut rng()), None);
    assert_eq!(breaker.look(now), Admission::Rejected(Rejected::Open { until }));
    let trial = breaker.admit_in_panic(now).unwrap();
    let change = breaker.resolve(trial, BreakerClass::Success, now, &mut rng()).unwrap();
    assert_eq!((change.from, change.to), (BreakerState::Open, BreakerState::Closed));
}

#[test]
fn every_outcome_has_its_class() {
    use BreakerClass::{Failure as Broken, Neutral, Refusal, Success};
    let of = |kind, retry| {
        let (origin, stage) = (Origin::Upstream, Stage::AwaitHead);
        breaker_class(&Outcome::Failure(Failure { origin, stage, kind, retry, retry_after: None }))
    };
    assert_eq!(breaker_class(&Outcome::Success), Success);
    assert_eq!(breaker_class(&Outcome::Abandoned), Neutral);
    for (kind, class) in [
        (FailureKind::ConnectFailed, Broken),
        (FailureKind::ConnectTimeout, Broken),
        (FailureKind::TlsFailed, Broken),
        (FailureKind::ConnectionLost, Broken),
        (FailureKind::BadResponse, Broken),
        (FailureKind::FirstEventTimeout, Broken),
        (FailureKind::IdleTimeout, Broken),
        (FailureKind::ServerError, Broken),
        (FailureKind::Unauthorized, Broken),
        (FailureKind::ErrorEvent, Broken),
        (FailureKind::Unfinished, Broken),
        (FailureKind::Overloaded, Refusal),
        (FailureKind::ResponseTimeout, Neutral),
        (FailureKind::TotalTimeout, Neutral),
        (FailureKind::ModelAbsent, Neutral),
        (FailureKind::ClientFault, Neutral),
    ] {
        assert_eq!(of(kind, Retry::OtherBackend), class, "{kind:?}");
        assert_eq!(of(kind, Retry::SameBackend), Neutral, "{kind:?} on a reused connection");
    }
}

/// What may happen to a breaker.
#[derive(Debug, Clone)]
enum Step {
    Admit,
    Panic,
    Resolve(usize, BreakerClass),
    Abandon(usize),
    Late,
    Probe,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let class = prop_oneof![
        1 => Just(BreakerClass::Success),
        4 => Just(BreakerClass::Failure),
        1 => Just(BreakerClass::Refusal),
        1 => Just(BreakerClass::Neutral),
    ];
    let step = prop_oneof![
        4 => Just(Step::Admit),
        1 => Just(Step::Panic),
        6 => (any::<usize>(), class).prop_map(|(at, class)| Step::Resolve(at, class)),
        1 => any::<usize>().prop_map(Step::Abandon),
        1 => Just(Step::Late),
        1 => Just(Step::Probe),
        2 => (0..40_000_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn whatever_happens_the_rules_hold(steps in steps(), seed in any::<u64>()) {
        let mut now = Instant::now();
        let mut rng = fastrand::Rng::with_seed(seed);
        let breaker = breaker(now);
        let mut held: Vec<Permit> = Vec::new();
        for step in steps {
            let before = breaker.state();
            let trials = held.iter().filter(|permit| permit.is_trial()).count();
            match step {
                Step::Wait(millis) => now += Duration::from_millis(millis),
                Step::Admit => match (breaker.look(now), breaker.admit(now)) {
                    (Admission::Free, Ok(permit)) => {
                        prop_assert!(!permit.is_trial());
                        held.push(permit);
                    }
                    (Admission::Trial, Ok(permit)) => {
                        prop_assert!(permit.is_trial() && trials == 0);
                        prop_assert_eq!(breaker.state(), BreakerState::HalfOpen);
                        held.push(permit);
                    }
                    (Admission::Rejected(said), Err(done)) => prop_assert_eq!(said, done),
                    (said, done) => prop_assert!(false, "said {said:?}, did {done:?}"),
                },
                Step::Panic => match breaker.admit_in_panic(now) {
                    Ok(permit) => {
                        prop_assert_eq!(trials, 0);
                        held.push(permit);
                    }
                    Err(_) => prop_assert_eq!(trials, 1, "only a trial under way refuses"),
                },
                Step::Resolve(at, class) if !held.is_empty() => {
                    let permit = held.swap_remove(at % held.len());
                    let was_trial = permit.is_trial();
                    let change = breaker.resolve(permit, class, now, &mut rng);
                    let after = breaker.state();
                    match change {
                        Some(change) => {
                            prop_assert_eq!((change.from, change.to), (before, after));
                            prop_assert!(class != BreakerClass::Neutral);
                            prop_assert!(was_trial || before == BreakerState::Closed);
                            let success = class == BreakerClass::Success;
                            prop_assert_eq!(success, after == BreakerState::Closed);
                        }
                        None => prop_assert_eq!(before, after),
                    }
                    if was_trial && class == BreakerClass::Success {
                        prop_assert_eq!(after, BreakerState::Closed);
                    }
                }
                Step::Abandon(at) if !held.is_empty() => {
                    drop(held.swap_remove(at % held.len()));
                    prop_assert_eq!(breaker.state(), before, "leaving says nothing");
                }
                Step::Resolve(..) | Step::Abandon(_) => {}
                Step::Late => {
                    let change = breaker.fail_late(now, now, &mut rng);
                    prop_assert!(change.is_none() || before == BreakerState::Closed);
                }
                Step::Probe => {
                    let change = breaker.probe_passed(now);
                    prop_assert!(change.is_none() || before == BreakerState::Open);
                }
            }
            let trials = held.iter().filter(|permit| permit.is_trial()).count();
            prop_assert!(trials <= 1, "two trials at once");
        }
        // Nothing is stuck: with all permits gone and time passed, someone is admitted.
        held.clear();
        prop_assert!(breaker.admit(now + Duration::from_secs(301)).is_ok());
    }
}
