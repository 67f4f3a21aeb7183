//! A hard cap on what runs at once, across cores: of a backend, or of a public model.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use crate::audience::Audience;

/// No cap.
const NONE: u32 = u32::MAX;

/// Places for running requests. It outlives snapshots, so that a reload can raise or lower it under way; lowered below
/// what runs, it lets nothing in until enough has ended.
#[derive(Debug)]
pub(crate) struct Cap {
    taken: AtomicU32,
    most: AtomicU32,
    audience: Arc<Audience>,
}

impl Cap {
    /// With nothing running; `None` = no cap.
    pub(crate) fn new(most: Option<u32>) -> Self {
        let audience = Arc::default();
        Self { taken: AtomicU32::new(0), most: AtomicU32::new(most.unwrap_or(NONE)), audience }
    }

    /// Changes how many there may be. Who waits is told with the snapshot that this belongs to.
    pub(crate) fn set(&self, most: Option<u32>) {
        self.most.store(most.unwrap_or(NONE), SeqCst);
    }

    /// How many run.
    pub(crate) fn taken(&self) -> u32 {
        self.taken.load(Relaxed)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.taken.load(SeqCst) >= self.most.load(SeqCst)
    }

    /// Whether there is a cap at all.
    pub(crate) fn is_limited(&self) -> bool {
        self.most.load(Relaxed) != NONE
    }

    /// Takes a place; false = there is none.
    pub(crate) fn take(&self) -> bool {
        let most = self.most.load(Relaxed);
        let more = |taken: u32| (taken < most).then(|| taken.saturating_add(1));
        self.taken.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Gives a place back; [`Audience::tell`] is to follow. Sequentially consistent, as is the audience's count: either
    /// we see who waits, or he, looking again after he joined, sees the place.
    pub(crate) fn give_back(&self) {
        self.taken.fetch_sub(1, SeqCst);
    }

    pub(crate) const fn audience(&self) -> &Arc<Audience> {
        &self.audience
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cap_holds_while_it_is_raised_and_lowered(
            steps in prop::collection::vec((0..3_u8, 0..6_u32), 0..200),
        ) {
            let cap = Cap::new(Some(3));
            let (mut most, mut running) = (3, 0);
            for (step, value) in steps {
                match step {
                    0 => {
                        let taken = cap.take();
                        prop_assert_eq!(taken, running < most);
                        running += u32::from(taken);
                    }
                    1 if running > 0 => {
                        cap.give_back();
                        running -= 1;
                    }
                    _ => {
                        most = value;
                        cap.set(Some(most));
                    }
                }
                prop_assert_eq!(cap.taken(), running);
                prop_assert_eq!(cap.is_full(), running >= most);
            }
        }
    }

    #[test]
    fn threads_never_pass_the_cap() {
        let cap = Cap::new(Some(3));
        let (inside, peak) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        if cap.take() {
                            peak.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                            inside.fetch_sub(1, SeqCst);
                            cap.give_back();
                        }
                    }
                });
            }
        });
        assert_eq!(cap.taken(), 0);
        assert!((1..=3).contains(&peak.load(SeqCst)));
    }
}
