//! The immutable, indexed world that one request sees, and how it is built.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use crate::backend::{Backend, Settings};
use crate::budget::Budget;
use crate::cap::Cap;
use crate::health::HealthState;
use crate::ids::{BackendName, ModelName};
use crate::model::{Model, Route};
use crate::poison::Poison;
use crate::regions::{RegionSet, Regions};
use crate::serving::{Found, Serving, canonical};
use crate::spec::{
    BackendSpec, Catalog, KeyDigest, KeySpec, Kind, ModelSpec, QueueSpec, Residency, ServiceSpec,
    SnapshotSpec,
};
use crate::tiers::{Ground, upstream};
use crate::{chain, validate};

pub use crate::diagnosis::{BuildError, ObjectKind, ObjectRef};
pub use crate::handle::SnapshotHandle;

/// A backend as one snapshot sees it.
#[derive(Debug)]
pub struct Member<A> {
    /// Today's weight, caps and so on.
    pub spec: Arc<BackendSpec>,
    /// The state that survives reloads.
    pub live: Arc<Backend<A>>,
}

impl<A> Clone for Member<A> {
    fn clone(&self) -> Self {
        Self { spec: Arc::clone(&self.spec), live: Arc::clone(&self.live) }
    }
}

impl<A> Member<A> {
    /// Its health, with what its spec says.
    #[must_use]
    pub fn state(&self, now: Instant) -> HealthState {
        if self.spec.draining { HealthState::Draining } else { self.live.status(now).state }
    }

    /// Whether it would get new work now.
    #[must_use]
    pub fn is_up(&self, now: Instant) -> bool {
        let rejected = |look| matches!(look, crate::breaker::Admission::Rejected(_));
        !self.is_draining() && !self.live.is_offline() && !rejected(self.live.breaker().look(now))
    }

    /// Whether its spec or the operator keeps new work away.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.spec.draining || self.live.is_drained()
    }
}

/// Everything that one request may read.
#[derive(Debug)]
pub struct Snapshot<A> {
    version: u64,
    spec: Arc<SnapshotSpec>,
    members: Vec<Member<A>>,
    numbers: HashMap<BackendName, u32>,
    models: Vec<Arc<Model>>,
    /// Every name that clients may send.
    names: HashMap<ModelName, u32>,
    public: Vec<Arc<Model>>,
    regions: Regions,
    budget: Arc<Budget>,
    poison: Arc<Poison>,
    keys: HashMap<KeyDigest, Arc<KeySpec>>,
}

impl<A> Snapshot<A> {
    /// Builds the world that a spec and what was discovered make up. Each live backend of `previous` whose connection
    /// facts (kind, URL, credential, roots) did not change is kept, so that pools, breakers, averages and in-flight
    /// counts survive; `attach` is called for the others. So do the running requests of models, the retry budget and the
    /// poison registry.
    ///
    /// # Errors
    /// Everything that is wrong with the spec.
    pub fn build(
        spec: Arc<SnapshotSpec>,
        catalog: &Catalog,
        previous: Option<&Self>,
        attach: &mut dyn FnMut(&BackendSpec) -> A,
        now: Instant,
    ) -> Result<Self, Vec<BuildError>> {
        let errors = validate::errors(&spec);
        if !errors.is_empty() {
            return Err(errors);
        }
        let members = members(&spec, previous, attach, now);
        let numbers: HashMap<_, _> =
            members.iter().zip(0..).map(|(m, number)| (m.spec.name.clone(), number)).collect();
        let regions = Regions::new(&spec);
        let serving = Serving::new(&members, catalog);
        let drafts = drafts(&spec, &serving, &members);
        let names = names(&drafts);
        let ground = Ground {
            members: &members,
            numbers: &numbers,
            heads: spec.heads.iter().map(|head| (&head.name, head)).collect(),
            regions: &regions,
            serving: &serving,
        };
        let models = models(&spec, drafts, &names, &ground, previous);
        let names = with_latest(names, &models, &members);
        let mut public = models.clone();
        public.sort_by(|one, other| one.name.cmp(&other.name));
        let keys = spec.keys.iter().map(|key| (key.digest, Arc::new(key.clone()))).collect();
        Ok(Self {
            keys,
            version: previous.map_or(1, |previous| previous.version + 1),
            spec,
            numbers,
            models,
            names,
            public,
            regions,
            budget: previous.map_or_else(
                || Arc::new(Budget::new(now)),
                |previous| Arc::clone(&previous.budget),
            ),
            poison: previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.poison)),
            members,
        })
    }

    /// The key that a digest stands for.
    #[must_use]
    pub fn key(&self, digest: &KeyDigest) -> Option<&Arc<KeySpec>> {
        self.keys.get(digest)
    }

    /// Counts the snapshots that were built, from 1.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// What was asked for.
    #[must_use]
    pub const fn spec(&self) -> &Arc<SnapshotSpec> {
        &self.spec
    }

    /// What requests read beside their route.
    #[must_use]
    pub fn service(&self) -> &ServiceSpec {
        &self.spec.service
    }

    /// How requests of a model wait.
    #[must_use]
    pub fn queue_of(&self, model: &Model) -> QueueSpec {
        let QueueSpec { timeout, size } = self.spec.queue;
        QueueSpec {
            timeout: model.spec.queue_timeout.unwrap_or(timeout),
            size: model.spec.queue_size.unwrap_or(size),
        }
    }

    /// A model by its name, an alias, or with Ollama's tag `latest` added or left out. For routing: the name that the
    /// client sent is the one to echo.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&Arc<Model>> {
        self.model_at(self.model_number(name)?)
    }

    /// The models to list, by name: what is configured, up or down, and what was discovered and is exposed.
    #[must_use]
    pub fn public_models(&self) -> &[Arc<Model>] {
        &self.public
    }

    /// Every backend that takes part, by name.
    #[must_use]
    pub fn backends(&self) -> &[Member<A>] {
        &self.members
    }

    /// A backend by its name.
    #[must_use]
    pub fn backend(&self, name: &str) -> Option<&Member<A>> {
        self.members.get(*self.numbers.get(name)? as usize)
    }

    /// The requests that kill backends.
    #[must_use]
    pub fn poison(&self) -> &Poison {
        &self.poison
    }

    /// The retry budget.
    #[must_use]
    pub const fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    pub(crate) fn model_number(&self, name: &str) -> Option<u32> {
        self.names.get(name).copied()
    }

    pub(crate) fn model_at(&self, number: u32) -> Option<&Arc<Model>> {
        self.models.get(number as usize)
    }

    pub(crate) fn member_at(&self, number: u32) -> Option<&Member<A>> {
        self.members.get(number as usize)
    }

    pub(crate) const fn regions(&self) -> &Regions {
        &self.regions
    }
}

/// The backends that take part, by name; live ones are kept where their connections stay the same.
fn members<A>(
    spec: &SnapshotSpec,
    previous: Option<&Snapshot<A>>,
    attach: &mut dyn FnMut(&BackendSpec) -> A,
    now: Instant,
) -> Vec<Member<A>> {
    let settings = Settings::of(spec);
    let mut members: Vec<_> = spec
        .backends
        .iter()
        .filter(|backend| backend.enabled)
        .map(|backend| {
            let before = previous.and_then(|previous| previous.backend(backend.name.as_str()));
            let live = before.map(|member| &member.live).filter(|live| live.is(backend));
            Member {
                spec: before
                    .map(|member| &member.spec)
                    .filter(|known| ***known == *backend)
                    .map_or_else(|| Arc::new(backend.clone()), Arc::clone),
                live: live.map_or_else(
                    || Arc::new(Backend::new(backend, settings, attach(backend), now)),
                    Arc::clone,
                ),
            }
        })
        .collect();
    members.sort_by(|one, other| one.spec.name.cmp(&other.spec.name));
    members
}

/// A model before its route is known.
struct Draft<'a> {
    spec: Arc<ModelSpec>,
    declared: bool,
    found: Vec<Found<'a>>,
}

/// The declared models in their order, then the discovered ones that are public, by name.
fn drafts<'a, A>(
    spec: &SnapshotSpec,
    serving: &Serving<'a>,
    members: &[Member<A>],
) -> Vec<Draft<'a>> {
    let mut drafts: Vec<_> = spec
        .models
        .iter()
        .map(|model| Draft {
            spec: Arc::new(model.clone()),
            declared: true,
            found: serving.of(upstream(model, None).as_str()),
        })
        .collect();
    let taken: HashSet<&ModelName> =
        spec.models.iter().flat_map(|m| std::iter::once(&m.name).chain(&m.aliases)).collect();
    let used: HashSet<String> = spec
        .models
        .iter()
        .flat_map(|model| {
            let deployments = model.deployments.iter().map(|d| upstream(model, Some(d)));
            std::iter::once(upstream(model, None)).chain(deployments)
        })
        .map(|name| canonical(name.as_str()))
        .collect();
    let mut discovered: BTreeMap<&ModelName, Vec<Found<'a>>> = BTreeMap::new();
    for found in serving.all() {
        let declared = members[found.backend as usize].spec.models.is_some();
        let public = spec.discovery.expose || declared;
        let hidden = taken.contains(found.name) || used.contains(&canonical(found.name.as_str()));
        if public && !hidden {
            discovered.entry(found.name).or_default().push(found);
        }
    }
    drafts.extend(discovered.into_iter().map(|(name, mut found)| {
        found.sort_by_key(|found| found.backend);
        Draft { spec: Arc::new(ModelSpec::new(name.clone())), declared: false, found }
    }));
    drafts
}

fn names(drafts: &[Draft<'_>]) -> HashMap<ModelName, u32> {
    let mut names = HashMap::new();
    for (draft, number) in drafts.iter().zip(0..) {
        for name in std::iter::once(&draft.spec.name).chain(&draft.spec.aliases) {
            names.entry(name.clone()).or_insert(number);
        }
    }
    names
}

fn models<A>(
    spec: &SnapshotSpec,
    drafts: Vec<Draft<'_>>,
    names: &HashMap<ModelName, u32>,
    ground: &Ground<'_, A>,
    previous: Option<&Snapshot<A>>,
) -> Vec<Arc<Model>> {
    // Fallbacks are often discovered, and an Ollama gives `x` as `x:latest`.
    let number =
        |name: &ModelName| names.get(name).or_else(|| names.get(&other_spelling(name)?)).copied();
    let fallbacks: Vec<Vec<u32>> = drafts
        .iter()
        .map(|draft| draft.spec.fallbacks.iter().filter_map(number).collect())
        .collect();
    let numbered = drafts.into_iter().zip(0..);
    let models = numbered.map(|(draft, own)| {
        let context_fallback = draft.spec.context_fallback.as_ref();
        let strict = draft.spec.residency == Residency::Strict;
        let home = draft.spec.region.as_ref().or(spec.default_region.as_ref());
        let allowed = match strict {
            true => ground.regions.set(home.into_iter().chain(&draft.spec.regions)),
            false => RegionSet::ALL,
        };
        let route = Route {
            home: home.and_then(|home| ground.regions.number(home.as_str())),
            allowed,
            strict,
            local_only: draft.spec.local_inference,
            policy: draft.spec.policy.clone().unwrap_or_else(|| spec.policy.clone()),
            tiers: ground.tiers(&draft.spec),
            chain: chain::of(own, &fallbacks),
            context_fallback: context_fallback.and_then(number).filter(|other| *other != own),
        };
        let cap = cap(&draft.spec, previous);
        Arc::new(model(draft, route, cap))
    });
    models.collect()
}

/// The cap that a model of this name has had, with what runs under it, or a new one.
fn cap<A>(spec: &ModelSpec, previous: Option<&Snapshot<A>>) -> Arc<Cap> {
    let before = previous.and_then(|previous| previous.model(spec.name.as_str()));
    let before = before.filter(|model| model.name == spec.name);
    before.map_or_else(|| Arc::new(Cap::new(spec.max_in_flight)), |model| Arc::clone(&model.cap))
}

fn model(draft: Draft<'_>, route: Route, cap: Arc<Cap>) -> Model {
    let listed: Vec<_> = draft.found.iter().filter_map(|found| found.listed).collect();
    let context = listed.iter().filter_map(|model| model.context_length).min();
    Model {
        name: draft.spec.name.clone(),
        declared: draft.declared,
        created: listed.iter().find_map(|model| model.created),
        owned_by: listed.iter().find_map(|model| model.owned_by.clone()),
        context_length: draft.spec.context_length.or(context),
        parent: listed.iter().find_map(|model| model.parent.clone()),
        spec: draft.spec,
        route,
        cap,
    }
}

/// Adds the other spelling of names that an Ollama backend serves, where it is free: `x` for `x:latest` and the reverse.
fn with_latest<A>(
    mut names: HashMap<ModelName, u32>,
    models: &[Arc<Model>],
    members: &[Member<A>],
) -> HashMap<ModelName, u32> {
    let on_ollama = |model: &Model| {
        let deployments = model.route.tiers.iter().flat_map(|tier| &tier.members);
        let mut members = deployments.filter_map(|d| members.get(d.backend as usize));
        members.any(|member| member.spec.kind == Kind::Ollama)
    };
    let mut added = Vec::new();
    for (name, number) in &names {
        if !models.get(*number as usize).is_some_and(|model| on_ollama(model)) {
            continue;
        }
        added.extend(other_spelling(name).map(|other| (other, *number)));
    }
    for (name, number) in added {
        names.entry(name).or_insert(number);
    }
    names
}

/// Ollama's other spelling of a name: with the tag `latest`, or without it.
fn other_spelling(name: &ModelName) -> Option<ModelName> {
    let other = match name.as_str().strip_suffix(":latest") {
        Some(stem) => ModelName::try_from(stem),
        None if name.as_str().contains(':') => return None,
        None => ModelName::try_from(format!("{name}:latest").as_str()),
    };
    other.ok()
}

#[cfg(test)]
mod tests;
