//! A running request's place among those of its backend and of its model.

use std::sync::Arc;

use crate::backend::Backend;
use crate::budget::{Active, Budget};
use crate::cap::Cap;

/// A place among a backend's requests, and among those of a public model; free again when dropped, which is when the
/// response body ends.
#[derive(Debug)]
pub struct Slot<A> {
    backend: Arc<Backend<A>>,
    model: Arc<Cap>,
    _active: Active,
}

impl<A> Drop for Slot<A> {
    fn drop(&mut self) {
        self.backend.cap().give_back();
        self.model.give_back();
        self.backend.cap().audience().tell();
        // Whoever waits for one of its backends was told by that; only its own cap can keep others waiting.
        if self.model.is_limited() {
            self.model.audience().tell();
        }
    }
}

impl<A> Backend<A> {
    /// Takes a place here and one of the model's, unless there is none.
    pub(crate) fn slot(
        self: &Arc<Self>,
        model: &Arc<Cap>,
        budget: &Arc<Budget>,
    ) -> Option<Slot<A>> {
        if !model.take() {
            return None;
        }
        if !self.cap().take() {
            model.give_back();
            model.audience().tell();
            return None;
        }
        Some(Slot { backend: Arc::clone(self), model: Arc::clone(model), _active: budget.enter() })
    }
}
