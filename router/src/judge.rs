//! Whether one backend may have one request now, and if not, why.

use std::time::Instant;

use crate::balance::{Choice, Measure};
use crate::breaker::{Admission, Rejected};
use crate::model::{Deployment, Model, Tier};
use crate::operation::Operation;
use crate::plan::is_cold;
use crate::regions::RegionSet;
use crate::serving::serves;
use crate::snapshot::Snapshot;

/// What holds for all attempts of one request.
#[derive(Debug, Clone, Copy, Hash)]
pub(crate) struct Limits {
    pub(crate) operation: Operation,
    /// Regions that are left by the model that was asked for and by the client's key.
    pub(crate) regions: RegionSet,
    /// The limit is strict: nothing may leave a backend's machine.
    pub(crate) sealed: bool,
    pub(crate) local_only: bool,
    /// The region that the order of tiers starts from, where one was asked for.
    pub(crate) asked: Option<crate::regions::Region>,
}

impl Limits {
    /// No limits: what `explain` looks at backends with where there is no plan.
    pub(crate) const fn none(operation: Operation) -> Self {
        let regions = RegionSet::ALL;
        Self { operation, regions, sealed: false, local_only: false, asked: None }
    }

    /// Where attempts for one model of the chain may go.
    pub(crate) const fn regions_of(&self, model: &Model) -> RegionSet {
        self.regions.and(model.route.allowed)
    }
}

/// Why a backend is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassedOver {
    /// It had its turn in this request.
    Tried,
    /// It does not serve this operation.
    OperationNotServed,
    /// It does not serve the model, or said so a moment ago.
    ModelNotServed,
    /// The model would leave the backend's machine there.
    LeavesTheMachine,
    /// Only local inference may serve this.
    NotLocal,
    /// It gets no new work.
    Draining,
    /// It does not answer.
    Offline,
    /// Its breaker is open.
    Open {
        /// Until then.
        until: Instant,
    },
    /// Its breaker is half-open, and the one trial is under way.
    TrialUnderWay,
    /// It asked to be left alone.
    Resting {
        /// Until then.
        until: Instant,
    },
    /// It has `max_in_flight` requests.
    Saturated,
    /// The model has its `max_in_flight` requests.
    ModelSaturated,
}

impl PassedOver {
    /// The words for `explain` and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tried => "tried already",
            Self::OperationNotServed => "operation not served",
            Self::ModelNotServed => "model not served",
            Self::LeavesTheMachine => "leaves the machine",
            Self::NotLocal => "not local",
            Self::Draining => "draining",
            Self::Offline => "offline",
            Self::Open { .. } => "breaker open",
            Self::TrialUnderWay => "trial under way",
            Self::Resting { .. } => "asked to be left alone",
            Self::Saturated => "at max_in_flight",
            Self::ModelSaturated => "the model is at its max_in_flight",
        }
    }
}

/// The one place that says whether a deployment may be used now.
pub(crate) fn judge<A>(
    snapshot: &Snapshot<A>,
    model: &Model,
    deployment: &Deployment,
    index: usize,
    limits: &Limits,
    tried: &[u32],
    now: Instant,
) -> Result<Choice, PassedOver> {
    let Some(member) = snapshot.member_at(deployment.backend) else {
        return Err(PassedOver::ModelNotServed);
    };
    if tried.contains(&deployment.backend) {
        return Err(PassedOver::Tried);
    }
    if !serves(member.spec.kind, limits.operation) {
        return Err(PassedOver::OperationNotServed);
    }
    if deployment.remote && (limits.sealed || model.route.strict) {
        return Err(PassedOver::LeavesTheMachine);
    }
    if limits.local_only && (!member.spec.local || deployment.remote) {
        return Err(PassedOver::NotLocal);
    }
    let live = &member.live;
    if member.is_draining() {
        return Err(PassedOver::Draining);
    }
    if live.is_absent(deployment.upstream.as_str(), now) {
        return Err(PassedOver::ModelNotServed);
    }
    if live.is_offline() {
        return Err(PassedOver::Offline);
    }
    let trial = match live.breaker().look(now) {
        Admission::Free => false,
        Admission::Trial => true,
        Admission::Rejected(Rejected::Open { until }) => return Err(PassedOver::Open { until }),
        Admission::Rejected(Rejected::TrialUnderWay) => return Err(PassedOver::TrialUnderWay),
    };
    if let Some(until) = live.resting_until(now) {
        return Err(PassedOver::Resting { until });
    }
    if live.cap().is_full() {
        return Err(PassedOver::Saturated);
    }
    if model.cap.is_full() {
        return Err(PassedOver::ModelSaturated);
    }
    Ok(Choice {
        index,
        key: deployment.key,
        weight: f64::from(deployment.weight) * live.ramp(now),
        in_flight: live.in_flight(),
        cold: is_cold(member, deployment, now),
        trial,
    })
}

/// How busy one of a tier's members is.
pub(crate) fn measure<A>(
    snapshot: &Snapshot<A>,
    tier: &Tier,
    choice: &Choice,
    now: Instant,
) -> Measure {
    let deployment = tier.members.get(choice.index);
    let member = deployment.and_then(|deployment| snapshot.member_at(deployment.backend));
    let live = member.map(|member| &member.live);
    Measure {
        pressure: live.map_or(0.0, |live| live.pressure(now)),
        first_event: live.and_then(|live| live.first_event(now)),
    }
}
