//! One key's state in this gateway: its windows, and its requests that run.

use std::collections::BTreeSet;
use std::time::Duration;

use router::gcra::{self, Quota};

use super::window::{Charge, WINDOWS, Window};

/// Why a request may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// This window, for so long.
    Window(Window, Duration),
    /// Too many run.
    Concurrent,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Verdict {
    /// `None` = it was charged.
    pub(super) cause: Option<Cause>,
    /// How far each window is from full now, in microseconds.
    pub(super) ahead: [u64; WINDOWS],
}

impl Verdict {
    /// The window that makes a request wait the longest.
    pub(super) fn worst(&mut self, window: Window, wait: u64) {
        let wait = Duration::from_micros(wait);
        match self.cause {
            Some(Cause::Window(_, longest)) if longest >= wait => {}
            Some(Cause::Concurrent | Cause::Window(..)) | None => {
                self.cause = Some(Cause::Window(window, wait));
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// Each window's theoretical arrival time, for this gateway's share.
    tats: [u64; WINDOWS],
    /// What was charged here while Redis was away and is still to be told there, in microseconds.
    owed: [u64; WINDOWS],
    running: BTreeSet<u64>,
    last: u64,
}

impl Bucket {
    /// Charges all windows or none, by the share of one of `n` gateways; `owes` when Redis is to be told later.
    pub(super) fn admit(
        &mut self,
        charges: &[Charge],
        concurrent: Option<u32>,
        n: u32,
        now: u64,
        owes: bool,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        let mut tats = self.tats;
        if concurrent.is_some_and(|most| self.running.len() >= share(most, n)) {
            verdict.cause = Some(Cause::Concurrent);
        }
        for charge in charges {
            let tat = &mut tats[charge.window.index()];
            let (cost, tolerance) = shared_cost(&charge.quota, charge.units, n);
            let decision = gcra::check(*tat, now, cost, tolerance);
            if !decision.allowed {
                verdict.worst(charge.window, decision.retry_after);
            }
            *tat = decision.tat;
        }
        if verdict.cause.is_none() {
            self.tats = tats;
            if owes {
                for charge in charges {
                    let owed = &mut self.owed[charge.window.index()];
                    *owed = owed.saturating_add(charge.quota.cost(charge.units));
                }
            }
        }
        for charge in charges {
            let at = charge.window.index();
            let tolerance = charge.quota.share(n).tolerance();
            verdict.ahead[at] = gcra::current(self.tats[at], now, tolerance) - now;
        }
        verdict
    }

    /// Takes note of what Redis has admitted, so that the share is not untouched when Redis goes away.
    pub(super) fn shadow(&mut self, charges: &[Charge], n: u32, now: u64) {
        for charge in charges {
            let share = charge.quota.share(n);
            let tat = &mut self.tats[charge.window.index()];
            let charged = gcra::current(*tat, now, share.tolerance()) + share.cost(charge.units);
            // No debt: what one gateway took of all that there was is not its share to pay.
            *tat = charged.min(now + share.tolerance());
        }
    }

    /// Corrects the charges of tokens by what was used in the end.
    pub(super) fn settle(&mut self, charge: &Charge, used: u64, n: u32, now: u64, owes: bool) {
        let at = charge.window.index();
        let share = charge.quota.share(n);
        let delta = difference(&share, used, charge.units);
        self.tats[at] = gcra::settle(self.tats[at], now, delta, share.tolerance());
        if owes {
            let delta = difference(&charge.quota, used, charge.units);
            self.owed[at] = self.owed[at].saturating_add_signed(delta);
        }
    }

    /// What Redis has not been told yet; from here on it has.
    pub(super) fn take_owed(&mut self) -> [u64; WINDOWS] {
        std::mem::take(&mut self.owed)
    }

    pub(super) fn owe_again(&mut self, owed: [u64; WINDOWS]) {
        for (mine, owed) in self.owed.iter_mut().zip(owed) {
            *mine = mine.saturating_add(owed);
        }
    }

    /// A request begins; its number.
    pub(super) fn begin(&mut self) -> u64 {
        self.last += 1;
        self.running.insert(self.last);
        self.last
    }

    pub(super) fn end(&mut self, lease: u64) {
        self.running.remove(&lease);
    }

    pub(super) const fn running(&self) -> &BTreeSet<u64> {
        &self.running
    }

    /// Nothing would be lost with it.
    pub(super) fn is_clear(&self, now: u64) -> bool {
        self.running.is_empty()
            && self.owed == [0; WINDOWS]
            && self.tats.iter().all(|tat| *tat <= now)
    }
}

/// A gateway's share of requests at once, at least one.
fn share(most: u32, n: u32) -> usize {
    usize::try_from((most / n.max(1)).max(1)).unwrap_or(usize::MAX)
}

/// What units cost one of `n` gateways. A single request that is larger than the share's burst may still use all of it: it
/// would otherwise never be served while Redis is away.
fn shared_cost(quota: &Quota, units: u64, n: u32) -> (u64, u64) {
    let share = quota.share(n);
    let cost = share.cost(units);
    (cost, share.tolerance().max(cost))
}

/// By how much a charge was wrong.
pub(super) fn difference(quota: &Quota, used: u64, charged: u64) -> i64 {
    quota.cost(used).cast_signed() - quota.cost(charged).cast_signed()
}

#[cfg(test)]
mod tests;
