//! The route of one request: which backends it may meet, in which order, drawn one at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::backend::Slot;
use crate::balance::Choice;
use crate::breaker::Permit;
use crate::budget::RetryTicket;
use crate::ids::RegionName;
use crate::judge::{Limits, PassedOver, judge, measure};
use crate::model::{Deployment, Model, Tier};
use crate::outcome::{Failure, Retry, Stage};
use crate::panic::Survey;
use crate::snapshot::{Member, Snapshot};
use crate::spec::Kind;
use crate::stages::{self, Place};

mod wait;

pub use crate::candidate::{Busy, Candidate, Exhausted, ExhaustedReason};
pub use crate::query::{PlanError, Query};
pub use crate::stages::{Blocked, Observer};
pub use wait::Listening;

/// What a client is told to wait at least, and at most where a trial may succeed any moment.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Times that one draw may lose its candidate to another core before it goes on to the next tier.
const RACES_MAX: usize = 4;

/// Works out where a request may go. Nothing is reserved yet.
///
/// # Errors
/// [`PlanError`] when there is no place at all, whatever the backends' state.
pub fn plan<A>(
    snapshot: &Arc<Snapshot<A>>,
    query: &Query<'_>,
    observer: &mut impl Observer,
) -> Result<RoutePlan<A>, PlanError> {
    let (limits, root, stages) = stages::lay_out(snapshot, query, observer)?;
    Ok(RoutePlan {
        snapshot: Arc::clone(snapshot),
        limits,
        root,
        asked: root_model(snapshot, root)?,
        affinity: query.affinity,
        repeatable: query.repeatable,
        without_effect: 0,
        stages,
        tried: SmallVec::new(),
        attempts: SmallVec::new(),
        panicked: false,
    })
}

fn root_model<A>(snapshot: &Snapshot<A>, root: u32) -> Result<Arc<Model>, PlanError> {
    snapshot.model_at(root).map(Arc::clone).ok_or(PlanError::UnknownModel)
}

/// The tiers of candidates for one request.
#[derive(Debug)]
pub struct RoutePlan<A> {
    snapshot: Arc<Snapshot<A>>,
    limits: Limits,
    root: u32,
    asked: Arc<Model>,
    affinity: Option<u64>,
    repeatable: bool,
    /// Attempts that may be followed by another one although the request may not be repeated: they never left, or were
    /// refused for their length.
    without_effect: u32,
    stages: SmallVec<[Place; 8]>,
    /// Numbers of the backends that had their turn.
    tried: SmallVec<[u32; 8]>,
    /// The model of each attempt.
    attempts: SmallVec<[u32; 8]>,
    panicked: bool,
}

/// How a draw from a tier ended.
enum Draw<A> {
    Won(Box<Candidate<A>>),
    /// There is no one left.
    Empty,
    /// There is someone, but retries are spent.
    NoBudget,
}

impl<A> RoutePlan<A> {
    /// The model that was asked for.
    #[must_use]
    pub const fn model(&self) -> &Arc<Model> {
        &self.asked
    }

    /// The only regions where the answer, and any copy of it, may be, by name; `None` = anywhere.
    #[must_use]
    pub fn walls(&self) -> Option<Vec<RegionName>> {
        let list = || self.snapshot.regions().list(self.limits.regions);
        let mut walls = self.limits.sealed.then(list)?;
        walls.sort();
        Some(walls)
    }

    pub(crate) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Attempts so far.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        u32::try_from(self.attempts.len()).unwrap_or(u32::MAX)
    }

    /// Whether a failure may be followed by another attempt: it moves on, and the request may be repeated or never left.
    /// A plan for a request that may not be repeated gives one candidate, and another after each such failure.
    pub fn allows_retry(&mut self, failure: &Failure) -> bool {
        let moves_on = failure.retry == Retry::OtherBackend;
        if moves_on && failure.stage == Stage::Connect {
            self.without_effect = self.attempts();
        }
        moves_on && self.may_repeat()
    }

    fn may_repeat(&self) -> bool {
        self.repeatable || self.attempts() <= self.without_effect
    }

    /// Draws the next candidate: from the first tier that has one now, never a backend that had its turn.
    ///
    /// # Errors
    /// [`Exhausted`] when there is none, or attempts or retries are spent.
    pub fn next(
        &mut self,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Result<Candidate<A>, Exhausted> {
        let retry = self.snapshot.spec().retry;
        let spent = self.attempts() >= retry.max_attempts_chain.max(1);
        if spent || !self.may_repeat() {
            return Err(Exhausted { busy: None, ..self.exhausted(&self.survey(now), now) });
        }
        let mut no_budget = false;
        for place in self.stages.clone() {
            if self.is_spent(place.model) {
                continue;
            }
            match self.draw(place, now, rng) {
                Draw::Won(candidate) => return Ok(self.count(place.model, *candidate)),
                Draw::Empty => {}
                Draw::NoBudget => no_budget = true,
            }
        }
        if no_budget {
            let retry_after = Some(WAIT_MIN);
            let reason = ExhaustedReason::BudgetSpent;
            return Err(Exhausted { reason, retry_after, busy: None, down: false });
        }
        self.panic(now)
    }

    /// After a refusal for the prompt's length: the rest of the plan is that of the model's `context_fallback`, unless
    /// its context is known not to be larger. Limits of region and key stay those of the model that was asked for. The
    /// backend that refused did not fail, so it may serve the other model. False = there is none; nothing changes.
    pub fn context_fallback(&mut self) -> bool {
        let last = self.attempts.last().copied().unwrap_or(self.root);
        let Some(from) = self.snapshot.model_at(last) else { return false };
        let Some(number) = from.route.context_fallback else { return false };
        let Some(to) = self.snapshot.model_at(number) else { return false };
        let larger = match (from.context_length, to.context_length) {
            (Some(from), Some(to)) => to > from,
            _ => true,
        };
        if !larger || self.attempts.contains(&number) {
            return false;
        }
        let stages = stages::of_model(&self.snapshot, number, &self.limits, &mut ());
        if stages.is_empty() {
            return false;
        }
        self.stages = stages;
        self.tried.pop();
        self.without_effect = self.attempts();
        true
    }

    /// Whether a model had all the attempts that it may have.
    fn is_spent(&self, model: u32) -> bool {
        let of_model = self.attempts.iter().filter(|attempt| **attempt == model).count();
        of_model >= self.snapshot.spec().retry.max_attempts.max(1) as usize
    }

    fn count(&mut self, model: u32, candidate: Candidate<A>) -> Candidate<A> {
        self.attempts.push(model);
        candidate
    }

    /// Draws from one tier, and takes slot and permit; another core may be faster, then the next is drawn.
    fn draw(&mut self, place: Place, now: Instant, rng: &mut fastrand::Rng) -> Draw<A> {
        let snapshot = Arc::clone(&self.snapshot);
        let Some((model, tier)) = place.find(&snapshot) else { return Draw::Empty };
        let mut lost: SmallVec<[usize; RACES_MAX]> = SmallVec::new();
        let mut no_budget = false;
        for _ in 0..RACES_MAX {
            let fit = |index: usize| {
                let member = tier.members.get(index).filter(|_| !lost.contains(&index))?;
                judge(&snapshot, model, member, index, &self.limits, &self.tried, now).ok()
            };
            let measure = |choice: &Choice| measure(&snapshot, tier, choice, now);
            let drawn = stages::choose(model, tier, self.affinity, fit, measure, rng);
            let Some(choice) = drawn else { break };
            match self.claim(model, tier, &choice, now) {
                Claim::Won(candidate) => return Draw::Won(candidate),
                Claim::Lost => {}
                Claim::NoBudget => no_budget = true,
            }
            lost.push(choice.index);
        }
        if no_budget { Draw::NoBudget } else { Draw::Empty }
    }

    /// Whether an attempt draws on the retry budget: not the first one, and not the first failover to a candidate with
    /// a closed breaker.
    fn costs(&self, trial: bool) -> bool {
        match self.attempts() {
            0 => false,
            1 => trial,
            _ => true,
        }
    }

    fn ticket(&self, now: Instant) -> Option<RetryTicket> {
        self.snapshot.budget().draw(&self.snapshot.spec().retry, now)
    }

    fn claim(
        &mut self,
        model: &Arc<Model>,
        tier: &Tier,
        choice: &Choice,
        now: Instant,
    ) -> Claim<A> {
        let Some(deployment) = tier.members.get(choice.index) else { return Claim::Lost };
        let Some(member) = self.snapshot.member_at(deployment.backend) else { return Claim::Lost };
        let Ok(mut permit) = member.live.breaker().admit(now) else { return Claim::Lost };
        if self.costs(permit.is_trial()) {
            permit.ticket = self.ticket(now);
            if permit.ticket.is_none() {
                return Claim::NoBudget;
            }
        }
        // Last, so that no place is taken and given back by who has no use for it: each that is free again wakes others.
        let slot = member.live.slot(&model.cap, self.snapshot.budget());
        let Some(slot) = slot else { return Claim::Lost };
        match self.candidate(model, tier, deployment, slot, permit, now) {
            Some(candidate) => Claim::Won(Box::new(candidate)),
            None => Claim::Lost,
        }
    }

    fn candidate(
        &mut self,
        model: &Arc<Model>,
        tier: &Tier,
        deployment: &Deployment,
        slot: Slot<A>,
        permit: Permit,
        now: Instant,
    ) -> Option<Candidate<A>> {
        let member = self.snapshot.member_at(deployment.backend)?;
        let global = self.snapshot.spec().timeouts;
        let candidate = Candidate {
            model: Arc::clone(model),
            upstream_model: deployment.upstream.clone(),
            api_key: deployment.api_key.clone().or_else(|| member.spec.api_key.clone()),
            region: self.snapshot.regions().name(tier.region)?.clone(),
            head: tier.head.clone(),
            timeouts: global.with(&member.spec.timeouts).with(&model.spec.timeouts),
            first_event_is_load: is_cold(member, deployment, now),
            slot,
            permit,
            member: member.clone(),
        };
        self.tried.push(deployment.backend);
        Some(candidate)
    }

    /// No tier has a candidate. With every one of them open or offline, one trial goes to the one that failed least
    /// recently; otherwise there is a reason to give.
    fn panic(&mut self, now: Instant) -> Result<Candidate<A>, Exhausted> {
        let survey = self.survey(now);
        if !self.panicked
            && survey.is_panic()
            && let Some(candidate) = self.panic_trial(&survey, now)
        {
            return Ok(candidate);
        }
        Err(self.exhausted(&survey, now))
    }

    /// What there would be to say if no candidate were left now.
    pub(crate) fn outlook(&self, now: Instant) -> Exhausted {
        self.exhausted(&self.survey(now), now)
    }

    fn exhausted(&self, survey: &Survey, now: Instant) -> Exhausted {
        let most = self.snapshot.service().retry_after_max;
        let wait =
            |survey: &Survey| survey.wait(now).map(|wait| wait.clamp(WAIT_MIN, most.max(WAIT_MIN)));
        let busy = survey.busy();
        if self.attempts() == 0 {
            let down = survey.reason() == ExhaustedReason::Unavailable;
            let (reason, retry_after) = (survey.reason(), wait(survey));
            return Exhausted { reason, retry_after, busy, down };
        }
        let all = self.survey_but(&[], now);
        let down = all.reason() == ExhaustedReason::Unavailable;
        let retry_after = if down { wait(&all) } else { wait(survey) };
        Exhausted { reason: ExhaustedReason::Tried, retry_after, busy, down }
    }

    fn survey(&self, now: Instant) -> Survey {
        self.survey_but(&self.tried, now)
    }

    /// Everyone but some, who count as tried.
    fn survey_but(&self, tried: &[u32], now: Instant) -> Survey {
        let mut survey = Survey::new(WAIT_MAX);
        for place in &self.stages {
            let Some((model, tier)) = place.find(&self.snapshot) else { continue };
            let spent = self.is_spent(place.model);
            for (index, deployment) in tier.members.iter().enumerate() {
                let judged =
                    judge(&self.snapshot, model, deployment, index, &self.limits, tried, now);
                let reason = judged.err().unwrap_or(PassedOver::Saturated);
                survey.add(*place, index, reason);
                if !spent {
                    survey.add_busy(reason);
                }
            }
        }
        survey
    }

    fn panic_trial(&mut self, survey: &Survey, now: Instant) -> Option<Candidate<A>> {
        let snapshot = Arc::clone(&self.snapshot);
        let mut down: SmallVec<[(Option<Instant>, Place, usize); 8]> = survey
            .down()
            .filter(|(place, _)| !self.is_spent(place.model))
            .filter_map(|(place, index)| {
                let (_, tier) = place.find(&snapshot)?;
                let member = snapshot.member_at(tier.members.get(index)?.backend)?;
                Some((member.live.breaker().last_failure(), *place, index))
            })
            .collect();
        down.sort_by_key(|(failed, ..)| *failed);
        // Those whose trial is under way refuse a second one.
        let (mut permit, place, index) = down.into_iter().find_map(|(_, place, index)| {
            let (_, tier) = place.find(&snapshot)?;
            let member = snapshot.member_at(tier.members.get(index)?.backend)?;
            Some((member.live.breaker().admit_in_panic(now).ok()?, place, index))
        })?;
        permit.ticket = Some(self.ticket(now)?);
        let (model, tier) = place.find(&snapshot)?;
        let deployment = tier.members.get(index)?;
        let member = snapshot.member_at(deployment.backend)?;
        let slot = member.live.slot(&model.cap, snapshot.budget())?;
        self.panicked = true;
        let candidate = self.candidate(model, tier, deployment, slot, permit, now)?;
        Some(self.count(place.model, candidate))
    }
}

enum Claim<A> {
    Won(Box<Candidate<A>>),
    Lost,
    NoBudget,
}

/// Whether a backend would have to load the model first.
pub(crate) fn is_cold<A>(member: &Member<A>, deployment: &Deployment, now: Instant) -> bool {
    let digest = deployment.digest.as_deref();
    member.spec.kind == Kind::Ollama
        && member.live.is_loaded(deployment.upstream.as_str(), digest, now) == Some(false)
}

#[cfg(test)]
mod tests;
