//! The tier in process: answers weighed in bytes, each with a lifetime of its own.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use moka::Expiry;
use moka::notification::RemovalCause;
use moka::sync::Cache;

use super::counters::CacheCounters;
use super::entry::{Entry, unix_ms};
use super::key::Digest;

/// Answers by their digests.
pub(crate) struct Memory {
    /// Most bytes.
    max: u64,
    answers: Cache<Digest, Arc<Entry>>,
}

/// An answer ends when its own lifetime does.
struct Lifetime;

impl Expiry<Digest, Arc<Entry>> for Lifetime {
    fn expire_after_create(&self, _: &Digest, entry: &Arc<Entry>, _: Instant) -> Option<Duration> {
        Some(Duration::from_millis(entry.left(unix_ms(SystemTime::now()))))
    }

    fn expire_after_update(
        &self,
        digest: &Digest,
        entry: &Arc<Entry>,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(digest, entry, now)
    }
}

impl Memory {
    pub(crate) fn new(max: u64, counters: &CacheCounters) -> Self {
        let evicted = counters.evictions.clone();
        let answers = Cache::builder()
            .max_capacity(max)
            .weigher(|_: &Digest, entry: &Arc<Entry>| {
                u32::try_from(entry.weight()).unwrap_or(u32::MAX)
            })
            .expire_after(Lifetime)
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    evicted.increment(1);
                }
            })
            .build();
        Self { max, answers }
    }

    pub(crate) const fn max(&self) -> u64 {
        self.max
    }

    /// A good answer of this name.
    pub(crate) fn find(
        &self,
        digest: &Digest,
        now: u64,
        max_age: Option<Duration>,
    ) -> Option<Arc<Entry>> {
        self.answers.get(digest).filter(|entry| entry.serves(now, max_age))
    }

    pub(crate) fn put(&self, digest: Digest, entry: Arc<Entry>) {
        if self.max > 0 {
            self.answers.insert(digest, entry);
        }
    }

    /// Drops those that `which` takes, and gives their number.
    pub(crate) fn purge(&self, which: impl Fn(&Entry) -> bool) -> u64 {
        let gone: Vec<_> = self
            .answers
            .iter()
            .filter(|(_, entry)| which(entry))
            .map(|(digest, _)| digest)
            .collect();
        gone.iter().for_each(|digest| self.answers.invalidate(&**digest));
        gone.len() as u64
    }

    /// Lets go of what has ended, and gives the bytes that are held.
    pub(crate) fn settle(&self) -> u64 {
        self.answers.run_pending_tasks();
        self.answers.weighted_size()
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::example;
    use super::*;
    use crate::telemetry::Counters;

    fn memory(max: u64) -> Memory {
        Memory::new(max, &Counters::new().unwrap().cache)
    }

    #[test]
    fn it_holds_no_more_bytes_than_it_may() {
        let memory = memory(100_000);
        let now = unix_ms(SystemTime::now());
        for number in 0..1000_u16 {
            let mut digest = [0; 32];
            digest[..2].copy_from_slice(&number.to_le_bytes());
            memory.put(digest, Arc::new(example(&[0; 4096], now, 60_000)));
            assert!(memory.settle() <= 100_000);
        }
        let held = memory.purge(|_| true);
        assert!((10..=24).contains(&held), "{held}");
        assert_eq!(memory.settle(), 0);
    }

    #[test]
    fn nothing_stays_without_room() {
        let memory = memory(0);
        let now = unix_ms(SystemTime::now());
        memory.put([0; 32], Arc::new(example(b"{}", now, 60_000)));
        assert!(memory.find(&[0; 32], now, None).is_none());
    }

    #[test]
    fn what_has_ended_is_not_found() {
        let memory = memory(1 << 20);
        let now = unix_ms(SystemTime::now());
        memory.put([1; 32], Arc::new(example(b"{}", now, 60_000)));
        assert!(memory.find(&[1; 32], now, None).is_some());
        assert!(memory.find(&[1; 32], now + 60_000, None).is_none());
        memory.put([2; 32], Arc::new(example(b"{}", now - 60_000, 60_000)));
        assert!(memory.find(&[2; 32], now, None).is_none());
    }
}
