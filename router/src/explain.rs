//! The route plan and why: the same decisions as a request's, shown instead of taken.

use std::time::{Duration, Instant};

use crate::balance::{self, Choice, LOAD_BOUND};
use crate::candidate::Exhausted;
use crate::ids::{BackendName, HeadName, ModelName, RegionName};
use crate::judge::{Limits, PassedOver, judge, measure};
use crate::model::{Model, Tier};
use crate::plan::{Blocked, Observer, PlanError, Query, RoutePlan, plan};
use crate::snapshot::Snapshot;
use crate::spec::Policy;

use std::sync::Arc;

/// What would happen to a request now.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The snapshot's version.
    pub version: u64,
    /// The model that the name means.
    pub model: ModelName,
    /// Its home region.
    pub home: Option<RegionName>,
    /// The regions that residency and the key leave; `None` = all.
    pub allowed: Option<Vec<RegionName>>,
    /// The tiers in the order in which they are tried.
    pub tiers: Vec<ExplainedTier>,
    /// Why there is no plan at all.
    pub refused: Option<PlanError>,
    /// What a client would be told now, where there is a plan and no candidate. One trial may still be made where all
    /// are open or offline.
    pub exhausted: Option<Exhausted>,
    /// How long the request would wait for a place at most, where there is no candidate now but someone who is only
    /// busy. The queue may be full.
    pub would_wait: Option<Duration>,
}

/// One tier.
#[derive(Debug, Clone, PartialEq)]
pub struct ExplainedTier {
    /// The model: the one asked for, or a fallback.
    pub model: ModelName,
    /// The head; `None` = implicit.
    pub head: Option<HeadName>,
    /// The region.
    pub region: RegionName,
    /// How candidates are drawn: a policy's word, or `listed`.
    pub policy: &'static str,
    /// Why the tier takes no part.
    pub blocked: Option<Blocked>,
    /// Its backends: those that would be tried, in order, then the others.
    pub candidates: Vec<ExplainedCandidate>,
}

/// One backend of a tier.
#[derive(Debug, Clone, PartialEq)]
pub struct ExplainedCandidate {
    /// The backend.
    pub backend: BackendName,
    /// Its name for the model; `None` = it does not serve it.
    pub upstream_model: Option<ModelName>,
    /// `least_load`'s score: seconds to the first event x (requests in front + 1) / weight; the smallest wins. A
    /// backend that was never measured counts one second. `None` = not usable.
    pub score: Option<f64>,
    /// Requests under way.
    pub in_flight: u32,
    /// Whether the model would have to be loaded first.
    pub cold: bool,
    /// Whether it would be the trial of a breaker that is not closed.
    pub trial: bool,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// What becomes of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It would be tried as the n-th, from 1, if those before it fail. `least_load` draws two at random and takes the
    /// better, so the order within its tiers is the likeliest one.
    Attempt(u32),
    /// It could be tried, but as many as may be come before it.
    Spare,
    /// It is passed over.
    PassedOver(PassedOver),
}

/// Explains what would happen to a request now. Takes no slot, no permit and no budget.
///
/// # Errors
/// [`PlanError::UnknownModel`] and [`PlanError::UnknownRegion`]; the others are part of the explanation.
pub fn explain<A>(
    snapshot: &Arc<Snapshot<A>>,
    query: &Query<'_>,
    now: Instant,
) -> Result<Explanation, PlanError> {
    let mut seen = Collector::default();
    let (plan, refused) = match plan(snapshot, query, &mut seen) {
        Ok(plan) => (Some(plan), None),
        Err(error @ (PlanError::UnknownModel | PlanError::UnknownRegion { .. })) => {
            return Err(error);
        }
        Err(error) => (None, Some(error)),
    };
    let model = snapshot.model(query.model).ok_or(PlanError::UnknownModel)?;
    let mut view = View { snapshot, query, plan: plan.as_ref(), now, order: Order::default() };
    let tiers = seen.0.iter().filter_map(|(name, tier, blocked)| {
        let model = snapshot.model(name.as_str())?;
        view.tier(model, model.route.tiers.get(*tier)?, *blocked)
    });
    let tiers: Vec<_> = tiers.collect();
    let exhausted = plan.as_ref().filter(|_| view.order.attempts == 0);
    let exhausted = exhausted.map(|plan| plan.outlook(now));
    let key = query.key_regions;
    let regions = snapshot.regions();
    let allowed = (model.route.strict || key.is_some()).then(|| {
        let key = key.map_or(crate::regions::RegionSet::ALL, |names| regions.set(names));
        regions.list(key.and(model.route.allowed))
    });
    Ok(Explanation {
        version: snapshot.version(),
        model: model.name.clone(),
        home: model.route.home.and_then(|home| regions.name(home)).cloned(),
        allowed,
        tiers,
        refused,
        would_wait: exhausted.as_ref().and_then(|told| would_wait(snapshot, model, told, now)),
        exhausted,
    })
}

fn would_wait<A>(
    snapshot: &Snapshot<A>,
    model: &Model,
    told: &Exhausted,
    now: Instant,
) -> Option<Duration> {
    let queue = snapshot.queue_of(model);
    let worth = told.busy.is_some_and(|busy| busy.may_end_before(now + queue.timeout));
    (worth && queue.is_open()).then_some(queue.timeout)
}

/// What [`plan`] looked at.
#[derive(Default)]
struct Collector(Vec<(ModelName, usize, Option<Blocked>)>);

impl Observer for Collector {
    fn tier(&mut self, model: &Model, tier: usize, blocked: Option<Blocked>) {
        self.0.push((model.name.clone(), tier, blocked));
    }
}

/// How far the order has come.
#[derive(Default)]
struct Order {
    attempts: u32,
    /// The model whose tiers are being looked at, and its attempts.
    model: Option<ModelName>,
    of_model: u32,
    tried: Vec<u32>,
}

struct View<'a, A> {
    snapshot: &'a Snapshot<A>,
    query: &'a Query<'a>,
    plan: Option<&'a RoutePlan<A>>,
    now: Instant,
    order: Order,
}

impl<A> View<'_, A> {
    fn tier(
        &mut self,
        model: &Model,
        tier: &Tier,
        blocked: Option<Blocked>,
    ) -> Option<ExplainedTier> {
        if self.order.model.as_ref() != Some(&model.name) {
            self.order.model = Some(model.name.clone());
            self.order.of_model = 0;
        }
        let mut candidates = Vec::new();
        let judged: Vec<_> = (0..tier.members.len()).map(|i| self.judge(model, tier, i)).collect();
        if blocked.is_none() {
            for choice in self.order(model, tier, &judged) {
                let verdict = self.take(tier, &choice);
                candidates.extend(self.candidate(tier, choice.index, Some(choice), verdict));
            }
        }
        for (index, judged) in judged.iter().enumerate() {
            let verdict = match (judged, blocked) {
                (Err(reason), _) => Verdict::PassedOver(*reason),
                (Ok(_), Some(_)) => Verdict::Spare,
                (Ok(_), None) => continue,
            };
            candidates.extend(self.candidate(tier, index, None, verdict));
        }
        candidates.extend(tier.without.iter().filter_map(|number| self.without(*number)));
        Some(ExplainedTier {
            model: model.name.clone(),
            head: tier.head.clone(),
            region: self.snapshot.regions().name(tier.region)?.clone(),
            policy: if tier.listed { "listed" } else { word(&model.route.policy) },
            blocked,
            candidates,
        })
    }

    fn judge(&self, model: &Model, tier: &Tier, index: usize) -> Result<Choice, PassedOver> {
        let limits = match self.plan {
            Some(plan) => *plan.limits(),
            None => Limits::none(self.query.operation),
        };
        let deployment = tier.members.get(index).ok_or(PassedOver::ModelNotServed)?;
        let tried = &self.order.tried;
        judge(self.snapshot, model, deployment, index, &limits, tried, self.now)
    }

    /// The usable members in the order in which they would be drawn.
    fn order(
        &self,
        model: &Model,
        tier: &Tier,
        judged: &[Result<Choice, PassedOver>],
    ) -> Vec<Choice> {
        let mut left: Vec<Choice> = judged.iter().filter_map(|judged| judged.ok()).collect();
        let affinity = self.query.affinity;
        let hashed = match (&model.route.policy, affinity) {
            _ if tier.listed => return left,
            (Policy::RoundRobin, _) => None,
            (Policy::PrefixHash, Some(affinity)) => Some((affinity, Some(LOAD_BOUND))),
            (Policy::Session(_), Some(affinity)) => Some((affinity, None)),
            (Policy::LeastLoad | Policy::PrefixHash | Policy::Session(_), _) => {
                left.sort_by(|one, other| {
                    let score = |choice: &Choice| self.score(tier, choice);
                    one.cold.cmp(&other.cold).then(score(one).total_cmp(&score(other)))
                });
                return left;
            }
        };
        let mut order = Vec::with_capacity(left.len());
        loop {
            let fit = |index: usize| left.iter().find(|choice| choice.index == index).copied();
            let next = match hashed {
                Some((affinity, bound)) => {
                    balance::hashed(tier.members.len(), fit, affinity, bound)
                }
                None => tier.turns.look(tier.members.len(), fit),
            };
            let Some(next) = next else { return order };
            left.retain(|choice| choice.index != next.index);
            order.push(next);
        }
    }

    fn score(&self, tier: &Tier, choice: &Choice) -> f64 {
        measure(self.snapshot, tier, choice, self.now).cost(choice.weight, 1.0)
    }

    fn take(&mut self, tier: &Tier, choice: &Choice) -> Verdict {
        let retry = self.snapshot.spec().retry;
        let backend = tier.members.get(choice.index).map(|deployment| deployment.backend);
        let most = if self.query.repeatable { retry.max_attempts_chain.max(1) } else { 1 };
        if self.order.attempts >= most || self.order.of_model >= retry.max_attempts.max(1) {
            return Verdict::Spare;
        }
        self.order.tried.extend(backend);
        self.order.attempts += 1;
        self.order.of_model += 1;
        Verdict::Attempt(self.order.attempts)
    }

    fn candidate(
        &self,
        tier: &Tier,
        index: usize,
        choice: Option<Choice>,
        verdict: Verdict,
    ) -> Option<ExplainedCandidate> {
        let deployment = tier.members.get(index)?;
        let member = self.snapshot.member_at(deployment.backend)?;
        Some(ExplainedCandidate {
            backend: member.spec.name.clone(),
            upstream_model: Some(deployment.upstream.clone()),
            score: choice.map(|choice| self.score(tier, &choice)),
            in_flight: member.live.in_flight(),
            cold: choice.is_some_and(|choice| choice.cold),
            trial: choice.is_some_and(|choice| choice.trial),
            verdict,
        })
    }

    fn without(&self, number: u32) -> Option<ExplainedCandidate> {
        let member = self.snapshot.member_at(number)?;
        Some(ExplainedCandidate {
            backend: member.spec.name.clone(),
            upstream_model: None,
            score: None,
            in_flight: member.live.in_flight(),
            cold: false,
            trial: false,
            verdict: Verdict::PassedOver(PassedOver::ModelNotServed),
        })
    }
}

const fn word(policy: &Policy) -> &'static str {
    match policy {
        Policy::LeastLoad => "least_load",
        Policy::RoundRobin => "round_robin",
        Policy::PrefixHash => "prefix_hash",
        Policy::Session(_) => "session",
    }
}

#[cfg(test)]
mod tests;
