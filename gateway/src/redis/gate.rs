//! The breaker of a Redis: counts failures in a row, and says whether commands are worth a try.
//!
//! The router's breaker is for backends: it weighs rates and gives trials to requests. Here a trial is the keeper's own
//! affair, so that no request waits for it, and all that is left are two numbers.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// Failures in a row that close the gate.
pub(super) const FAILURES: u32 = 5;

/// Open: commands are tried. Shut: they fail at once, until a trial has gone well.
#[derive(Debug, Default)]
pub(super) struct Gate {
    failures: AtomicU32,
    shut: AtomicBool,
}

impl Gate {
    pub(super) fn admits(&self) -> bool {
        !self.shut.load(Relaxed)
    }

    pub(super) fn succeeded(&self) {
        // Read first: the line is shared by all cores, and nearly always zero.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// Whether this failure shut it.
    pub(super) fn failed(&self) -> bool {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        failures >= FAILURES && self.trip()
    }

    /// Shuts it at once; whether it was not shut before.
    pub(super) fn trip(&self) -> bool {
        !self.shut.swap(true, Relaxed)
    }

    /// A trial went well.
    pub(super) fn reopen(&self) {
        self.failures.store(0, Relaxed);
        self.shut.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Success,
        Failure,
        Trip,
        Trial,
    }

    proptest! {
        #[test]
        fn only_failures_in_a_row_shut_it_and_only_a_trial_opens_it(
            events in prop::collection::vec(
                prop_oneof![
                    4 => Just(Event::Failure),
                    1 => Just(Event::Success),
                    1 => Just(Event::Trial),
                    1 => Just(Event::Trip),
                ],
                0..200,
            )
        ) {
            let gate = Gate::default();
            let (mut row, mut shut) = (0, false);
            for event in events {
                let told = match event {
                    Event::Success => {
                        row = 0;
                        gate.succeeded();
                        false
                    }
                    Event::Failure => {
                        row += 1;
                        gate.failed()
                    }
                    Event::Trip => gate.trip(),
                    Event::Trial => {
                        (row, shut) = (0, false);
                        gate.reopen();
                        false
                    }
                };
                let shuts = match event {
                    Event::Failure => row >= FAILURES,
                    Event::Trip => true,
                    Event::Success | Event::Trial => false,
                };
                // Told once for each time that it shuts.
                prop_assert_eq!(told, shuts && !shut);
                shut |= shuts;
                prop_assert_eq!(gate.admits(), !shut);
            }
        }
    }
}
