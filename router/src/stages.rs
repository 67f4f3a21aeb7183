//! The order of tiers: where a request goes first, where next, and where it may not go at all.

use smallvec::SmallVec;

use serde::{Deserialize, Serialize};

use crate::balance::{self, Choice, LOAD_BOUND, Measure};
use crate::judge::Limits;
use crate::model::{Model, Tier};
use crate::plan::{PlanError, Query};
use crate::regions::{Region, RegionSet};
use crate::serving::serves;
use crate::snapshot::Snapshot;
use crate::spec::Policy;

use std::sync::Arc;

/// One tier of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// The model's number.
    pub(crate) model: u32,
    /// The tier's place in the model's route.
    pub(crate) tier: u32,
}

impl Place {
    pub(crate) fn find<A>(self, snapshot: &Snapshot<A>) -> Option<(&Arc<Model>, &Tier)> {
        let model = snapshot.model_at(self.model)?;
        Some((model, model.route.tiers.get(self.tier as usize)?))
    }
}

/// Why a whole tier takes no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Blocked {
    /// Its region is outside what residency or the client's key allow.
    Region,
    /// All its members would send the request on to another machine, and that may not be.
    LeavesTheMachine,
    /// It has no member that serves the model and the operation.
    NotServed,
}

impl Blocked {
    /// The words for `explain` and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Region => "region not allowed",
            Self::LeavesTheMachine => "leaves the machine",
            Self::NotServed => "not served",
        }
    }
}

/// Watches a plan being made. `()` on the hot path; a collector for `explain`.
pub trait Observer {
    /// A tier was looked at, in order; `blocked` = why it takes no part.
    fn tier(&mut self, model: &Model, tier: usize, blocked: Option<Blocked>);
}

impl Observer for () {
    fn tier(&mut self, _: &Model, _: usize, _: Option<Blocked>) {}
}

type Stages = SmallVec<[Place; 8]>;

/// Everything about a query that can be settled without looking at live state.
pub(crate) fn lay_out<A>(
    snapshot: &Snapshot<A>,
    query: &Query<'_>,
    observer: &mut impl Observer,
) -> Result<(Limits, u32, Stages), PlanError> {
    let regions = snapshot.regions();
    let asked = match query.region {
        Some(name) => Some(
            regions
                .number(name)
                .ok_or_else(|| PlanError::UnknownRegion { known: regions.names().to_vec() })?,
        ),
        None => query.key_region.and_then(|name| regions.number(name.as_str())),
    };
    let root = snapshot.model_number(query.model).ok_or(PlanError::UnknownModel)?;
    let model = snapshot.model_at(root).ok_or(PlanError::UnknownModel)?;
    let key = query.key_regions.map_or(RegionSet::ALL, |names| regions.set(names));
    let limits = Limits {
        operation: query.operation,
        regions: key.and(model.route.allowed),
        sealed: model.route.strict || query.key_regions.is_some(),
        local_only: model.route.local_only,
        asked,
    };
    let mut stages = Stages::new();
    let mut blocked = limits.regions.is_empty();
    for number in std::iter::once(root).chain(model.route.chain.iter().copied()) {
        blocked |= extend(&mut stages, snapshot, number, &limits, observer);
    }
    if !stages.is_empty() {
        return Ok((limits, root, stages));
    }
    Err(if blocked {
        PlanError::RegionUnavailable { allowed: regions.list(limits.regions) }
    } else {
        PlanError::NotServed
    })
}

/// The tiers of one model alone.
pub(crate) fn of_model<A>(
    snapshot: &Snapshot<A>,
    number: u32,
    limits: &Limits,
    observer: &mut impl Observer,
) -> Stages {
    let mut stages = Stages::new();
    extend(&mut stages, snapshot, number, limits, observer);
    stages
}

/// Adds one model's tiers in order; true when residency or the key took one away.
fn extend<A>(
    stages: &mut Stages,
    snapshot: &Snapshot<A>,
    number: u32,
    limits: &Limits,
    observer: &mut impl Observer,
) -> bool {
    let Some(model) = snapshot.model_at(number) else { return false };
    let mut order: SmallVec<[(Rank, u32); 16]> = (0..)
        .zip(&model.route.tiers)
        .map(|(index, tier)| (rank(snapshot, model, tier, limits.asked), index))
        .collect();
    order.sort_unstable();
    let mut sealed_off = false;
    for (_, index) in order {
        let Some(tier) = model.route.tiers.get(index as usize) else { continue };
        let blocked = blocked(snapshot, model, tier, limits);
        observer.tier(model, index as usize, blocked);
        sealed_off |= matches!(blocked, Some(Blocked::Region | Blocked::LeavesTheMachine));
        if blocked.is_none() {
            stages.push(Place { model: number, tier: index });
        }
    }
    sealed_off
}

/// What tiers are ordered by, before their order of declaration.
type Rank = (bool, u8, bool);

/// With a region asked for: by distance from there, the priority head first within each distance. Without: the priority
/// head, then by distance from home.
fn rank<A>(snapshot: &Snapshot<A>, model: &Model, tier: &Tier, asked: Option<Region>) -> Rank {
    let ours = || snapshot.spec().server_region.as_ref();
    let home = model.route.home.or_else(|| snapshot.regions().number(ours()?.as_str()));
    let distance = snapshot.regions().distance(asked.or(home), tier.region);
    (asked.is_none() && !tier.priority, distance, !tier.priority)
}

fn blocked<A>(
    snapshot: &Snapshot<A>,
    model: &Model,
    tier: &Tier,
    limits: &Limits,
) -> Option<Blocked> {
    if !limits.regions_of(model).has(tier.region) {
        // A tier that serves nothing is no loss to residency.
        let serves = !tier.members.is_empty();
        return Some(if serves { Blocked::Region } else { Blocked::NotServed });
    }
    let sealed = limits.sealed || model.route.strict;
    let mut remote = false;
    for deployment in &tier.members {
        let kind = snapshot.member_at(deployment.backend).map(|member| member.spec.kind);
        if !kind.is_some_and(|kind| serves(kind, limits.operation)) {
            continue;
        }
        if !(sealed && deployment.remote) {
            return None;
        }
        remote = true;
    }
    Some(if remote { Blocked::LeavesTheMachine } else { Blocked::NotServed })
}

/// Draws one of a tier's members that `fit`, by the head's order or the model's policy.
pub(crate) fn choose(
    model: &Model,
    tier: &Tier,
    affinity: Option<u64>,
    fit: impl Fn(usize) -> Option<Choice>,
    measure: impl Fn(&Choice) -> Measure,
    rng: &mut fastrand::Rng,
) -> Option<Choice> {
    let count = tier.members.len();
    if tier.listed {
        return balance::listed(count, fit);
    }
    match (&model.route.policy, affinity) {
        (Policy::RoundRobin, _) => tier.turns.next(count, fit),
        (Policy::PrefixHash, Some(affinity)) => {
            balance::hashed(count, fit, affinity, Some(LOAD_BOUND))
        }
        (Policy::Session(_), Some(affinity)) => balance::hashed(count, fit, affinity, None),
        (Policy::LeastLoad | Policy::PrefixHash | Policy::Session(_), _) => {
            balance::least_load(count, fit, measure, rng)
        }
    }
}
