//! Small worlds for tests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ids::{BackendName, HeadName, ModelName, RegionName};
use crate::operation::Operation;
use crate::outcome::{Failure, FailureKind, Origin, Outcome, Retry, Stage};
use crate::plan::{Candidate, Exhausted, Query, RoutePlan, plan};
use crate::snapshot::{BuildError, Snapshot};
use crate::spec::{
    BackendSpec, Catalog, DiscoveredModel, HeadOrder, HeadSpec, Kind, ModelSpec, RegionSpec,
    SnapshotSpec,
};

pub(crate) fn region(text: &str) -> RegionName {
    RegionName::try_from(text).unwrap()
}

pub(crate) fn model(text: &str) -> ModelName {
    ModelName::try_from(text).unwrap()
}

pub(crate) fn backend_name(text: &str) -> BackendName {
    BackendName::try_from(text).unwrap()
}

/// A backend whose models are declared.
pub(crate) fn backend(name: &str, place: &str, models: &[&str]) -> BackendSpec {
    let url = format!("http://{name}.test");
    let mut spec = BackendSpec::new(backend_name(name), Kind::Vllm, url, region(place));
    spec.models = Some(models.iter().map(|name| model(name)).collect());
    spec
}

pub(crate) fn head(name: &str, place: &str, backends: &[&str]) -> HeadSpec {
    HeadSpec {
        name: HeadName::try_from(name).unwrap(),
        region: region(place),
        backends: backends.iter().map(|name| backend_name(name)).collect(),
        order: HeadOrder::Balanced,
    }
}

pub(crate) fn head_name(text: &str) -> HeadName {
    HeadName::try_from(text).unwrap()
}

pub(crate) fn model_spec(name: &str) -> ModelSpec {
    ModelSpec::new(model(name))
}

pub(crate) fn regions(names: &[&str]) -> Vec<RegionSpec> {
    let one = |name: &&str| RegionSpec { name: region(name), neighbours: Vec::new() };
    names.iter().map(one).collect()
}

pub(crate) fn found(name: &str) -> DiscoveredModel {
    DiscoveredModel {
        name: model(name),
        created: None,
        owned_by: None,
        context_length: None,
        parent: None,
        digest: None,
        remote: false,
    }
}

pub(crate) fn build(spec: SnapshotSpec) -> Result<Arc<Snapshot<()>>, Vec<BuildError>> {
    build_with(spec, &Catalog::new())
}

pub(crate) fn build_with(
    spec: SnapshotSpec,
    catalog: &Catalog,
) -> Result<Arc<Snapshot<()>>, Vec<BuildError>> {
    let spec = Arc::new(spec);
    // Born long enough ago for every ramp to be over.
    let born = Instant::now().checked_sub(Duration::from_secs(600)).unwrap();
    Snapshot::build(spec, catalog, None, &mut |_| (), born).map(Arc::new)
}

pub(crate) fn query(model: &str) -> Query<'_> {
    Query {
        model,
        operation: Operation::ChatCompletions,
        region: None,
        key_region: None,
        key_regions: None,
        affinity: None,
        repeatable: true,
    }
}

pub(crate) fn route(world: &Arc<Snapshot<()>>, query: &Query<'_>) -> RoutePlan<()> {
    plan(world, query, &mut ()).unwrap()
}

pub(crate) fn failure(kind: FailureKind) -> Failure {
    Failure {
        origin: Origin::Upstream,
        stage: Stage::AwaitHead,
        kind,
        retry: Retry::OtherBackend,
        retry_after: None,
    }
}

pub(crate) fn failed(kind: FailureKind) -> Outcome {
    Outcome::Failure(failure(kind))
}

/// Ends a candidate's attempt and gives its name.
pub(crate) fn end(candidate: Candidate<()>, outcome: &Outcome, now: Instant) -> String {
    let Candidate { member, permit, .. } = candidate;
    member.live.report(permit, outcome, now, &mut fastrand::Rng::with_seed(1));
    member.spec.name.to_string()
}

/// The names of everything that a plan gives when each attempt fails to connect.
pub(crate) fn walk(
    plan: &mut RoutePlan<()>,
    now: Instant,
    rng: &mut fastrand::Rng,
) -> (Vec<String>, Exhausted) {
    let mut names = Vec::new();
    loop {
        match plan.next(now, rng) {
            Ok(candidate) => {
                let outcome = failed(FailureKind::ConnectFailed);
                names.push(end(candidate, &outcome, now));
            }
            Err(exhausted) => return (names, exhausted),
        }
    }
}

/// Opens a backend's breaker.
pub(crate) fn break_it(world: &Arc<Snapshot<()>>, name: &str, now: Instant) {
    let live = &world.backend(name).unwrap().live;
    while live.breaker().is_closed() {
        let permit = live.breaker().admit(now).unwrap();
        let outcome = failed(FailureKind::ConnectFailed);
        live.report(permit, &outcome, now, &mut fastrand::Rng::with_seed(1));
    }
}
