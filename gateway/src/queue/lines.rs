//! The queues of all models that anyone ever waited for.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use router::ModelName;
use router::planes::QueueView;

use super::line::Line;
use crate::plane::{Plane, World};

/// By model; made when the first request waits.
#[derive(Default)]
pub(crate) struct Lines(RwLock<HashMap<ModelName, Arc<Line>>>);

impl Lines {
    /// The queue of one model. Those of models that are gone go too, once nobody waits there.
    pub(super) fn line(&self, plane: &Plane, model: &ModelName) -> Arc<Line> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(model).cloned();
        if let Some(line) = known {
            return line;
        }
        let mut lines = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let world = plane.world.load();
        lines.retain(|name, line| world.model(name.as_str()).is_some() || !line.is_empty());
        let line = lines.entry(model.clone()).or_insert_with(|| {
            let depth = plane.counters.queue_depth(model.as_str());
            Arc::new(Line::new(model.clone(), Arc::clone(&plane.world), depth))
        });
        Arc::clone(line)
    }

    /// The queues in which anyone waits, by model.
    pub(crate) fn views(&self, world: &World) -> Vec<QueueView> {
        let size = |line: &Line| {
            let model = world.model(line.model().as_str());
            model.map_or(world.spec().queue.size, |model| world.queue_of(model).size)
        };
        let mut views: Vec<_> =
            self.all().iter().filter_map(|line| line.view(size(line))).collect();
        views.sort_by(|one, other| one.model.cmp(&other.model));
        views
    }

    /// Sets the gauges of all queues.
    pub(crate) fn show(&self) {
        for line in self.all() {
            line.show();
        }
    }

    fn all(&self) -> Vec<Arc<Line>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
