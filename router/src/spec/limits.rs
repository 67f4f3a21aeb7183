//! Bounds on retries, breakers, health checks and discovery.

use std::time::Duration;

/// Bounds on retries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetrySpec {
    /// Attempts on a model's own tiers.
    pub max_attempts: u32,
    /// Attempts with the whole fallback chain.
    pub max_attempts_chain: u32,
    /// Share of active requests that may be retrying.
    pub budget_ratio: f64,
    /// Retries per second on top of the share.
    pub budget_per_second: f64,
}

impl Default for RetrySpec {
    fn default() -> Self {
        Self { max_attempts: 3, max_attempts_chain: 8, budget_ratio: 0.2, budget_per_second: 10.0 }
    }
}

/// When a breaker opens and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerSpec {
    /// Failures in a row that open it.
    pub consecutive_failures: u32,
    /// Lowest share of successes in the window.
    pub success_rate: f64,
    /// Fewest requests in the window for the share to count.
    pub min_requests: u32,
    /// Length of the window.
    pub window: Duration,
    /// First time open.
    pub open_min: Duration,
    /// Longest time open; it doubles from one to the next.
    pub open_max: Duration,
}

impl Default for BreakerSpec {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            success_rate: 0.5,
            min_requests: 20,
            window: Duration::from_secs(10),
            open_min: Duration::from_secs(30),
            open_max: Duration::from_secs(300),
        }
    }
}

/// How health is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthSpec {
    /// Between two probes of a backend, jittered.
    pub interval: Duration,
    /// One probe.
    pub timeout: Duration,
    /// Passed probes until online.
    pub up: u32,
    /// Failed probes until offline.
    pub down: u32,
    /// A new or recovered backend's ramp.
    pub slow_start: Duration,
    /// First wait between probes of an open backend.
    pub open_probe_min: Duration,
    /// Longest wait between probes of an open backend.
    pub open_probe_max: Duration,
}

impl Default for HealthSpec {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            up: 2,
            down: 3,
            slow_start: Duration::from_secs(10),
            open_probe_min: Duration::from_secs(1),
            open_probe_max: Duration::from_secs(30),
        }
    }
}

/// What is found on backends and how far it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiscoverySpec {
    /// Discovered models that no `[[model]]` uses are public.
    pub expose: bool,
    /// Between two looks at a backend's model list.
    pub interval: Duration,
}

impl Default for DiscoverySpec {
    fn default() -> Self {
        Self { expose: true, interval: Duration::from_secs(30) }
    }
}
