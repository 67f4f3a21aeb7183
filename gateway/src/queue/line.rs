//! The queue of one model, and how places are handed over in it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use metrics::Gauge;
use router::plan::{Candidate, Exhausted, Listening, RoutePlan};
use router::planes::QueueView;
use router::queue::{Entrant, Joined, Queue, Ticket};
use router::{Listener, ModelName};
use tokio::sync::oneshot;

use crate::call::Call;
use crate::error::Rejection;
use crate::plane::{Link, World, WorldHandle};

type Plan = RoutePlan<Arc<Link>>;

/// Those who wait for one model.
pub(crate) struct Line {
    model: ModelName,
    world: Arc<WorldHandle>,
    queue: Mutex<Queue<Box<Waiter>>>,
    /// Something may have become free since the last look.
    heard: AtomicBool,
    depth: Gauge,
}

/// One request that waits.
pub(super) struct Waiter {
    call: Arc<Call>,
    pub(super) plan: Plan,
    listening: Listening,
    reply: oneshot::Sender<Verdict>,
}

/// How a wait ends.
pub(super) enum Verdict {
    /// A place; it is free again if nobody takes it from here.
    Granted(Plan, Box<Candidate<Arc<Link>>>),
    /// There is nobody left to wait for.
    Exhausted(Exhausted),
    /// The world of now does not have it served.
    Rejected(Rejection),
    /// The place in the queue went to another.
    Displaced,
    TimedOut,
}

impl Waiter {
    /// Listens from here on.
    pub(super) fn new(
        line: &Arc<Line>,
        call: Arc<Call>,
        plan: Plan,
        reply: oneshot::Sender<Verdict>,
    ) -> Box<Self> {
        let listening = line.listen(&plan);
        Box::new(Self { call, plan, listening, reply })
    }

    /// Whether the plan is of a world that was replaced. One that had attempts keeps its own, since what it tried counts.
    fn is_outdated(&self, world: &World) -> bool {
        self.plan.attempts() == 0 && self.plan.version() != world.version()
    }
}

/// What became of an offer.
enum Offered {
    Taken(Box<Candidate<Arc<Link>>>),
    /// The world had changed; to be offered again, as what it is now.
    Planned(Plan),
    /// It has no use for what is free.
    Declined,
    InVain(Verdict),
}

fn offer(
    waiter: &mut Waiter,
    world: &Arc<World>,
    now: Instant,
    rng: &mut fastrand::Rng,
) -> Offered {
    if waiter.is_outdated(world) {
        let call = &waiter.call;
        return match call.route.plan_again(world, &call.peek.model) {
            Ok(plan) => Offered::Planned(plan),
            Err(rejection) => Offered::InVain(Verdict::Rejected(rejection)),
        };
    }
    match waiter.plan.next(now, rng) {
        Ok(candidate) => Offered::Taken(Box::new(candidate)),
        Err(exhausted) if exhausted.busy.is_some() => Offered::Declined,
        // Those that are well are busy no longer: they are gone.
        Err(exhausted) => Offered::InVain(Verdict::Exhausted(exhausted)),
    }
}

type Told = (oneshot::Sender<Verdict>, Verdict);

fn end(waiter: Box<Waiter>, verdict: impl FnOnce(Plan) -> Verdict) -> Told {
    let Waiter { plan, reply, .. } = *waiter;
    (reply, verdict(plan))
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A place in the queue, until it is dropped: a client that leaves is not served.
pub(super) struct Place {
    line: Arc<Line>,
    ticket: Ticket,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.line.leave(self.ticket);
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("model", &self.model).finish_non_exhaustive()
    }
}

impl Listener for Line {
    fn heard(&self) {
        self.look();
    }
}

impl Line {
    pub(super) fn new(model: ModelName, world: Arc<WorldHandle>, depth: Gauge) -> Self {
        Self { model, world, queue: Mutex::default(), heard: AtomicBool::new(false), depth }
    }

    pub(super) const fn model(&self) -> &ModelName {
        &self.model
    }

    fn listen(self: &Arc<Self>, plan: &Plan) -> Listening {
        let listener: Arc<dyn Listener> = Arc::<Self>::clone(self);
        plan.listen(&listener)
    }

    /// Lines up, and looks for a place at once.
    ///
    /// # Errors
    /// The waiter, when the queue is full.
    pub(super) fn join(
        self: &Arc<Self>,
        entrant: Entrant,
        waiter: Box<Waiter>,
        size: usize,
    ) -> Result<Place, Box<Waiter>> {
        let joined = self.lock().join(entrant, waiter, size);
        let Joined { ticket, displaced } = joined.inspect_err(|_| self.look_if_heard())?;
        if let Some(displaced) = displaced {
            // Fails where its client left, which is as well.
            let _ = displaced.reply.send(Verdict::Displaced);
        }
        let place = Place { line: Arc::clone(self), ticket };
        self.look();
        Ok(place)
    }

    fn leave(&self, ticket: Ticket) {
        let left = self.lock().leave(ticket, now());
        drop(left);
        self.look_if_heard();
    }

    /// Hands over what is free. Whoever finds another one at it leaves it to him: he looks again before he goes.
    pub(super) fn look(&self) {
        self.heard.store(true, SeqCst);
        self.look_if_heard();
    }

    /// Everyone who had the lock comes here afterwards, so that nothing that was heard meanwhile is forgotten.
    fn look_if_heard(&self) {
        while self.heard.load(SeqCst) {
            let done = match self.queue.try_lock() {
                Ok(queue) => self.hand_over(queue),
                Err(TryLockError::Poisoned(poisoned)) => self.hand_over(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => return,
            };
            for (reply, verdict) in done {
                // Where the client left just now, the place is free again, and heard of.
                let _ = reply.send(verdict);
            }
        }
    }

    /// One look: who can use something that is free gets it, in the order of the queue.
    fn hand_over(&self, mut queue: MutexGuard<'_, Queue<Box<Waiter>>>) -> Vec<Told> {
        self.heard.swap(false, SeqCst);
        let mut done = Vec::new();
        if queue.is_empty() {
            return done;
        }
        let (now, world, mut rng) = (now(), self.world.load(), fastrand::Rng::new());
        while let Some(waiter) = queue.expired(now) {
            done.push(end(waiter, |_| Verdict::TimedOut));
        }
        queue.hope();
        while let Some(ticket) = queue.pick() {
            let Some(waiter) = queue.get_mut(ticket) else { break };
            let verdict = match offer(waiter, &world, now, &mut rng) {
                Offered::Taken(candidate) => {
                    let taker = queue.granted(ticket, now);
                    done.extend(taker.map(|w| end(w, |plan| Verdict::Granted(plan, candidate))));
                    continue;
                }
                Offered::Planned(plan) => {
                    waiter.listening = plan.listen(waiter.listening.listener());
                    waiter.plan = plan;
                    let kind = waiter.plan.kind();
                    queue.refile(ticket, kind);
                    continue;
                }
                Offered::Declined => {
                    queue.decline(ticket);
                    continue;
                }
                Offered::InVain(verdict) => verdict,
            };
            done.extend(queue.leave(ticket, now).map(|waiter| end(waiter, |_| verdict)));
        }
        done
    }

    /// How long one that came now would wait.
    pub(super) fn expected(&self, now: Instant) -> Option<Duration> {
        let expected = self.lock().expected(now);
        self.look_if_heard();
        expected
    }

    /// Shows how many wait.
    pub(super) fn show(&self) {
        let depth = self.lock().len();
        self.look_if_heard();
        self.depth.set(f64::from(u32::try_from(depth).unwrap_or(u32::MAX)));
    }

    pub(super) fn is_empty(&self) -> bool {
        let empty = self.lock().is_empty();
        self.look_if_heard();
        empty
    }

    /// What there is to see; `None` where nobody waits.
    pub(super) fn view(&self, size: u32) -> Option<QueueView> {
        let now = now();
        let view = {
            let queue = self.lock();
            queue.oldest(now).map(|oldest| QueueView {
                model: self.model.clone(),
                depth: u32::try_from(queue.len()).unwrap_or(u32::MAX),
                size,
                oldest,
                expected: queue.expected(now),
            })
        };
        self.look_if_heard();
        view
    }

    fn lock(&self) -> MutexGuard<'_, Queue<Box<Waiter>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
