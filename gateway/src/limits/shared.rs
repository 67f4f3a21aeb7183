//! The bounds that several gateways hold together: scripts over one key set of Redis.

use std::sync::LazyLock;

use super::Key;
use super::bucket::{Cause, Verdict};
use super::window::{Charge, WINDOWS, Window};
use crate::redis::{PRESENT, Redis, Script, Unavailable, tag};

static ADMIT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("admit.lua")));
static SETTLE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("settle.lua")));
static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("renew.lua")));

/// Leases that one script renews; more take several.
const RENEWED_AT_ONCE: usize = 500;

/// What Redis is asked.
pub(super) struct Asked<'r> {
    pub(super) key: &'r Key,
    pub(super) charges: &'r [Charge],
    pub(super) concurrent: Option<u32>,
    pub(super) lease: Option<u64>,
    pub(super) owed: [u64; WINDOWS],
}

/// The two keys of one API key: its windows, and its requests that run. One hash tag, so one slot.
fn keys(key: &Key) -> [Vec<u8>; 2] {
    let tag = tag(key.name.as_str());
    [format!("{{fb:{tag}}}:w").into_bytes(), format!("{{fb:{tag}}}:c").into_bytes()]
}

fn lease_name(redis: &Redis, lease: Option<u64>) -> String {
    lease.map(|lease| format!("{}:{lease:x}", redis.id())).unwrap_or_default()
}

/// Charges all windows and takes a lease, or nothing of it.
pub(super) async fn admit(redis: &Redis, asked: Asked<'_>) -> Result<Verdict, Unavailable> {
    let mut args = Args::default();
    args.push(lease_name(redis, asked.lease));
    args.push(asked.concurrent.unwrap_or(0));
    args.push(PRESENT.as_millis());
    for charge in asked.charges {
        args.push(charge.window.name());
        args.push(charge.quota.cost(charge.units));
        args.push(charge.quota.tolerance());
        args.push(asked.owed[charge.window.index()]);
    }
    let [windows, running] = keys(asked.key);
    let said = redis.script(&ADMIT, &[&windows, &running], &args.slices()).await?;
    verdict(&asked, &said).ok_or(Unavailable)
}

/// What the script's integers mean: whether it was charged, how many ran before, and how far each window is from full.
fn verdict(asked: &Asked<'_>, said: &[i64]) -> Option<Verdict> {
    let [allowed, running, ahead @ ..] = said else { return None };
    if ahead.len() != asked.charges.len() {
        return None;
    }
    let mut verdict = Verdict::default();
    let full = |most: u32| *running >= i64::from(most);
    if *allowed != 1 && asked.concurrent.is_some_and(full) {
        verdict.cause = Some(Cause::Concurrent);
    }
    for (charge, ahead) in asked.charges.iter().zip(ahead) {
        let ahead = u64::try_from(*ahead).ok()?;
        verdict.ahead[charge.window.index()] = ahead;
        let then = ahead.saturating_add(charge.quota.cost(charge.units));
        if *allowed != 1 && then > charge.quota.tolerance() {
            verdict.worst(charge.window, then - charge.quota.tolerance());
        }
    }
    (verdict.cause.is_some() == (*allowed != 1)).then_some(verdict)
}

/// Corrects charges and ends a lease, some time soon.
pub(super) fn settle(
    redis: &Redis,
    key: &Key,
    lease: Option<u64>,
    deltas: impl Iterator<Item = (Window, i64, u64)>,
) {
    let mut args = Args::default();
    args.push(lease_name(redis, lease));
    for (window, delta, tolerance) in deltas {
        args.push(window.name());
        args.push(delta);
        args.push(tolerance);
    }
    if lease.is_none() && args.0.len() == 1 {
        return;
    }
    let [windows, running] = keys(key);
    redis.script_behind(&SETTLE, &[&windows, &running], &args.slices());
}

/// Ends a lease, some time soon.
pub(super) fn release(redis: &Redis, key: &Key, lease: u64) {
    settle(redis, key, Some(lease), std::iter::empty());
}

/// Says which requests of a key still run, so that their leases do not end.
pub(super) fn renew(redis: &Redis, key: &Key) {
    let bucket = key.bucket();
    let mut left = bucket.running().iter();
    loop {
        let leases: Vec<u64> = left.by_ref().take(RENEWED_AT_ONCE).copied().collect();
        if leases.is_empty() {
            return;
        }
        let mut args = Args::default();
        args.push(PRESENT.as_millis());
        leases.iter().for_each(|lease| args.push(lease_name(redis, Some(*lease))));
        let [_, running] = keys(key);
        redis.script_behind(&RENEW, &[&running], &args.slices());
    }
}

/// The arguments of a script, as text.
#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    #[expect(clippy::needless_pass_by_value, reason = "numbers and owned text")]
    fn push(&mut self, arg: impl ToString) {
        self.0.push(arg.to_string());
    }

    fn slices(&self) -> Vec<&[u8]> {
        self.0.iter().map(String::as_bytes).collect()
    }
}
