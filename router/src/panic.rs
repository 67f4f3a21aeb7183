//! Why no tier has a candidate: what the panic rule and the answer to the client are made of.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::judge::PassedOver;
use crate::plan::{Busy, ExhaustedReason};
use crate::stages::Place;

/// Most backends that are open or offline which a survey remembers.
const DOWN_MAX: usize = 64;

/// Who was passed over, and why.
#[derive(Debug)]
pub(crate) struct Survey {
    wait_max: Duration,
    full: bool,
    down: bool,
    /// Where a trial may go.
    places: SmallVec<[(Place, usize); 8]>,
    rest: Option<Instant>,
    open: Option<Instant>,
    /// Among those that may still be tried.
    busy: Option<Busy>,
}

impl Survey {
    pub(crate) fn new(wait_max: Duration) -> Self {
        let places = SmallVec::new();
        Self { wait_max, full: false, down: false, places, rest: None, open: None, busy: None }
    }

    pub(crate) fn add(&mut self, place: Place, index: usize, reason: PassedOver) {
        match reason {
            PassedOver::Saturated | PassedOver::ModelSaturated => self.full = true,
            PassedOver::Resting { until } => self.rest = sooner(self.rest, until),
            PassedOver::Open { until } => {
                self.open = sooner(self.open, until);
                self.add_down(place, index);
            }
            PassedOver::Offline => self.add_down(place, index),
            // Its trial is under way: no second one.
            PassedOver::TrialUnderWay => self.down = true,
            PassedOver::Tried
            | PassedOver::OperationNotServed
            | PassedOver::ModelNotServed
            | PassedOver::LeavesTheMachine
            | PassedOver::NotLocal
            | PassedOver::Draining => {}
        }
    }

    /// As far as this one may still be tried, it is worth waiting for.
    pub(crate) fn add_busy(&mut self, reason: PassedOver) {
        let mut busy = self.busy.unwrap_or(Busy { full: false, rest: None });
        match reason {
            PassedOver::Saturated | PassedOver::ModelSaturated => busy.full = true,
            PassedOver::Resting { until } => busy.rest = sooner(busy.rest, until),
            _ => return,
        }
        self.busy = Some(busy);
    }

    pub(crate) const fn busy(&self) -> Option<Busy> {
        self.busy
    }

    fn add_down(&mut self, place: Place, index: usize) {
        self.down = true;
        if self.places.len() < DOWN_MAX {
            self.places.push((place, index));
        }
    }

    /// Every backend that could serve is open or offline.
    pub(crate) const fn is_panic(&self) -> bool {
        self.down && !self.is_busy()
    }

    /// Someone is well, but full or resting.
    const fn is_busy(&self) -> bool {
        self.full || self.rest.is_some()
    }

    pub(crate) fn down(&self) -> impl Iterator<Item = (&Place, usize)> {
        self.places.iter().map(|(place, index)| (place, *index))
    }

    pub(crate) const fn reason(&self) -> ExhaustedReason {
        match (self.is_busy(), self.down) {
            (true, _) => ExhaustedReason::Saturated,
            (false, true) => ExhaustedReason::Unavailable,
            (false, false) => ExhaustedReason::NotServed,
        }
    }

    /// How long a client might wait: until the first that rests is back, a moment where someone is only full, and a
    /// little where all are down, since a trial may succeed any moment.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        let until = |at: Instant| at.saturating_duration_since(now);
        match self.reason() {
            ExhaustedReason::Saturated => {
                Some(self.rest.filter(|_| !self.full).map_or(Duration::ZERO, until))
            }
            ExhaustedReason::Unavailable => {
                Some(self.open.map_or(self.wait_max, until).min(self.wait_max))
            }
            _ => None,
        }
    }
}

fn sooner(one: Option<Instant>, other: Instant) -> Option<Instant> {
    Some(one.map_or(other, |one| one.min(other)))
}
