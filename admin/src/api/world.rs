//! The live state of all data planes, gathered once for one answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use router::health::HealthState;
use router::planes::BackendView;
use router::snapshot::Snapshot;
use router::spec::Catalog;

use crate::live::Planes;
use crate::registry::Desired;

/// What the data planes say now.
#[derive(Default)]
pub(crate) struct World {
    /// By name; those that do not answer are not here.
    pub(crate) planes: Vec<PlaneState>,
    /// What any of them found.
    pub(crate) catalog: Catalog,
}

/// What one of them says.
pub(crate) struct PlaneState {
    pub(crate) name: String,
    pub(crate) backends: BTreeMap<String, BackendView>,
}

impl World {
    /// Asks all planes; may block as long as a socket's deadline.
    pub(crate) fn gather(planes: &dyn Planes) -> Self {
        let mut world = Self::default();
        for plane in planes.all() {
            if plane.unreachable.is_some() {
                continue;
            }
            for (backend, models) in plane.inspect.catalog() {
                world.catalog.entry(backend).or_insert(models);
            }
            let views = plane.inspect.backends().into_iter();
            let backends = views.map(|view| (view.name.to_string(), view)).collect();
            world.planes.push(PlaneState { name: plane.name, backends });
        }
        world
    }

    /// Each plane's view of a backend.
    pub(crate) fn backend(&self, name: &str) -> impl Iterator<Item = (&str, &BackendView)> {
        self.planes
            .iter()
            .filter_map(move |plane| Some((plane.name.as_str(), plane.backends.get(name)?)))
    }

    /// The best state in which any plane sees a backend.
    pub(crate) fn state_of(&self, backend: &str) -> HealthState {
        best(self.backend(backend).map(|(_, view)| view.state))
    }
}

/// The best of several states: what can take requests anywhere is not out.
pub(crate) fn best(states: impl Iterator<Item = HealthState>) -> HealthState {
    use HealthState as S;
    let rank = |state: &S| match state {
        S::Online => 4,
        S::Degraded => 3,
        S::Draining => 2,
        S::Offline => 1,
        S::Unknown => 0,
    };
    states.max_by_key(rank).unwrap_or(S::Unknown)
}

/// The routes that the desired state and what was found make up, worked out again only when either changed.
#[derive(Default)]
pub(crate) struct Routes(Mutex<Option<Known>>);

struct Known {
    desired: Arc<Desired>,
    catalog: Catalog,
    snapshot: Arc<Snapshot<()>>,
}

impl Routes {
    /// The routes now; `None` when the state does not hold together, which the registry does not let happen.
    pub(crate) fn of(
        &self,
        desired: &Arc<Desired>,
        catalog: &Catalog,
    ) -> Option<Arc<Snapshot<()>>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*known
            && Arc::ptr_eq(&known.desired, desired)
            && known.catalog == *catalog
        {
            return Some(Arc::clone(&known.snapshot));
        }
        let spec = Arc::new(desired.spec.clone());
        let built = Snapshot::build(spec, catalog, None, &mut |_| (), Instant::now());
        let snapshot = Arc::new(built.ok()?);
        *known = Some(Known {
            desired: Arc::clone(desired),
            catalog: catalog.clone(),
            snapshot: Arc::clone(&snapshot),
        });
        Some(snapshot)
    }
}
