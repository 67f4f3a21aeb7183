//! A backend's hold on an answer after the commit: its in-flight slot, and whom to tell if it fails.

use router::backend::{Backend, Slot};
use router::outcome::{Failure, FailureKind, Origin, Retry, Stage};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::time::Instant;

use crate::plane::Link;

/// Counts an attempt for its backend when it is dropped, which is when its answer has come to an end.
pub(crate) struct Attempted {
    link: Arc<Link>,
    begun: Instant,
    pub(crate) failed: bool,
}

impl Attempted {
    pub(crate) const fn new(link: Arc<Link>, begun: Instant) -> Self {
        Self { link, begun, failed: false }
    }
}

impl Drop for Attempted {
    fn drop(&mut self) {
        self.link.tally.ended(self.failed, self.begun.elapsed(), SystemTime::now());
    }
}

/// Ends when the answer does; the slot is free again then.
pub(crate) struct Tenure {
    backend: Arc<Backend<Arc<Link>>>,
    slot: Option<Slot<Arc<Link>>>,
    counters: Arc<crate::telemetry::Counters>,
    /// When the answer began, which counted as a success.
    begun: std::time::Instant,
    attempted: Attempted,
    /// The code that the answer broke with.
    code: Option<&'static str>,
    reported: bool,
}

impl Tenure {
    pub(crate) const fn new(
        backend: Arc<Backend<Arc<Link>>>,
        slot: Slot<Arc<Link>>,
        counters: Arc<crate::telemetry::Counters>,
        begun: std::time::Instant,
        attempted: Attempted,
    ) -> Self {
        let slot = Some(slot);
        Self { backend, slot, counters, begun, attempted, code: None, reported: false }
    }

    pub(crate) fn backend(&self) -> &str {
        self.backend.name.as_str()
    }

    /// An event was relayed: this backend is alive.
    pub(crate) fn progressed(&self) {
        self.backend.record_event_activity(Instant::now().into_std());
    }

    /// The backend failed in the middle of the answer; told once.
    pub(crate) fn failed(&mut self, kind: FailureKind) {
        if std::mem::replace(&mut self.reported, true) {
            return;
        }
        let failure = Failure {
            origin: Origin::Upstream,
            stage: Stage::MidStream,
            kind,
            retry: Retry::Never,
            retry_after: None,
        };
        let now = Instant::now().into_std();
        let rng = &mut fastrand::Rng::new();
        let change = self.backend.report_mid_stream(&failure, self.begun, now, rng);
        self.backend.attachment.moved(&self.backend.name, change);
        self.attempted.failed = true;
        self.broken("upstream_stream_broken");
    }

    /// The answer ends in an error.
    pub(crate) fn broken(&mut self, code: &'static str) {
        if self.code.is_none() {
            self.counters.streams_broken.increment(1);
            self.code = Some(code);
        }
    }

    pub(crate) const fn code(&self) -> Option<&'static str> {
        self.code
    }

    /// Gives the slot back.
    pub(crate) fn leave(&mut self) {
        self.slot = None;
    }
}
