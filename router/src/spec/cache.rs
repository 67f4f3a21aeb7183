//! The response cache.

use std::time::Duration;

/// Which requests are cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheWhen {
    /// Temperature 0 or a seed, one choice, no tools.
    #[default]
    Deterministic,
    /// Every request.
    Always,
}

/// Who shares cached answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheScope {
    /// One tenant.
    #[default]
    Tenant,
    /// Everyone.
    Shared,
}

/// `[cache]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSpec {
    /// Models that say nothing are cached.
    pub default: bool,
    /// How long an answer is kept.
    pub ttl: Duration,
    /// Which requests.
    pub when: CacheWhen,
    /// Who shares.
    pub scope: CacheScope,
    /// Largest answer that is kept, bytes.
    pub entry_max: u64,
    /// The memory tier, bytes.
    pub memory_max: u64,
}

impl Default for CacheSpec {
    fn default() -> Self {
        Self {
            default: false,
            ttl: Duration::from_secs(3600),
            when: CacheWhen::Deterministic,
            scope: CacheScope::Tenant,
            entry_max: 1 << 20,
            memory_max: 128 << 20,
        }
    }
}

/// What a model says about the cache; `None` inherits from `[cache]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ModelCache {
    /// Cached at all.
    pub enabled: Option<bool>,
    /// How long.
    pub ttl: Option<Duration>,
    /// Which requests.
    pub when: Option<CacheWhen>,
    /// Who shares.
    pub scope: Option<CacheScope>,
}
