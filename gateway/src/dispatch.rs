//! The loop over candidates: the next one until an answer is committed, the plan is exhausted, or time is up.

use std::sync::Arc;
use std::time::Duration;

use http::response::Parts;
use router::outcome::{FailureKind, Outcome};
use router::plan::{Candidate, Exhausted, ExhaustedReason, RoutePlan};
use tokio::time::Instant;

use crate::attempt::{self, Aim, Answer, Content};
use crate::cache::Reading;
use crate::call::Call;
use crate::error::{ErrorKind, Rejection};
use crate::failed::Failed;
use crate::orphan;
use crate::plane::Link;
use crate::poison::{self, Suspicion};
use crate::queue::{self, NoPlace};
use crate::relay::{Bounds, Relay};
use crate::tenure::{Attempted, Tenure};

/// An answer that the client may see, and where it came from.
pub(crate) struct Won {
    pub(crate) origin: Origin,
    pub(crate) head: Parts,
    pub(crate) body: WonBody,
}

/// The answer's body.
pub(crate) enum WonBody {
    Whole(bytes::Bytes, Option<adapters::Usage>),
    Stream(Box<Relay>),
    /// Not an event stream, and not complete yet.
    Rest(Box<Relay>),
    /// Others read it too.
    Shared(Box<Reading>),
    /// It was stored.
    Replay(bytes::Bytes, Option<adapters::Usage>),
}

/// No answer: why, and the last place that was tried.
#[derive(Clone)]
pub(crate) struct Lost {
    pub(crate) rejection: Rejection,
    pub(crate) origin: Origin,
}

/// Names for headers, metrics and the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    pub(crate) backend: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) head: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) attempts: u32,
    /// Milliseconds for which it waited for a place, rounded up; 0 = it did not wait.
    pub(crate) queued_ms: u32,
}

impl Origin {
    fn waited(&mut self, queued: Option<Duration>) {
        if let Some(queued) = queued {
            let waited = u32::try_from(queued.as_millis()).unwrap_or(u32::MAX).saturating_add(1);
            self.queued_ms = self.queued_ms.saturating_add(waited);
        }
    }
}

type Target = Candidate<Arc<Link>>;

/// Runs the plan.
pub(crate) async fn run(call: Arc<Call>, mut plan: RoutePlan<Arc<Link>>) -> Result<Won, Lost> {
    let mut origin = Origin { model: Some(plan.model().name.to_string()), ..Origin::default() };
    if let Some(rejection) = poison::refused(&call).await {
        return Err(Lost { rejection, origin });
    }
    let mut last: Option<Failed> = None;
    let mut suspicion = Suspicion::default();
    let mut rng = fastrand::Rng::new();
    loop {
        let drawn = queue::draw(&call, plan, &mut rng).await;
        origin.waited(drawn.queued);
        let candidate = match drawn.result {
            Ok((now, candidate)) => {
                plan = now;
                *candidate
            }
            Err(NoPlace::Exhausted(exhausted)) => {
                let rejection = give_up(&call, last, &exhausted);
                return Err(Lost { rejection, origin });
            }
            Err(NoPlace::Rejected(rejection)) => return Err(Lost { rejection, origin }),
        };
        origin.attempts += 1;
        origin.backend = Some(candidate.member.spec.name.to_string());
        origin.region = Some(candidate.region.to_string());
        origin.head = candidate.head.as_ref().map(ToString::to_string);
        origin.model = Some(candidate.model.name.to_string());
        let link = Arc::clone(&candidate.member.live.attachment);
        let failed = match attempt(&call, candidate, origin.attempts).await {
            Ok((head, body)) => {
                call.core.plane.served.note(&call.body.bytes, Instant::now());
                return Ok(Won { origin, head, body });
            }
            Err(failed) => failed,
        };
        if failed.death && suspicion.confirmed(&call, &link).await {
            return Err(Lost { rejection: poison::stop(), origin });
        }
        let again = plan.allows_retry(&failed.failure)
            || (failed.context_length && plan.context_fallback());
        tracing::debug!(
            request_id = call.id.own(),
            backend = origin.backend,
            attempt = origin.attempts,
            kind = ?failed.failure.kind,
            stage = ?failed.failure.stage,
            again,
            "attempt failed"
        );
        if !again {
            return Err(Lost { rejection: failed.rejection, origin });
        }
        last = Some(worse(last, failed));
    }
}

/// Of several failures, which one the client is told: that somebody is only busy says more than that somebody is dead, and
/// that one does not have the model says less than that another, who may have it, failed.
fn worse(before: Option<Failed>, now: Failed) -> Failed {
    match before {
        Some(before) if now.failure.kind == FailureKind::ModelAbsent => before,
        Some(mut before) if before.failure.kind == FailureKind::Overloaded => {
            before.rejection.retry_after =
                before.rejection.retry_after.max(now.rejection.retry_after);
            before
        }
        _ => now,
    }
}

/// Whether a failure says that nobody is there: no connection, or a lost one.
const fn is_dead(kind: FailureKind) -> bool {
    use FailureKind as F;
    matches!(kind, F::ConnectFailed | F::ConnectTimeout | F::TlsFailed | F::ConnectionLost)
}

fn give_up(call: &Call, last: Option<Failed>, exhausted: &Exhausted) -> Rejection {
    let after = exhausted.retry_after;
    if let Some(last) = last {
        if exhausted.down && is_dead(last.failure.kind) {
            // Everyone else is told the same, without an attempt.
            let model = &call.peek.model;
            let said = &last.rejection.message;
            return Rejection::new(
                ErrorKind::NoBackend,
                format!("no backend of {model} is available at the moment; {said}"),
            )
            .retry_after(after.or(Some(Duration::from_secs(1))));
        }
        let mut rejection = last.rejection;
        rejection.retry_after = rejection.retry_after.or(after);
        if last.failure.kind == FailureKind::Overloaded {
            rejection.retry_after = rejection.retry_after.or(Some(Duration::from_secs(1)));
        }
        return rejection;
    }
    let model = &call.peek.model;
    match exhausted.reason {
        ExhaustedReason::Saturated => Rejection::new(
            ErrorKind::Saturated,
            format!(
                "every backend of {model} is at its limit of running requests, or asked to be left alone"
            ),
        )
        .retry_after(after.or(Some(Duration::from_secs(1)))),
        ExhaustedReason::BudgetSpent => {
            Rejection::new(ErrorKind::BudgetSpent, "too many requests are being retried")
                .retry_after(after.or(Some(Duration::from_secs(1))))
        }
        ExhaustedReason::NotServed => Rejection::new(
            ErrorKind::OperationNotServed,
            format!("no backend serves {model} at the moment"),
        )
        .retry_after(after.or(Some(Duration::from_secs(5)))),
        ExhaustedReason::Tried | ExhaustedReason::Unavailable => Rejection::new(
            ErrorKind::NoBackend,
            format!("no backend of {model} is available at the moment"),
        )
        .retry_after(after.or(Some(Duration::from_secs(1)))),
    }
}

/// One attempt, and the end of its permit.
async fn attempt(
    call: &Arc<Call>,
    candidate: Target,
    number: u32,
) -> Result<(Parts, WonBody), Failed> {
    if candidate.first_event_is_load {
        let (call, backend) = (Arc::clone(call), candidate.member.spec.name.to_string());
        let (live, model) = (Arc::clone(&candidate.member.live), candidate.upstream_model.clone());
        let loaded =
            move || live.is_loaded(model.as_str(), None, Instant::now().into_std()) == Some(true);
        let load = candidate.timeouts.load;
        let attempt = async move { tried(&call, candidate, number).await };
        return orphan::run(attempt, loaded, load).await.unwrap_or_else(|| {
            tracing::error!(backend, "an attempt met a defect");
            Err(Failed::defect())
        });
    }
    tried(call, candidate, number).await
}

async fn tried(
    call: &Arc<Call>,
    candidate: Target,
    number: u32,
) -> Result<(Parts, WonBody), Failed> {
    let begun = Instant::now();
    let aim = aim(call, &candidate, number, begun);
    let Candidate { member, slot, permit, timeouts, upstream_model, first_event_is_load, .. } =
        candidate;
    let live = member.live;
    let mut counted = Counted { link: Arc::clone(&live.attachment), end: "abandoned" };
    let mut attempted = Attempted::new(Arc::clone(&live.attachment), begun);
    let result = attempt::run(call, &aim).await;
    counted.end = end(&result);
    attempted.failed = counted.end == "failure";
    drop(counted);
    let now = Instant::now();
    let outcome = match &result {
        Ok(_) => {
            // The time of a whole answer or of a load is no time to first event: mixed in, it would make its backend
            // look slow.
            if call.peek.stream && !first_event_is_load {
                live.record_first_event(now - begun, now.into_std());
                aim.link.tally.first_event(now - begun);
            }
            if first_event_is_load {
                // The model is loaded now; until that is seen, a hang would be given the time of a load.
                aim.link.nudge();
            }
            Outcome::Success
        }
        Err(failed) => {
            if failed.absent {
                live.mark_model_absent(upstream_model.as_str(), now.into_std());
            }
            Outcome::Failure(failed.failure.clone())
        }
    };
    let change = live.report(permit, &outcome, now.into_std(), &mut fastrand::Rng::new());
    aim.link.moved(&live.name, change);
    let Answer { head, content } = result?;
    let body = match content {
        Content::Whole(bytes, usage) => WonBody::Whole(bytes, usage),
        Content::Open(flow) => {
            let plane = &call.core.plane;
            let counters = Arc::clone(&plane.counters);
            let tenure = Tenure::new(live, slot, counters, now.into_std(), attempted);
            let bounds = Bounds {
                idle: timeouts.idle,
                total: timeouts.total.map(|total| call.begun + total),
                event_hold: usize::try_from(call.service().event_hold).unwrap_or(usize::MAX),
                adds_usage: call.adds_usage,
            };
            let stream = flow.scanner.is_some();
            let relay = Relay::new(*flow, tenure, &bounds, &plane.shutdown, call.core.index);
            let relay = Box::new(relay);
            if stream { WonBody::Stream(relay) } else { WonBody::Rest(relay) }
        }
    };
    Ok((head, body))
}

/// Counts an attempt by its end when it is dropped; an attempt whose client leaves goes no further than that.
struct Counted {
    link: Arc<Link>,
    end: &'static str,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.link.counters.attempt(self.end);
    }
}

const fn end(result: &Result<Answer, Failed>) -> &'static str {
    match result {
        Ok(_) => "success",
        Err(failed) => match failed.failure.kind {
            FailureKind::ClientFault => "client_fault",
            _ => "failure",
        },
    }
}

fn aim(call: &Call, candidate: &Target, number: u32, begun: Instant) -> Aim {
    let timeouts = &candidate.timeouts;
    let (span, late) = if call.peek.stream {
        let first =
            if candidate.first_event_is_load { timeouts.load } else { timeouts.first_event };
        (first, FailureKind::FirstEventTimeout)
    } else if candidate.first_event_is_load {
        (timeouts.load.max(timeouts.response), FailureKind::ResponseTimeout)
    } else {
        (timeouts.response, FailureKind::ResponseTimeout)
    };
    let total = timeouts.total.map(|total| call.begun + total);
    let (deadline, late) = match total {
        Some(total) if total < begun + span => (total, FailureKind::TotalTimeout),
        _ => (begun + span, late),
    };
    Aim {
        link: Arc::clone(&candidate.member.live.attachment),
        kind: candidate.member.spec.kind,
        backend: candidate.member.spec.name.to_string(),
        upstream_model: candidate.upstream_model.to_string(),
        api_key: candidate.api_key.clone(),
        number,
        connect: timeouts.connect,
        deadline,
        late,
    }
}
