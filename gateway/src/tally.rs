//! What is counted of each backend and each model since the process started, for whoever looks at the plane.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use adapters::Usage;
use arc_swap::ArcSwap;
use router::planes::Tally;
use router::{BackendName, ModelName};

/// Most names that are counted apart, of backends and of models each; beyond it, the one that was quiet longest goes.
const NAMES_MAX: usize = 4096;

/// All tallies of a plane.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    pub(crate) backends: Table<BackendName>,
    pub(crate) models: Table<ModelName>,
}

/// Counts by name. Who counts takes no lock: a new name makes a new map.
#[derive(Debug)]
pub(crate) struct Table<N> {
    counts: ArcSwap<HashMap<N, Arc<Count>>>,
    /// Held while a name is added.
    adding: Mutex<()>,
}

impl<N> Default for Table<N> {
    fn default() -> Self {
        Self { counts: ArcSwap::from_pointee(HashMap::new()), adding: Mutex::new(()) }
    }
}

impl<N: Clone + Eq + Hash + Ord + Borrow<str>> Table<N> {
    /// The counts of a name, which begin at nought.
    pub(crate) fn of(&self, name: &N) -> Arc<Count> {
        if let Some(count) = self.known(name.borrow()) {
            return count;
        }
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = self.known(name.borrow()) {
            return count;
        }
        let mut counts = HashMap::clone(&self.counts.load());
        if counts.len() >= NAMES_MAX {
            let quiet = counts.iter().min_by_key(|(_, count)| count.last.load(Relaxed));
            if let Some(name) = quiet.map(|(name, _)| name.clone()) {
                counts.remove(name.borrow());
            }
        }
        let count = Arc::new(Count::default());
        counts.insert(name.clone(), Arc::clone(&count));
        self.counts.store(Arc::new(counts));
        count
    }

    /// The counts of a name that has some.
    pub(crate) fn known(&self, name: &str) -> Option<Arc<Count>> {
        self.counts.load().get(name).cloned()
    }

    /// All of them, by name.
    pub(crate) fn read(&self) -> Vec<(N, Tally)> {
        let counts = self.counts.load();
        let mut all: Vec<_> =
            counts.iter().map(|(name, count)| (name.clone(), count.read())).collect();
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        all
    }
}

/// The counts of one backend or model.
#[derive(Debug, Default)]
pub(crate) struct Count {
    requests: AtomicU64,
    failures: AtomicU64,
    input_tokens: AtomicU64,
    output_tokens: AtomicU64,
    first_events: AtomicU64,
    first_event_micros: AtomicU64,
    busy_micros: AtomicU64,
    /// Milliseconds since the epoch; 0 = never.
    last: AtomicU64,
}

impl Count {
    /// A request or an attempt came to its end.
    pub(crate) fn ended(&self, failed: bool, busy: Duration, now: SystemTime) {
        self.requests.fetch_add(1, Relaxed);
        self.failures.fetch_add(u64::from(failed), Relaxed);
        self.busy_micros.fetch_add(micros(busy), Relaxed);
        let millis = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        self.last.fetch_max(u64::try_from(millis).unwrap_or(u64::MAX), Relaxed);
    }

    /// A stream's first content event came after this long.
    pub(crate) fn first_event(&self, after: Duration) {
        self.first_events.fetch_add(1, Relaxed);
        self.first_event_micros.fetch_add(micros(after), Relaxed);
    }

    /// An answer said what it took.
    pub(crate) fn used(&self, usage: &Usage) {
        self.input_tokens.fetch_add(usage.prompt_tokens, Relaxed);
        self.output_tokens.fetch_add(usage.completion_tokens, Relaxed);
    }

    fn read(&self) -> Tally {
        let last = self.last.load(Relaxed);
        Tally {
            requests: self.requests.load(Relaxed),
            failures: self.failures.load(Relaxed),
            input_tokens: self.input_tokens.load(Relaxed),
            output_tokens: self.output_tokens.load(Relaxed),
            first_events: (
                self.first_events.load(Relaxed),
                Duration::from_micros(self.first_event_micros.load(Relaxed)),
            ),
            busy: Duration::from_micros(self.busy_micros.load(Relaxed)),
            last: (last > 0).then(|| UNIX_EPOCH + Duration::from_millis(last)),
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_the_quiet_ones_go() {
        let table = Table::<ModelName>::default();
        let name = |n: usize| ModelName::try_from(format!("m{n}").as_str()).unwrap();
        let at = |n: usize| UNIX_EPOCH + Duration::from_millis(1 + n as u64);
        for n in 0..NAMES_MAX + 3 {
            table.of(&name(n)).ended(n % 2 == 0, Duration::from_millis(2), at(n));
        }
        assert_eq!(table.read().len(), NAMES_MAX);
        assert!(table.known("m2").is_none());
        let (_, tally) = table.read().into_iter().find(|(n, _)| *n == name(4)).unwrap();
        assert_eq!((tally.requests, tally.failures), (1, 1));
        assert_eq!(tally.busy, Duration::from_millis(2));
        assert_eq!(tally.last, Some(at(4)));
    }
}
