//! Where the current snapshot is, and how the next one takes its place.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;

use crate::backend::Settings;
use crate::diagnosis::BuildError;
use crate::ids::BackendName;
use crate::snapshot::Snapshot;
use crate::spec::{BackendSpec, Catalog, DiscoveredModel, SnapshotSpec};

/// Makes what the data plane attaches to a backend.
pub type Attach<A> = Box<dyn Fn(&BackendSpec) -> A + Send + Sync>;

/// The current snapshot. Readers take it once per request, at the top; writers take turns and swap once.
pub struct SnapshotHandle<A> {
    current: ArcSwap<Snapshot<A>>,
    /// What was discovered; held while a snapshot is built, so that writers take turns.
    catalog: Mutex<Catalog>,
    attach: Attach<A>,
}

impl<A> std::fmt::Debug for SnapshotHandle<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let version = self.current.load().version();
        f.debug_struct("SnapshotHandle").field("version", &version).finish_non_exhaustive()
    }
}

impl<A> SnapshotHandle<A> {
    /// Builds the first snapshot.
    ///
    /// # Errors
    /// Everything that is wrong with the spec.
    pub fn new(
        spec: impl Into<Arc<SnapshotSpec>>,
        attach: Attach<A>,
        now: Instant,
    ) -> Result<Self, Vec<BuildError>> {
        let first =
            Snapshot::build(spec.into(), &Catalog::new(), None, &mut |spec| attach(spec), now)?;
        Ok(Self {
            current: ArcSwap::from_pointee(first),
            catalog: Mutex::new(Catalog::new()),
            attach,
        })
    }

    /// The current snapshot.
    #[must_use]
    pub fn load(&self) -> Arc<Snapshot<A>> {
        self.current.load_full()
    }

    /// Puts another spec in place and gives its version. What was discovered on backends that stay is kept.
    ///
    /// # Errors
    /// Everything that is wrong with the spec; the current snapshot stays.
    pub fn publish(
        &self,
        spec: impl Into<Arc<SnapshotSpec>>,
        now: Instant,
    ) -> Result<u64, Vec<BuildError>> {
        let spec = spec.into();
        let mut catalog = self.lock();
        let before = self.load();
        let stays = |name: &BackendName| {
            let after = spec.backends.iter().find(|backend| backend.name == *name);
            before.backend(name.as_str()).zip(after).is_some_and(|(old, new)| old.live.is(new))
        };
        let mut kept = catalog.clone();
        kept.retain(|name, _| stays(name));
        let next = self.build(&before, Arc::clone(&spec), &kept, now)?;
        let version = next.version();
        let settings = Settings::of(&spec);
        for member in next.backends() {
            member.live.configure(&member.spec, settings);
        }
        for model in next.public_models() {
            model.cap.set(model.spec.max_in_flight);
        }
        *catalog = kept;
        self.replace(&before, next);
        Ok(version)
    }

    /// Takes note of the models that were found on a backend; what it said it does not have is forgotten. True when
    /// that changed the world; also false where there is no such backend.
    pub fn set_catalog(
        &self,
        backend: &BackendName,
        models: Arc<[DiscoveredModel]>,
        now: Instant,
    ) -> bool {
        let mut catalog = self.lock();
        let before = self.load();
        let Some(member) = before.backend(backend.as_str()) else { return false };
        member.live.clear_absent();
        if catalog.get(backend).is_some_and(|known| same(known, &models)) {
            return false;
        }
        catalog.insert(backend.clone(), models);
        match self.build(&before, Arc::clone(before.spec()), &catalog, now) {
            Ok(next) => {
                self.replace(&before, next);
                true
            }
            // The spec was built before, and what is discovered makes no errors.
            Err(_) => false,
        }
    }

    /// What was discovered so far.
    #[must_use]
    pub fn catalog(&self) -> Catalog {
        self.lock().clone()
    }

    /// Whoever waits for a model is told: there may be new backends, or higher caps.
    fn replace(&self, before: &Snapshot<A>, next: Snapshot<A>) {
        self.current.store(Arc::new(next));
        for model in before.public_models() {
            model.cap.audience().tell();
        }
    }

    fn build(
        &self,
        before: &Snapshot<A>,
        spec: Arc<SnapshotSpec>,
        catalog: &Catalog,
        now: Instant,
    ) -> Result<Snapshot<A>, Vec<BuildError>> {
        Snapshot::build(spec, catalog, Some(before), &mut |spec| (self.attach)(spec), now)
    }

    fn lock(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether two lists mean the same. vLLM stamps `created` anew at each call; that is no change.
fn same(one: &[DiscoveredModel], other: &[DiscoveredModel]) -> bool {
    let alike = |one: &DiscoveredModel, other: &DiscoveredModel| {
        let other = DiscoveredModel { created: one.created, ..other.clone() };
        *one == other
    };
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| alike(one, other))
}
