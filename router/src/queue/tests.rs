use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

fn tenant(name: &str) -> Option<TenantName> {
    Some(TenantName::try_from(name).unwrap())
}

fn entrant(who: &str, priority: i32, kind: u64, now: Instant) -> Entrant {
    Entrant { tenant: tenant(who), priority, kind, joined: now, deadline: now + PATIENCE }
}

/// Who is served, while there is a place for everyone.
fn drain<T>(queue: &mut Queue<T>, now: Instant) -> Vec<T> {
    queue.hope();
    let mut served = Vec::new();
    while let Some(ticket) = queue.pick() {
        served.extend(queue.granted(ticket, now));
    }
    served
}

#[test]
fn tenants_take_turns_and_each_is_served_in_order() {
    let now = Instant::now();
    let mut queue = Queue::default();
    for who in ["a1", "a2", "a3", "a4", "b1", "c1", "b2"] {
        queue.join(entrant(&who[..1], 0, 0, now), who, 256).unwrap();
    }
    assert_eq!(drain(&mut queue, now), ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]);
    assert!(queue.is_empty());
}

#[test]
fn higher_goes_first_and_one_in_eight_is_lower() {
    let now = Instant::now();
    let mut queue = Queue::default();
    for _ in 0..10 {
        queue.join(entrant("low", 0, 0, now), "low", 256).unwrap();
    }
    for _ in 0..20 {
        queue.join(entrant("high", 5, 0, now), "high", 256).unwrap();
    }
    let served = drain(&mut queue, now);
    let lows: Vec<_> = (0..served.len()).filter(|at| served[*at] == "low").take(2).collect();
    assert_eq!(lows, [7, 15]);
    assert!(served[22..].iter().all(|who| *who == "low"), "{served:?}");
}

#[test]
fn of_several_lower_ones_none_starves() {
    let now = Instant::now();
    let mut queue = Queue::default();
    for (who, priority) in [("low", -1), ("lowest", -9)] {
        queue.join(entrant(who, priority, 0, now), who, 256).unwrap();
    }
    let mut served = Vec::new();
    for _ in 0..40 {
        for (who, priority) in [("high", 1), ("low", -1)] {
            queue.join(entrant(who, priority, 0, now), who, 256).unwrap();
        }
        queue.hope();
        let ticket = queue.pick().unwrap();
        served.extend(queue.granted(ticket, now));
    }
    assert!(served.contains(&"lowest"), "{served:?}");
}

#[test]
fn who_cannot_use_a_place_does_not_stand_in_the_way() {
    let now = Instant::now();
    let mut queue = Queue::default();
    queue.join(entrant("a", 9, 1, now), "eu", 256).unwrap();
    queue.join(entrant("a", 9, 1, now), "eu too", 256).unwrap();
    queue.join(entrant("a", 0, 2, now), "us", 256).unwrap();
    let first = queue.pick().unwrap();
    queue.decline(first);
    let second = queue.pick().unwrap();
    assert_eq!(queue.granted(second, now), Some("us"));
    assert_eq!(queue.pick(), None);
    queue.refile(first, 3);
    assert_eq!(queue.pick(), Some(first));
    queue.hope();
    assert_eq!(drain(&mut queue, now), ["eu", "eu too"]);
}

#[test]
fn a_full_queue_yields_to_higher_priorities_and_to_tenants_with_less() {
    let now = Instant::now();
    let mut queue = Queue::default();
    for who in ["a1", "a2", "a3", "b1"] {
        queue.join(entrant(&who[..1], 0, 0, now), who, 4).unwrap();
    }
    assert_eq!(queue.join(entrant("a", 0, 0, now), "a4", 4).unwrap_err(), "a4");
    assert_eq!(queue.join(entrant("a", -1, 0, now), "a5", 4).unwrap_err(), "a5");
    let joined = queue.join(entrant("b", 0, 0, now), "b2", 4).unwrap();
    assert_eq!(joined.displaced, Some("a3"));
    assert_eq!(queue.join(entrant("b", 0, 0, now), "b3", 4).unwrap_err(), "b3");
    let joined = queue.join(entrant("c", 1, 0, now), "c1", 4).unwrap();
    assert!(joined.displaced.is_some());
    assert_eq!(queue.len(), 4);
    assert_eq!(drain(&mut queue, now)[0], "c1");
    assert!(Queue::default().join(entrant("a", 0, 0, now), (), 0).is_err());
}

#[test]
fn deadlines_come_in_their_order_and_the_wait_is_worked_out() {
    let start = Instant::now();
    let mut queue = Queue::default();
    assert_eq!((queue.oldest(start), queue.expected(start)), (None, None));
    for (who, seconds) in [("late", 9), ("soon", 3), ("middle", 6)] {
        let deadline = start + Duration::from_secs(seconds);
        let entrant = Entrant { deadline, ..entrant("a", 0, 0, start) };
        queue.join(entrant, who, 256).unwrap();
    }
    let now = start + Duration::from_secs(6);
    assert_eq!(queue.oldest(now), Some(Duration::from_secs(6)));
    assert_eq!(queue.expired(now), Some("soon"));
    assert_eq!(queue.expired(now), Some("middle"));
    assert_eq!(queue.expired(now), None);
    let ticket = queue.pick().unwrap();
    assert_eq!(queue.granted(ticket, now), Some("late"));
    // One in six seconds, and nobody in front.
    let expected = queue.expected(now).unwrap().as_secs_f64();
    assert!((5.0..7.0).contains(&expected), "{expected}");
}

/// What may happen to a queue.
#[derive(Debug, Clone)]
enum Step {
    Join {
        tenant: u8,
        priority: i32,
        kind: u64,
        patience: u64,
    },
    /// Someone leaves by himself.
    Leave(usize),
    /// So many places become free; kinds below the number cannot use them.
    Free {
        places: usize,
        above: u64,
    },
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_u8, -1..2_i32, 0..3_u64, 1..40_u64).prop_map(
            |(tenant, priority, kind, patience)| Step::Join { tenant, priority, kind, patience }
        ),
        1 => (0..64_usize).prop_map(Step::Leave),
        2 => (0..4_usize, 0..3_u64).prop_map(|(places, above)| Step::Free { places, above }),
        1 => (0..5_u64).prop_map(Step::Wait),
    ]
}

const SIZE: usize = 12;

proptest! {
    /// Bounded; nobody is served twice, after he left or after his deadline; no place stays free that someone could use.
    #[test]
    fn a_place_goes_to_one_who_waits_and_to_one_only(steps in prop::collection::vec(step(), 0..300)) {
        let mut now = Instant::now();
        let mut queue: Queue<u64> = Queue::default();
        // Number -> ticket and kind, of all that wait.
        let mut model: HashMap<u64, (Ticket, u64)> = HashMap::new();
        for (number, step) in (0_u64..).zip(steps) {
            match step {
                Step::Join { tenant, priority, kind, patience } => {
                    let deadline = now + Duration::from_secs(patience);
                    let who = entrant(&format!("t{tenant}"), priority, kind, now);
                    match queue.join(Entrant { deadline, ..who }, number, SIZE) {
                        Ok(joined) => {
                            if let Some(displaced) = joined.displaced {
                                prop_assert!(model.remove(&displaced).is_some());
                            }
                            model.insert(number, (joined.ticket, kind));
                        }
                        Err(refused) => prop_assert_eq!((refused, model.len()), (number, SIZE)),
                    }
                }
                Step::Leave(at) => {
                    let Some((&who, &(ticket, _))) = model.iter().nth(at) else { continue };
                    model.remove(&who);
                    prop_assert_eq!(queue.leave(ticket, now), Some(who));
                    prop_assert_eq!(queue.leave(ticket, now), None);
                }
                Step::Free { places, above } => {
                    queue.hope();
                    let mut left = places;
                    while let Some(ticket) = queue.pick() {
                        let who = *queue.get_mut(ticket).unwrap();
                        let (_, kind) = model[&who];
                        if left > 0 && kind >= above {
                            left -= 1;
                            model.remove(&who);
                            prop_assert_eq!(queue.granted(ticket, now), Some(who));
                            prop_assert_eq!(queue.granted(ticket, now), None);
                        } else {
                            queue.decline(ticket);
                        }
                    }
                    prop_assert!(left == 0 || model.values().all(|(_, kind)| *kind < above));
                }
                Step::Wait(seconds) => {
                    now += Duration::from_secs(seconds);
                    while let Some(who) = queue.expired(now) {
                        prop_assert!(model.remove(&who).is_some());
                    }
                }
            }
            prop_assert!(queue.len() <= SIZE);
            prop_assert_eq!(queue.len(), model.len());
        }
    }

    /// While both wait, of any eight grants in a row at least one is lower; and no more than are due.
    #[test]
    fn the_lower_share_holds(high in 1..200_usize, low in 1..200_usize) {
        let now = Instant::now();
        let mut queue = Queue::default();
        for (count, priority) in [(high, 3), (low, -3)] {
            for _ in 0..count {
                queue.join(entrant("a", priority, 0, now), priority, 1000).unwrap();
            }
        }
        let served = drain(&mut queue, now);
        let both = served.iter().rposition(|p| *p == 3).unwrap()
            .min(served.iter().rposition(|p| *p == -3).unwrap());
        for window in served[..=both].windows(LOWER_SHARE as usize) {
            prop_assert_eq!(window.iter().filter(|p| **p == -3).count(), 1);
        }
    }

    /// Tenants that always have something waiting get the same, but for one.
    #[test]
    fn tenants_get_the_same(lengths in prop::collection::vec(1..40_usize, 1..6)) {
        let now = Instant::now();
        let mut queue = Queue::default();
        for (tenant, length) in lengths.iter().enumerate() {
            for _ in 0..*length {
                queue.join(entrant(&format!("t{tenant}"), 0, 0, now), tenant, 1000).unwrap();
            }
        }
        let served = drain(&mut queue, now);
        let shortest = lengths.iter().min().unwrap();
        let all_wait = &served[..shortest * lengths.len()];
        for tenant in 0..lengths.len() {
            prop_assert_eq!(all_wait.iter().filter(|who| **who == tenant).count(), *shortest);
        }
    }
}
