//! Who waits for a free backend of one model, and who goes next: without a clock, a lock or a task.
//!
//! Higher priorities go first, except that one grant in [`LOWER_SHARE`] is for those below while any of them waits. Within
//! a priority tenants take turns, and within a tenant the first comes first. Who cannot use what is free does not stand in
//! the way of those who can: waiting requests are of kinds, where what one of a kind cannot use is of no use to the others.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use crate::ids::TenantName;

mod lanes;
mod rate;

use lanes::Class;
use rate::DrainRate;

/// While lower priorities wait, at least one of so many grants is theirs.
pub const LOWER_SHARE: u32 = 8;

/// A place in a queue; later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What the order depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrant {
    /// Whose request it is; `None` = there are no keys.
    pub tenant: Option<TenantName>,
    /// Higher goes first.
    pub priority: i32,
    /// Of which kind it is ([`crate::plan::RoutePlan::kind`]).
    pub kind: u64,
    /// When it came.
    pub joined: Instant,
    /// From then on it waits no longer.
    pub deadline: Instant,
}

/// An entrant was let in.
#[derive(Debug)]
pub struct Joined<T> {
    /// Its place.
    pub ticket: Ticket,
    /// Who had to leave for it: the newest of a lower priority, or of a tenant with more in the queue.
    pub displaced: Option<T>,
}

/// The queue; `T` is what the data plane keeps with each entrant.
#[derive(Debug)]
pub struct Queue<T> {
    last: u64,
    /// Oldest first.
    waiting: BTreeMap<Ticket, (Entrant, T)>,
    /// By priority, highest first; none is empty.
    classes: BTreeMap<Reverse<i32>, Class>,
    deadlines: BTreeSet<(Instant, Ticket)>,
    /// Kinds that cannot use what is free.
    declined: HashSet<u64>,
    /// Grants since the last one to a lower priority, while lower ones waited.
    streak: u32,
    rate: DrainRate,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            last: 0,
            waiting: BTreeMap::new(),
            classes: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            declined: HashSet::new(),
            streak: 0,
            rate: DrainRate::default(),
        }
    }
}

impl<T> Queue<T> {
    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Lets someone in; no more than `size` wait. Where it is full, a higher priority displaces a lower one, and within
    /// one priority a tenant displaces another that has at least two more in the queue.
    ///
    /// # Errors
    /// What came, when it is full.
    pub fn join(&mut self, entrant: Entrant, payload: T, size: usize) -> Result<Joined<T>, T> {
        let mut displaced = None;
        if self.waiting.len() >= size {
            let victim = if size == 0 { None } else { self.victim(&entrant) };
            let Some(victim) = victim else { return Err(payload) };
            displaced = self.leave(victim, entrant.joined);
        }
        self.last += 1;
        let ticket = Ticket(self.last);
        self.rate.start(entrant.joined);
        self.class(entrant.priority).insert(&entrant.tenant, entrant.kind, ticket);
        self.deadlines.insert((entrant.deadline, ticket));
        self.waiting.insert(ticket, (entrant, payload));
        Ok(Joined { ticket, displaced })
    }

    /// Who is to go for a newcomer in a full queue.
    fn victim(&self, newcomer: &Entrant) -> Option<Ticket> {
        let (Reverse(lowest), class) = self.classes.last_key_value()?;
        let (longest, newest) = class.longest()?;
        let yields = match lowest.cmp(&newcomer.priority) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => longest > class.len_of(&newcomer.tenant) + 1,
            std::cmp::Ordering::Greater => false,
        };
        yields.then_some(newest)
    }

    fn class(&mut self, priority: i32) -> &mut Class {
        self.classes.entry(Reverse(priority)).or_default()
    }

    /// Takes someone out, who left or will not be served.
    pub fn leave(&mut self, ticket: Ticket, now: Instant) -> Option<T> {
        let (entrant, payload) = self.waiting.remove(&ticket)?;
        self.deadlines.remove(&(entrant.deadline, ticket));
        let class = self.class(entrant.priority);
        class.remove(&entrant.tenant, entrant.kind, ticket);
        if class.is_empty() {
            self.classes.remove(&Reverse(entrant.priority));
        }
        if self.waiting.is_empty() {
            self.rate.stop(now);
        }
        Some(payload)
    }

    /// Takes out one whose deadline has come, the earliest first.
    pub fn expired(&mut self, now: Instant) -> Option<T> {
        let (deadline, ticket) = *self.deadlines.first()?;
        if deadline > now { None } else { self.leave(ticket, now) }
    }

    /// What is kept with someone who waits.
    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut T> {
        self.waiting.get_mut(&ticket).map(|(_, payload)| payload)
    }

    // === who goes next ===

    /// Something may be free: every kind may hope again.
    pub fn hope(&mut self) {
        self.declined.clear();
    }

    /// Who is to be offered what is free; `None` = nobody is left who could use it. The answer is the same until the
    /// offer is taken ([`Self::granted`]) or declined.
    #[must_use]
    pub fn pick(&self) -> Option<Ticket> {
        let declined = &self.declined;
        let next = |class: &Class| class.next(declined);
        let mut classes = self.classes.values();
        let first = classes.find_map(next)?;
        if self.streak + 1 < LOWER_SHARE {
            return Some(first);
        }
        // Whoever waited longest decides which of the lower ones it is.
        let hopeful = classes.filter_map(|class| Some((class.oldest(declined)?, class)));
        let lower = hopeful.min_by_key(|(oldest, _)| *oldest);
        Some(lower.and_then(|(_, class)| next(class)).unwrap_or(first))
    }

    /// The one that was picked took a place: it waits no more, and it was its tenant's turn.
    pub fn granted(&mut self, ticket: Ticket, now: Instant) -> Option<T> {
        let (entrant, _) = self.waiting.get(&ticket)?;
        let (priority, tenant) = (entrant.priority, entrant.tenant.clone());
        let is_highest = self.classes.first_key_value().is_some_and(|(top, _)| top.0 == priority);
        self.streak = if is_highest && self.classes.len() > 1 { self.streak + 1 } else { 0 };
        self.class(priority).took_turn(&tenant);
        self.rate.granted(now);
        self.leave(ticket, now)
    }

    /// The one that was picked has no use for what is free, and neither has any other of its kind.
    pub fn decline(&mut self, ticket: Ticket) {
        if let Some((entrant, _)) = self.waiting.get(&ticket) {
            self.declined.insert(entrant.kind);
        }
    }

    /// Someone has become another kind, and keeps its place.
    pub fn refile(&mut self, ticket: Ticket, kind: u64) {
        let Some((entrant, _)) = self.waiting.get_mut(&ticket) else { return };
        let (priority, tenant) = (entrant.priority, entrant.tenant.clone());
        let before = std::mem::replace(&mut entrant.kind, kind);
        self.class(priority).refile(&tenant, before, kind, ticket);
    }

    // === what can be said of it ===

    /// How long the oldest has waited.
    #[must_use]
    pub fn oldest(&self, now: Instant) -> Option<Duration> {
        let (_, (entrant, _)) = self.waiting.first_key_value()?;
        Some(now.saturating_duration_since(entrant.joined))
    }

    /// How long one that came now would wait behind all others, by the rate of the last seconds in which anyone waited;
    /// `None` = nobody ever got a place.
    #[must_use]
    pub fn expected(&self, now: Instant) -> Option<Duration> {
        let rate = self.rate.per_second(now)?;
        let ahead = f64::from(u32::try_from(self.waiting.len()).unwrap_or(u32::MAX)) + 1.0;
        Some(Duration::try_from_secs_f64(ahead / rate).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests;
