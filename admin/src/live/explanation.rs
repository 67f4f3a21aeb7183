//! Explanations on the wire: moments become spans from now, which is all that means anything in another process.

use std::time::{Duration, Instant};

use router::explain::{ExplainedCandidate, ExplainedTier, Explanation, Verdict};
use router::plan::{Blocked, Busy, Exhausted, ExhaustedReason, PlanError};
use router::{BackendName, HeadName, ModelName, PassedOver, RegionName};
use serde::{Deserialize, Serialize};

/// The words for how a tier's candidates are drawn.
const POLICIES: [&str; 5] = ["listed", "least_load", "round_robin", "prefix_hash", "session"];

#[derive(Serialize, Deserialize)]
pub(super) struct Told {
    version: u64,
    model: ModelName,
    home: Option<RegionName>,
    allowed: Option<Vec<RegionName>>,
    tiers: Vec<Tier>,
    refused: Option<PlanError>,
    exhausted: Option<Nobody>,
    would_wait: Option<Duration>,
}

#[derive(Serialize, Deserialize)]
struct Tier {
    model: ModelName,
    head: Option<HeadName>,
    region: RegionName,
    policy: String,
    blocked: Option<Blocked>,
    candidates: Vec<Candidate>,
}

#[derive(Serialize, Deserialize)]
struct Candidate {
    backend: BackendName,
    upstream_model: Option<ModelName>,
    score: Option<f64>,
    in_flight: u32,
    cold: bool,
    trial: bool,
    verdict: Fate,
}

#[derive(Serialize, Deserialize)]
enum Fate {
    Attempt(u32),
    Spare,
    Tried,
    OperationNotServed,
    ModelNotServed,
    LeavesTheMachine,
    NotLocal,
    Draining,
    Offline,
    Open(Duration),
    TrialUnderWay,
    Resting(Duration),
    Saturated,
    ModelSaturated,
}

#[derive(Serialize, Deserialize)]
struct Nobody {
    reason: ExhaustedReason,
    retry_after: Option<Duration>,
    busy: Option<(bool, Option<Duration>)>,
    down: bool,
}

impl Told {
    pub(super) fn of(explanation: Explanation, now: Instant) -> Self {
        let Explanation { version, model, home, allowed, tiers, refused, exhausted, would_wait } =
            explanation;
        let tiers = tiers.into_iter().map(|tier| Tier::of(tier, now)).collect();
        let exhausted = exhausted.map(|nobody| Nobody {
            reason: nobody.reason,
            retry_after: nobody.retry_after,
            busy: nobody.busy.map(|busy| {
                (busy.full, busy.rest.map(|until| until.saturating_duration_since(now)))
            }),
            down: nobody.down,
        });
        Self { version, model, home, allowed, tiers, refused, exhausted, would_wait }
    }

    pub(super) fn into_explanation(self, now: Instant) -> Explanation {
        let Self { version, model, home, allowed, tiers, refused, exhausted, would_wait } = self;
        let tiers = tiers.into_iter().map(|tier| tier.into_explained(now)).collect();
        let exhausted = exhausted.map(|nobody| Exhausted {
            reason: nobody.reason,
            retry_after: nobody.retry_after,
            busy: nobody.busy.map(|(full, rest)| Busy { full, rest: rest.map(|span| now + span) }),
            down: nobody.down,
        });
        Explanation { version, model, home, allowed, tiers, refused, exhausted, would_wait }
    }
}

impl Tier {
    fn of(tier: ExplainedTier, now: Instant) -> Self {
        let ExplainedTier { model, head, region, policy, blocked, candidates } = tier;
        let candidates = candidates.into_iter().map(|one| Candidate::of(one, now)).collect();
        Self { model, head, region, policy: policy.to_owned(), blocked, candidates }
    }

    fn into_explained(self, now: Instant) -> ExplainedTier {
        let Self { model, head, region, policy, blocked, candidates } = self;
        let policy = POLICIES.into_iter().find(|known| *known == policy).unwrap_or("unknown");
        let candidates = candidates.into_iter().map(|one| one.into_explained(now)).collect();
        ExplainedTier { model, head, region, policy, blocked, candidates }
    }
}

impl Candidate {
    fn of(candidate: ExplainedCandidate, now: Instant) -> Self {
        let ExplainedCandidate { backend, upstream_model, score, in_flight, cold, trial, verdict } =
            candidate;
        let verdict = Fate::of(verdict, now);
        Self { backend, upstream_model, score, in_flight, cold, trial, verdict }
    }

    fn into_explained(self, now: Instant) -> ExplainedCandidate {
        let Self { backend, upstream_model, score, in_flight, cold, trial, verdict } = self;
        let verdict = verdict.into_verdict(now);
        ExplainedCandidate { backend, upstream_model, score, in_flight, cold, trial, verdict }
    }
}

impl Fate {
    fn of(verdict: Verdict, now: Instant) -> Self {
        let left = |until: Instant| until.saturating_duration_since(now);
        match verdict {
            Verdict::Attempt(number) => Self::Attempt(number),
            Verdict::Spare => Self::Spare,
            Verdict::PassedOver(reason) => match reason {
                PassedOver::Tried => Self::Tried,
                PassedOver::OperationNotServed => Self::OperationNotServed,
                PassedOver::ModelNotServed => Self::ModelNotServed,
                PassedOver::LeavesTheMachine => Self::LeavesTheMachine,
                PassedOver::NotLocal => Self::NotLocal,
                PassedOver::Draining => Self::Draining,
                PassedOver::Offline => Self::Offline,
                PassedOver::Open { until } => Self::Open(left(until)),
                PassedOver::TrialUnderWay => Self::TrialUnderWay,
                PassedOver::Resting { until } => Self::Resting(left(until)),
                PassedOver::Saturated => Self::Saturated,
                PassedOver::ModelSaturated => Self::ModelSaturated,
            },
        }
    }

    fn into_verdict(self, now: Instant) -> Verdict {
        let reason = match self {
            Self::Attempt(number) => return Verdict::Attempt(number),
            Self::Spare => return Verdict::Spare,
            Self::Tried => PassedOver::Tried,
            Self::OperationNotServed => PassedOver::OperationNotServed,
            Self::ModelNotServed => PassedOver::ModelNotServed,
            Self::LeavesTheMachine => PassedOver::LeavesTheMachine,
            Self::NotLocal => PassedOver::NotLocal,
            Self::Draining => PassedOver::Draining,
            Self::Offline => PassedOver::Offline,
            Self::Open(left) => PassedOver::Open { until: now + left },
            Self::TrialUnderWay => PassedOver::TrialUnderWay,
            Self::Resting(left) => PassedOver::Resting { until: now + left },
            Self::Saturated => PassedOver::Saturated,
            Self::ModelSaturated => PassedOver::ModelSaturated,
        };
        Verdict::PassedOver(reason)
    }
}
