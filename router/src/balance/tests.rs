use proptest::prelude::*;

use super::*;

fn choice(index: usize, weight: f64) -> Choice {
    Choice {
        index,
        key: key(&format!("backend-{index}")),
        weight,
        in_flight: 0,
        cold: false,
        trial: false,
    }
}

/// As fast as all others, with so many requests in front.
fn busy(pressure: f64) -> Measure {
    Measure { pressure, first_event: Some(0.1) }
}

fn shares(count: usize, rounds: u32, mut draw: impl FnMut(u32) -> usize) -> Vec<f64> {
    let mut hits = vec![0_u32; count];
    for round in 0..rounds {
        hits[draw(round)] += 1;
    }
    hits.iter().map(|hits| f64::from(*hits) / f64::from(rounds)).collect()
}

#[test]
fn round_robin_is_smooth_and_exact() {
    let weights = [5.0, 1.0, 1.0];
    let turns = Turns::default();
    let fit = |index: usize| Some(choice(index, weights[index]));
    let order: Vec<_> = (0..7).map(|_| turns.next(3, fit).unwrap().index).collect();
    assert_eq!(order, [0, 0, 1, 0, 2, 0, 0], "nginx's own example");
    let equal = Turns::default();
    let order: Vec<_> =
        (0..6).map(|_| equal.next(3, |index| Some(choice(index, 1.0))).unwrap().index).collect();
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn looking_at_whose_turn_it_is_changes_nothing() {
    let turns = Turns::default();
    let fit = |index: usize| Some(choice(index, 1.0));
    for _ in 0..5 {
        let looked = turns.look(3, fit).unwrap().index;
        assert_eq!(turns.look(3, fit).unwrap().index, looked);
        assert_eq!(turns.next(3, fit).unwrap().index, looked);
    }
}

#[test]
fn least_load_prefers_the_less_loaded_of_two() {
    let mut rng = fastrand::Rng::with_seed(3);
    let fit = |index: usize| Some(choice(index, 1.0));
    let measure = |choice: &Choice| busy([0.0, 9.0][choice.index]);
    for _ in 0..100 {
        assert_eq!(least_load(2, fit, measure, &mut rng).unwrap().index, 0);
    }
}

#[test]
fn a_slow_backend_gets_a_small_share() {
    // Open loop in equilibrium: requests under way follow rate x time, so the score alone decides.
    let mut rng = fastrand::Rng::with_seed(5);
    let fit = |index: usize| Some(choice(index, 1.0));
    let slow = |choice: &Choice| Measure {
        pressure: 3.0,
        first_event: Some(if choice.index == 0 { 1.0 } else { 0.1 }),
    };
    let shares = shares(3, 10_000, |_| least_load(3, fit, slow, &mut rng).unwrap().index);
    assert!(shares[0] <= 0.15, "{shares:?}");
}

#[test]
fn weights_show_in_the_work_under_way() {
    // Each request stays for a while; what is under way must be about as the weights.
    let weights = [1.0, 2.0, 5.0];
    let mut rng = fastrand::Rng::with_seed(9);
    let mut under_way = [0_u32; 3];
    let mut queue = std::collections::VecDeque::new();
    let mut served = [0_u32; 3];
    for _ in 0..20_000 {
        let fit = |index: usize| Some(choice(index, weights[index]));
        let measure = |choice: &Choice| busy(f64::from(under_way[choice.index]));
        let index = least_load(3, fit, measure, &mut rng).unwrap().index;
        under_way[index] += 1;
        served[index] += 1;
        queue.push_back(index);
        if queue.len() > 80 {
            under_way[queue.pop_front().unwrap()] -= 1;
        }
    }
    for (served, weight) in served.iter().zip(weights) {
        let (share, due) = (f64::from(*served) / 20_000.0, weight / 8.0);
        assert!((share - due).abs() < 0.05, "{share} of {due}");
    }
}

#[test]
fn a_backend_that_has_the_model_is_preferred_until_it_is_busy() {
    let mut rng = fastrand::Rng::with_seed(1);
    let fit = |index: usize| Some(Choice { cold: index != 4, ..choice(index, 1.0) });
    let draw = |pressure: f64, rng: &mut fastrand::Rng| {
        let measure = |choice: &Choice| busy(if choice.cold { 0.0 } else { pressure });
        least_load(5, fit, measure, rng).unwrap().index
    };
    for _ in 0..100 {
        assert_eq!(draw(3.0, &mut rng), 4);
    }
    assert!((0..100).filter(|_| draw(20.0, &mut rng) != 4).count() > 50);
}

#[test]
fn a_large_tier_is_sampled_and_a_lone_survivor_is_found() {
    let mut rng = fastrand::Rng::with_seed(1);
    let idle = |_: &Choice| busy(0.0);
    let lone = |index: usize| (index == 437).then(|| choice(index, 1.0));
    assert_eq!(least_load(500, lone, idle, &mut rng).unwrap().index, 437);
    assert!(least_load(500, |_| None, idle, &mut rng).is_none());
    let looked = std::cell::Cell::new(0);
    let counting = |index: usize| {
        looked.set(looked.get() + 1);
        Some(choice(index, 1.0))
    };
    least_load(500, counting, idle, &mut rng).unwrap();
    assert!(looked.get() <= SAMPLE, "{}", looked.get());
}

#[test]
fn hashing_spreads_by_weight() {
    let weights = [1.0, 3.0];
    let fit = |index: usize| Some(choice(index, weights[index]));
    let draw = |round: u32| hashed(2, fit, mix(u64::from(round)), None).unwrap().index;
    let shares = shares(2, 20_000, draw);
    assert!((shares[1] - 0.75).abs() < 0.02, "{shares:?}");
}

#[test]
fn hashing_moves_only_the_share_of_what_left() {
    let all = |index: usize| Some(choice(index, 1.0));
    let without = |index: usize| (index != 2).then(|| choice(index, 1.0));
    for affinity in 0..2000_u64 {
        let before = hashed(5, all, affinity, None).unwrap().index;
        let after = hashed(5, without, affinity, None).unwrap().index;
        assert!(before == after || before == 2);
    }
}

#[test]
fn bounded_load_holds_its_bound() {
    // One hot prefix: everything wants the same backend.
    let mut under_way = [0_u32; 4];
    for _ in 0..400 {
        let fit = |index: usize| {
            let in_flight = under_way[index];
            Some(Choice { in_flight, ..choice(index, 1.0) })
        };
        under_way[hashed(4, fit, 42, Some(LOAD_BOUND)).unwrap().index] += 1;
    }
    let most = under_way.iter().max().unwrap();
    assert!(*most <= 125, "{under_way:?}");
}

proptest! {
    #[test]
    fn every_policy_draws_only_what_fits(
        fits in prop::collection::vec(any::<bool>(), 1..60),
        affinity in any::<u64>(),
        seed in any::<u64>(),
    ) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let fit = |index: usize| fits[index].then(|| choice(index, 1.0 + f64::from(u8::try_from(index % 3).unwrap())));
        let turns = Turns::default();
        let count = fits.len();
        let drawn = [
            listed(count, fit),
            least_load(count, fit, |_| busy(0.0), &mut rng),
            hashed(count, fit, affinity, None),
            hashed(count, fit, affinity, Some(LOAD_BOUND)),
            turns.look(count, fit),
            turns.next(count, fit),
        ];
        let any = fits.iter().any(|fits| *fits);
        for choice in drawn {
            prop_assert_eq!(choice.is_some(), any);
            prop_assert!(choice.is_none_or(|choice| fits[choice.index]));
        }
    }
}
