//! The cache's metrics.

use metrics::{Counter, Gauge};

/// Why a request of a cached model goes past the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bypass {
    /// It would not be answered the same way again.
    NotDeterministic,
    /// The client wants nothing stored.
    NoStore,
    /// The client wants a new answer.
    NoCache,
    /// Neither tier is where the answer may be.
    Residency,
    /// Its body is too large to be looked at.
    TooLarge,
}

/// All of them, in the order of their counters.
pub(crate) const BYPASSES: [(Bypass, &str); 5] = [
    (Bypass::NotDeterministic, "not_deterministic"),
    (Bypass::NoStore, "no_store"),
    (Bypass::NoCache, "no_cache"),
    (Bypass::Residency, "residency"),
    (Bypass::TooLarge, "too_large"),
];
/// The tiers, as labels.
pub(crate) const TIERS: [&str; 2] = ["memory", "redis"];
/// Why an answer was not stored, as labels.
pub(crate) const UNSTORED: [&str; 3] = ["incomplete", "too_large", "other_model"];

/// Where a stored answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    Memory,
    Redis,
}

/// Why an answer is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unstored {
    /// It failed, was cut or does not say that it is whole.
    Incomplete,
    /// Larger than `entry_max`, or there was no room for it.
    TooLarge,
    /// Another model than the one that was asked for gave it.
    OtherModel,
}

/// The handles, made once.
pub(crate) struct CacheCounters {
    pub(crate) hits: [Counter; TIERS.len()],
    pub(crate) misses: Counter,
    pub(crate) bypasses: [Counter; BYPASSES.len()],
    pub(crate) stores: [Counter; TIERS.len()],
    pub(crate) unstored: [Counter; UNSTORED.len()],
    pub(crate) evictions: Counter,
    pub(crate) coalesced: Counter,
    pub(crate) corrupt: Counter,
    pub(crate) bytes: Gauge,
}

impl CacheCounters {
    /// Registers them; `counter` takes a name, and a label with its value.
    pub(crate) fn new(
        counter: impl Fn(&'static str, Option<&'static str>, &'static str) -> Counter,
        bytes: Gauge,
    ) -> Self {
        let plain = |name| counter(name, None, "");
        let by = |name, label| move |value| (name, Some(label), value);
        let make = |(name, label, value)| counter(name, label, value);
        Self {
            hits: TIERS.map(by("forebay_cache_hits_total", "tier")).map(&make),
            misses: plain("forebay_cache_misses_total"),
            bypasses: BYPASSES
                .map(|(_, reason)| reason)
                .map(by("forebay_cache_bypass_total", "reason"))
                .map(&make),
            stores: TIERS.map(by("forebay_cache_stores_total", "tier")).map(&make),
            unstored: UNSTORED.map(by("forebay_cache_unstored_total", "reason")).map(&make),
            evictions: plain("forebay_cache_evictions_total"),
            coalesced: plain("forebay_cache_coalesced_total"),
            corrupt: plain("forebay_cache_corrupt_total"),
            bytes,
        }
    }

    pub(crate) fn hit(&self, tier: Tier) {
        self.hits[tier as usize].increment(1);
    }

    pub(crate) fn stored(&self, tier: Tier) {
        self.stores[tier as usize].increment(1);
    }

    pub(crate) fn unstored(&self, why: Unstored) {
        self.unstored[why as usize].increment(1);
    }

    pub(crate) fn bypass(&self, why: Bypass) {
        if let Some(index) = BYPASSES.iter().position(|(known, _)| *known == why) {
            self.bypasses[index].increment(1);
        }
    }
}
