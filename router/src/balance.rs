//! How one of a tier's members is drawn: the policies.
//!
//! Each policy asks `judge` about members by their place in the tier and gets those that may be used. Work is bounded:
//! `least_load` looks at a sample of at most [`SAMPLE`], the others at each member once or twice, without allocating.

use std::sync::{Mutex, PoisonError};

use smallvec::SmallVec;

/// Most members that `least_load` looks at before it draws two of them.
const SAMPLE: usize = 16;
/// `prefix_hash` lets no member have more than this many times its share of the requests under way (Mirrokni et al.,
/// Consistent Hashing with Bounded Loads).
pub const LOAD_BOUND: f64 = 1.25;
/// A backend that has the model in memory is preferred to those that would have to load it until so many requests per
/// unit of weight are in front.
const WARM_QUEUE: f64 = 8.0;

/// A member that may be used, and what the policies look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    /// Its place in the tier.
    pub(crate) index: usize,
    /// A number of its name, for hashing.
    pub(crate) key: u64,
    /// Weight times ramp.
    pub(crate) weight: f64,
    /// Requests under way there, from us.
    pub(crate) in_flight: u32,
    /// It would have to load the model first.
    pub(crate) cold: bool,
    /// It would be the one trial of a breaker that is not closed.
    pub(crate) trial: bool,
}

/// How busy a member is; what `least_load` compares.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measure {
    /// Requests in front of a new one, from anyone.
    pub(crate) pressure: f64,
    /// Seconds to the first event; `None` = never measured.
    pub(crate) first_event: Option<f64>,
}

impl Measure {
    /// Peak EWMA of the time to the first event x (pressure + 1) / weight, given a time for what was never measured.
    pub(crate) fn cost(&self, weight: f64, otherwise: f64) -> f64 {
        self.first_event.unwrap_or(otherwise) * (self.pressure + 1.0) / weight
    }

    /// The time that a member which was never measured is taken to need when it is compared with this one.
    fn time(&self) -> f64 {
        self.first_event.unwrap_or(1.0).max(1e-6)
    }
}

/// The first member that may be used.
pub(crate) fn listed(count: usize, judge: impl Fn(usize) -> Option<Choice>) -> Option<Choice> {
    (0..count).find_map(judge)
}

/// Two random choices, by weight; the less loaded one.
pub(crate) fn least_load(
    count: usize,
    judge: impl Fn(usize) -> Option<Choice>,
    measure: impl Fn(&Choice) -> Measure,
    rng: &mut fastrand::Rng,
) -> Option<Choice> {
    let mut sample = sample(count, judge, rng);
    if sample.iter().any(|choice| choice.cold) {
        let free = |choice: &Choice| measure(choice).pressure < WARM_QUEUE * choice.weight;
        if sample.iter().any(|choice| !choice.cold && free(choice)) {
            sample.retain(|choice| !choice.cold);
        }
    }
    let first = draw(&mut sample, rng)?;
    let Some(second) = draw(&mut sample, rng) else { return Some(first) };
    let (one, other) = (measure(&first), measure(&second));
    let better = other.cost(second.weight, one.time()) < one.cost(first.weight, other.time());
    Some(if better { second } else { first })
}

/// Members that may be used: all of a small tier, some of a large one.
fn sample(
    count: usize,
    judge: impl Fn(usize) -> Option<Choice>,
    rng: &mut fastrand::Rng,
) -> SmallVec<[Choice; SAMPLE]> {
    if count <= SAMPLE {
        return (0..count).filter_map(judge).collect();
    }
    let mut looked: SmallVec<[usize; SAMPLE]> = SmallVec::new();
    for _ in 0..SAMPLE {
        let index = rng.usize(..count);
        if !looked.contains(&index) {
            looked.push(index);
        }
    }
    let found: SmallVec<[Choice; SAMPLE]> = looked.into_iter().filter_map(&judge).collect();
    if found.len() >= 2 {
        return found;
    }
    let offset = rng.usize(..count);
    (0..count).map(|step| (offset + step) % count).filter_map(judge).take(SAMPLE).collect()
}

/// Takes one out, by weight.
fn draw(choices: &mut SmallVec<[Choice; SAMPLE]>, rng: &mut fastrand::Rng) -> Option<Choice> {
    let total: f64 = choices.iter().map(|choice| choice.weight).sum();
    let mut left = rng.f64() * total;
    let place = choices.iter().position(|choice| {
        left -= choice.weight;
        left < 0.0
    });
    // Rounding may leave a rest beyond the last one.
    let place = place.or_else(|| choices.len().checked_sub(1))?;
    Some(choices.swap_remove(place))
}

/// Highest random weight (rendezvous) hashing: the same affinity meets the same member for as long as it may be used,
/// and a member that leaves or comes moves only its own share. With a `bound`, members with more than that many times
/// their share of the load are passed over.
pub(crate) fn hashed(
    count: usize,
    judge: impl Fn(usize) -> Option<Choice>,
    affinity: u64,
    bound: Option<f64>,
) -> Option<Choice> {
    let usable = || (0..count).filter_map(&judge);
    let (mut load, mut weight, mut even) = (1.0, 0.0, true);
    let mut first = None;
    for choice in usable() {
        load += f64::from(choice.in_flight);
        weight += choice.weight;
        let one = *first.get_or_insert(choice.weight);
        even &= (one - choice.weight).abs() < f64::EPSILON;
    }
    let fits = |choice: &Choice| {
        bound.is_none_or(|bound| {
            let most = (bound * load * choice.weight / weight).ceil();
            f64::from(choice.in_flight) + 1.0 <= most
        })
    };
    let rank = |choice: &Choice| {
        let hash = unit(mix(affinity ^ choice.key));
        // With even weights the logarithm changes no order.
        if even { hash } else { -choice.weight / hash.ln() }
    };
    let best = |choices: &mut dyn Iterator<Item = Choice>| {
        let ranked = choices.map(|choice| (rank(&choice), choice));
        ranked.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, choice)| choice)
    };
    best(&mut usable().filter(fits)).or_else(|| best(&mut usable()))
}

/// A number spread over all 64 bits (the finaliser of `SplitMix64`).
pub(crate) const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Between 0 and 1, neither of them.
fn unit(hash: u64) -> f64 {
    let high = u32::try_from(hash >> 32).unwrap_or(u32::MAX);
    (f64::from(high) + 0.5) / (f64::from(u32::MAX) + 1.0)
}

/// A stable number of a name (FNV-1a): the same in every process, so that replicas agree.
pub(crate) fn key(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Whose turn it is in one tier: nginx's smooth weighted round robin.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<Vec<f64>>);

impl Turns {
    pub(crate) fn next(
        &self,
        count: usize,
        judge: impl Fn(usize) -> Option<Choice>,
    ) -> Option<Choice> {
        let mut credits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        credits.resize(count, 0.0);
        let mut total = 0.0;
        let mut best: Option<Choice> = None;
        for choice in (0..count).filter_map(judge) {
            total += choice.weight;
            credits[choice.index] += choice.weight;
            if best.is_none_or(|best| credits[choice.index] > credits[best.index]) {
                best = Some(choice);
            }
        }
        let best = best?;
        credits[best.index] -= total;
        Some(best)
    }

    /// Whose turn it would be; changes nothing.
    pub(crate) fn look(
        &self,
        count: usize,
        judge: impl Fn(usize) -> Option<Choice>,
    ) -> Option<Choice> {
        let credits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let credit = |choice: &Choice| credits.get(choice.index).copied().unwrap_or(0.0);
        let mut best: Option<Choice> = None;
        for choice in (0..count).filter_map(judge) {
            let ahead =
                |best: &Choice| credit(&choice) + choice.weight > credit(best) + best.weight;
            if best.as_ref().is_none_or(ahead) {
                best = Some(choice);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests;
