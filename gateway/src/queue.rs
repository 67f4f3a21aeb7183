//! Waiting instead of failing: a request whose backends are all busy waits for a place in the queue of its model.
//!
//! Who goes next is `router::queue`'s to say. Whoever frees a place hands it over at once, on his own thread: the plan of
//! the next in line draws from it, and takes the place before anyone else can. So waiting costs those who do not wait
//! nothing but the look whether anyone does, and no wake-up can be lost: a place that nobody could use stays free.

use std::sync::Arc;
use std::time::{Duration, Instant};

use router::plan::{Candidate, Exhausted, RoutePlan};
use router::queue::Entrant;
use router::spec::QueueSpec;
use tokio::sync::oneshot;

use crate::call::Call;
use crate::error::{ErrorKind, Rejection};
use crate::plane::Link;

mod counters;
mod line;
mod lines;

use counters::Refusal;
pub(crate) use counters::{QueueCounters, REFUSALS};
use line::{Line, Verdict, Waiter};
pub(crate) use lines::Lines;

/// Between two looks of one who waits: what time alone changes (a backend's rest, an open breaker) tells nobody.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The same, once its deadline is over and only the answer is to come.
const LATE_INTERVAL: Duration = Duration::from_millis(10);

type Plan = RoutePlan<Arc<Link>>;
/// A candidate and the plan that it was drawn from, which may be a newer one than the request began with.
type Taken = (Plan, Box<Candidate<Arc<Link>>>);

/// What became of a draw.
pub(crate) struct Drawn {
    /// The candidate, or why there is none.
    pub(crate) result: Result<Taken, NoPlace>,
    /// How long it waited, if it did.
    pub(crate) queued: Option<Duration>,
}

/// Why there is no candidate.
pub(crate) enum NoPlace {
    /// The plan has none, and waiting would not help.
    Exhausted(Exhausted),
    /// It waited in vain, or may not wait.
    Rejected(Rejection),
}

/// Draws the plan's next candidate; where all are busy, after a wait for one of them. Whoever comes while others wait for
/// the same model lines up with them.
pub(crate) async fn draw(call: &Arc<Call>, mut plan: Plan, rng: &mut fastrand::Rng) -> Drawn {
    let queue = call.world.queue_of(plan.model());
    let now = tokio::time::Instant::now().into_std();
    let deadline = deadline(call, &plan, queue, now);
    // One that was served already does not line up behind those who were not.
    let lines_up = queue.is_open() && plan.attempts() == 0 && plan.model().is_awaited();
    if !lines_up {
        let exhausted = match plan.next(now, rng) {
            Ok(candidate) => {
                return Drawn { result: Ok((plan, Box::new(candidate))), queued: None };
            }
            Err(exhausted) => exhausted,
        };
        let worth = exhausted.busy.is_some_and(|busy| busy.may_end_before(deadline));
        if !queue.is_open() || !worth {
            return Drawn { result: Err(NoPlace::Exhausted(exhausted)), queued: None };
        }
    }
    wait(call, plan, queue, (now, deadline), rng).await
}

/// Until when a request may wait: the queue's own bound, and the request's total time.
fn deadline(call: &Call, plan: &Plan, queue: QueueSpec, now: Instant) -> Instant {
    let timeouts = call.world.spec().timeouts.with(&plan.model().spec.timeouts);
    let deadline = now + queue.timeout;
    timeouts.total.map_or(deadline, |total| deadline.min((call.begun + total).into_std()))
}

async fn wait(
    call: &Arc<Call>,
    plan: Plan,
    queue: QueueSpec,
    (joined, deadline): (Instant, Instant),
    rng: &mut fastrand::Rng,
) -> Drawn {
    let plane = &call.core.plane;
    let line = plane.lines.line(plane, &plan.model().name);
    let key = call.route.key.as_deref();
    let entrant = Entrant {
        tenant: key.map(|key| key.tenant.clone()),
        priority: key.map_or(0, |key| key.priority),
        kind: plan.kind(),
        joined,
        deadline,
    };
    let (reply, answer) = oneshot::channel();
    let waiter = Waiter::new(&line, Arc::clone(call), plan, reply);
    let size = usize::try_from(queue.size).unwrap_or(usize::MAX);
    let _place = match line.join(entrant, waiter, size) {
        Ok(place) => place,
        Err(waiter) => {
            // What is free now is of no use to those who wait.
            let mut plan = waiter.plan;
            let result = match plan.next(joined, rng) {
                Ok(candidate) => Ok((plan, Box::new(candidate))),
                Err(_) => {
                    plane.counters.queue.refused(Refusal::Full);
                    Err(NoPlace::Rejected(in_vain(ErrorKind::QueueFull, &line, queue, joined)))
                }
            };
            return Drawn { result, queued: None };
        }
    };
    let verdict = verdict(&line, answer, deadline).await;
    let now = tokio::time::Instant::now().into_std();
    let waited = now.saturating_duration_since(joined);
    let refuse = |kind, reason| {
        plane.counters.queue.refused(reason);
        Err(NoPlace::Rejected(in_vain(kind, &line, queue, now)))
    };
    let result = match verdict {
        Verdict::Granted(plan, candidate) => {
            plane.counters.queue.waited.record(waited.as_secs_f64());
            Ok((plan, candidate))
        }
        Verdict::Exhausted(exhausted) => Err(NoPlace::Exhausted(exhausted)),
        Verdict::Rejected(rejection) => Err(NoPlace::Rejected(rejection)),
        Verdict::Displaced => refuse(ErrorKind::QueueFull, Refusal::Displaced),
        Verdict::TimedOut => refuse(ErrorKind::QueueTimeout, Refusal::Timeout),
    };
    Drawn { result, queued: Some(waited) }
}

/// Waits for the verdict, and looks from time to time itself.
async fn verdict(
    line: &Line,
    mut answer: oneshot::Receiver<Verdict>,
    deadline: Instant,
) -> Verdict {
    loop {
        let now = tokio::time::Instant::now();
        let look = match now.into_std() < deadline {
            true => (now + LOOK_INTERVAL).min(deadline.into()),
            false => now + LATE_INTERVAL,
        };
        tokio::select! {
            biased;
            answer = &mut answer => return answer.unwrap_or(Verdict::TimedOut),
            () = tokio::time::sleep_until(look) => line.look(),
        }
    }
}

/// Of the wait that the client is told, `retry_after_max` is the bound as everywhere. Where no place was ever free, the
/// longest wait is all that is known.
fn in_vain(kind: ErrorKind, line: &Line, queue: QueueSpec, now: Instant) -> Rejection {
    let message = match kind {
        ErrorKind::QueueFull => {
            format!("every backend of {} is busy, and as many wait as may", line.model())
        }
        _ => format!("every backend of {} was busy for as long as a request waits", line.model()),
    };
    Rejection::new(kind, message).retry_after(Some(line.expected(now).unwrap_or(queue.timeout)))
}
