use super::*;
use crate::budget::Budget;
use crate::fixture::{backend, failed, failure};
use crate::outcome::{Origin, Stage};

fn live(now: Instant) -> Arc<Backend<()>> {
    let spec = SnapshotSpec::default();
    Arc::new(Backend::new(&backend("b", "eu", &["m"]), Settings::of(&spec), (), now))
}

fn rng() -> fastrand::Rng {
    fastrand::Rng::with_seed(1)
}

fn attempt(live: &Backend<()>, outcome: &Outcome, now: Instant) -> Option<Transition> {
    let permit = live.breaker.admit(now).unwrap();
    live.report(permit, outcome, now, &mut rng())
}

#[test]
fn a_first_event_timeout_counts_only_if_nobody_got_an_event_meanwhile() {
    let start = Instant::now();
    let later = start + Duration::from_secs(120);
    let outcome = failed(FailureKind::FirstEventTimeout);
    let dead = live(start);
    let busy = live(start);
    for live in [&dead, &busy] {
        let permits: Vec<_> = (0..5).map(|_| live.breaker.admit(start).unwrap()).collect();
        if Arc::ptr_eq(live, &busy) {
            live.record_event_activity(start + Duration::from_secs(60));
        }
        for permit in permits {
            live.report(permit, &outcome, later, &mut rng());
        }
    }
    assert_eq!(dead.status(later).breaker, BreakerState::Open);
    assert_eq!(busy.status(later).breaker, BreakerState::Closed);
}

#[test]
fn a_slow_plain_answer_says_nothing() {
    let now = Instant::now();
    let live = live(now);
    for _ in 0..50 {
        assert_eq!(attempt(&live, &failed(FailureKind::ResponseTimeout), now), None);
    }
}

#[test]
fn a_retry_after_rests_the_backend_up_to_the_limit() {
    let now = Instant::now();
    let live = live(now);
    let rest = |seconds| {
        let retry_after = Some(Duration::from_secs(seconds));
        Outcome::Failure(Failure { retry_after, ..failure(FailureKind::Overloaded) })
    };
    attempt(&live, &rest(5), now);
    assert_eq!(live.status(now).resting, Some(Duration::from_secs(5)));
    attempt(&live, &rest(3600), now);
    assert_eq!(live.status(now).resting, Some(Duration::from_secs(60)));
    attempt(&live, &rest(1), now);
    assert_eq!(live.status(now).resting, Some(Duration::from_secs(60)), "the longest holds");
    assert_eq!(live.status(now + Duration::from_secs(60)).resting, None);
    assert_eq!(live.status(now).breaker, BreakerState::Closed);
}

#[test]
fn mid_stream_deaths_open_and_downstream_ends_do_not() {
    let now = Instant::now();
    let live = live(now);
    let left = Failure {
        origin: Origin::Downstream,
        stage: Stage::MidStream,
        ..failure(FailureKind::ConnectionLost)
    };
    for _ in 0..50 {
        assert_eq!(live.report_mid_stream(&left, now, now, &mut rng()), None);
    }
    let stalled = Failure { stage: Stage::MidStream, ..failure(FailureKind::IdleTimeout) };
    let opened = (0..5).filter_map(|_| live.report_mid_stream(&stalled, now, now, &mut rng()));
    assert_eq!(opened.count(), 1);
}

#[test]
fn refused_credentials_degrade_until_they_are_accepted() {
    let now = Instant::now();
    let live = live(now);
    live.record_probe(ProbeResult::Passed, now);
    attempt(&live, &failed(FailureKind::Unauthorized), now);
    assert_eq!(live.status(now).state, HealthState::Degraded);
    attempt(&live, &Outcome::Success, now);
    assert_eq!(live.status(now).state, HealthState::Online);
}

#[test]
fn closing_the_breaker_begins_a_ramp() {
    let start = Instant::now();
    let live = live(start);
    let now = start + Duration::from_secs(60);
    while live.breaker.is_closed() {
        attempt(&live, &failed(FailureKind::ConnectFailed), now);
    }
    assert!(live.record_probe(ProbeResult::Passed, now).unwrap().breaker.is_some());
    let back = now + Duration::from_secs(1);
    assert_eq!(attempt(&live, &Outcome::Success, back).unwrap().to, BreakerState::Closed);
    assert!(live.ramp(back) < 0.2 && live.ramp(back + Duration::from_secs(10)) >= 1.0);
}

#[test]
fn slots_hold_the_cap_across_threads_and_come_back() {
    let now = Instant::now();
    let mut spec = backend("b", "eu", &["m"]);
    spec.max_in_flight = Some(3);
    let settings = Settings::of(&SnapshotSpec::default());
    let live = Arc::new(Backend::new(&spec, settings, (), now));
    let (budget, model) = (Arc::new(Budget::new(now)), Arc::new(Cap::new(None)));
    let most = std::thread::scope(|scope| {
        let run = || {
            let mut most = 0;
            for _ in 0..10_000 {
                if let Some(slot) = live.slot(&model, &budget) {
                    most = most.max(live.in_flight());
                    drop(slot);
                }
            }
            most
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).max()
    });
    assert!(most.is_some_and(|most| (1..=3).contains(&most)), "{most:?}");
    assert_eq!((live.in_flight(), model.taken(), budget.active()), (0, 0, 0));
}

#[test]
fn a_drain_shows_and_ends_with_a_ramp() {
    let start = Instant::now();
    let live = live(start);
    let now = start + Duration::from_secs(60);
    live.drain();
    assert_eq!(live.status(now).state, HealthState::Draining);
    live.resume(now);
    assert!(!live.is_drained() && live.ramp(now) < 0.2);
}
