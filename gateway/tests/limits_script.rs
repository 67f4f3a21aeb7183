//! The scripts that Redis runs come to the same integers as the arithmetic in Rust.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::time::Duration;

use router::gcra::{self, Quota};
use support::redis::Redis;

const ADMIT: &str = include_str!("../src/limits/admit.lua");
const SETTLE: &str = include_str!("../src/limits/settle.lua");
/// A moment such as Redis' clock gives, in microseconds.
const BEGUN: u64 = 1_800_000_000_000_000;

/// A script with a clock that the test holds: two keys more, which are seconds and microseconds.
fn timed(script: &str) -> String {
    let timed = script.replace("redis.call('TIME')", "{ KEYS[3], KEYS[4] }");
    assert_ne!(timed, script);
    timed
}

fn eval(redis: &Redis, script: &str, now: u64, args: &[String]) -> Vec<u64> {
    let (seconds, micros) = ((now / 1_000_000).to_string(), (now % 1_000_000).to_string());
    let mut command = vec!["EVAL", script, "4", "{t}:w", "{t}:c", &seconds, &micros];
    command.extend(args.iter().map(String::as_str));
    let said = redis.ask(&command);
    said.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

/// The windows as Rust keeps them.
struct Model {
    quotas: [Quota; 2],
    tats: [u64; 2],
}

impl Model {
    /// What the script should say.
    fn admit(&mut self, now: u64, units: [u64; 2]) -> Vec<u64> {
        let mut tats = self.tats;
        let mut allowed = true;
        for (i, quota) in self.quotas.iter().enumerate() {
            let decision = gcra::check(tats[i], now, quota.cost(units[i]), quota.tolerance());
            allowed &= decision.allowed;
            tats[i] = decision.tat;
        }
        if allowed {
            self.tats = tats;
        }
        let ahead = |i: usize| gcra::current(self.tats[i], now, self.quotas[i].tolerance()) - now;
        vec![u64::from(allowed), 0, ahead(0), ahead(1)]
    }
}

fn sequence(redis: &Redis, rng: &mut fastrand::Rng, quotas: [Quota; 2], steps: u32) {
    redis.ask(&["DEL", "{t}:w", "{t}:c"]);
    let (admit, settle) = (timed(ADMIT), timed(SETTLE));
    let mut model = Model { quotas, tats: [0; 2] };
    let mut now = BEGUN;
    for step in 0..steps {
        now += rng.u64(0..3_000_000);
        let units = [1, rng.u64(1..quotas[1].burst())];
        let mut args = vec![String::new(), "0".to_owned(), "4000".to_owned()];
        for (i, name) in ["rpm", "tpm"].into_iter().enumerate() {
            let (cost, tolerance) = (quotas[i].cost(units[i]), quotas[i].tolerance());
            args.extend([name.to_owned(), cost.to_string(), tolerance.to_string(), "0".to_owned()]);
        }
        let said = eval(redis, &admit, now, &args);
        assert_eq!(said, model.admit(now, units), "step {step} of {quotas:?}");
        if said[0] == 1 && rng.bool() {
            now += rng.u64(0..1_000_000);
            // Less than was reserved, or more.
            let used = rng.u64(0..units[1] * 2);
            let (quota, tat) = (quotas[1], model.tats[1]);
            let delta = quota.cost(used).cast_signed() - quota.cost(units[1]).cast_signed();
            let args =
                [String::new(), "tpm".to_owned(), delta.to_string(), quota.tolerance().to_string()];
            eval(redis, &settle, now, &args);
            model.tats[1] = gcra::settle(tat, now, delta, quota.tolerance());
            let stored: u64 = redis.ask(&["HGET", "{t}:w", "tpm"]).parse().unwrap();
            assert_eq!(stored, model.tats[1], "step {step} of {quotas:?}");
        }
    }
}

#[test]
fn scripts_and_rust_come_to_the_same_integers() {
    let redis = Redis::start();
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..12 {
        let requests = Quota::new(rng.u64(1..5_000), Duration::from_secs(60), rng.u64(1..100));
        let day = rng.bool();
        let (units, seconds) =
            if day { (rng.u64(1_000..90_000_000), 86_400) } else { (rng.u64(10..9_000_000), 60) };
        let tokens = Quota::new(units, Duration::from_secs(seconds), units.max(2));
        sequence(&redis, &mut rng, [requests, tokens], 60);
    }
}

#[test]
fn what_was_charged_elsewhere_is_paid_and_never_more_than_there_is() {
    let redis = Redis::start();
    let quota = Quota::new(60, Duration::from_secs(60), 10);
    let (cost, tolerance) = (quota.cost(1), quota.tolerance());
    let admit = |now: u64, owed: u64| {
        let args =
            ["", "0", "4000", "rpm", &cost.to_string(), &tolerance.to_string(), &owed.to_string()];
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        eval(&redis, &timed(ADMIT), now, &args)
    };
    assert_eq!(admit(BEGUN, 0), [1, 0, cost]);
    // Three elsewhere, and this one.
    assert_eq!(admit(BEGUN, 3 * cost), [1, 0, 5 * cost]);
    // A whole outage's worth empties the bucket and leaves no debt.
    assert_eq!(admit(BEGUN, 1000 * cost), [0, 0, tolerance]);
    assert_eq!(admit(BEGUN + cost, 0), [1, 0, tolerance]);
    // Nor does it take one away.
    let debt = ["", "rpm", &(3 * cost).to_string(), &tolerance.to_string()].map(str::to_owned);
    eval(&redis, &timed(SETTLE), BEGUN + cost, &debt);
    assert_eq!(admit(BEGUN + cost, cost), [0, 0, tolerance + 3 * cost]);
}
