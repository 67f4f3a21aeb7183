//! The phases of a shutdown, as the parts of the data plane see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// How far a shutdown has come. Phases only ever advance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Running = 0,
    /// Not ready any more; still accepting and serving.
    Grace = 1,
    /// Nothing new; what runs may finish.
    Draining = 2,
    /// What still runs is told that it ends here.
    Aborting = 3,
}

/// One phase for the whole process, and a wake-up for each core.
#[derive(Debug, Clone)]
pub struct Shutdown {
    phase: Arc<AtomicU8>,
    cores: Arc<[Arc<Notify>]>,
}

impl Shutdown {
    /// A running process with `cores` cores.
    #[must_use]
    pub fn new(cores: usize) -> Self {
        Self {
            phase: Arc::new(AtomicU8::new(Phase::Running as u8)),
            cores: (0..cores.max(1)).map(|_| Arc::new(Notify::new())).collect(),
        }
    }

    /// Where the process stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(SeqCst) {
            0 => Phase::Running,
            1 => Phase::Grace,
            2 => Phase::Draining,
            _ => Phase::Aborting,
        }
    }

    /// Advances to `phase` (never back) and wakes whoever waits.
    pub fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, SeqCst);
        for core in self.cores.iter() {
            core.notify_waiters();
        }
    }

    /// Resolves at the next change of phase. Register first, then look at [`Self::phase`].
    pub(crate) fn changed(&self, core: usize) -> OwnedNotified {
        Arc::clone(&self.cores[core % self.cores.len()]).notified_owned()
    }
}
