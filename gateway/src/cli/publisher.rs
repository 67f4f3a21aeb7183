//! Where the registry publishes: the data plane once it runs, and until then what it is to start with, so that no request
//! ever meets a world without the stored objects.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gateway::DataPlane;
use router::planes::Publish;
use router::snapshot::BuildError;
use router::spec::SnapshotSpec;

/// The version of the snapshot that a data plane starts with.
const FIRST: u64 = 1;

enum Stage {
    Before(Option<Box<SnapshotSpec>>),
    Running(Arc<DataPlane>),
}

/// Takes what the registry publishes.
pub(crate) struct Publisher(Mutex<Stage>);

impl Default for Publisher {
    fn default() -> Self {
        Self(Mutex::new(Stage::Before(None)))
    }
}

impl Publisher {
    /// What was published so far.
    pub(crate) fn first(&self) -> Option<SnapshotSpec> {
        match &mut *self.stage() {
            Stage::Before(spec) => spec.take().map(|spec| *spec),
            Stage::Running(_) => None,
        }
    }

    /// From now on this data plane is published to.
    pub(crate) fn run(&self, data_plane: &Arc<DataPlane>) {
        *self.stage() = Stage::Running(Arc::clone(data_plane));
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publish for Publisher {
    fn publish(&self, spec: SnapshotSpec) -> Result<u64, Vec<BuildError>> {
        let running = match &mut *self.stage() {
            Stage::Before(first) => {
                *first = Some(Box::new(spec));
                return Ok(FIRST);
            }
            Stage::Running(data_plane) => Arc::clone(data_plane),
        };
        running.publish(spec)
    }
}
