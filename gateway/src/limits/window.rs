//! The four windows that a key may be held to, and what one request costs in each.

use std::time::Duration;

use router::gcra::Quota;
use router::spec::KeyLimits;
use smallvec::SmallVec;

use super::estimate::Estimate;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// How many there are.
pub(super) const WINDOWS: usize = 4;

/// One window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Window {
    RequestsMinute,
    RequestsDay,
    TokensMinute,
    TokensDay,
}

/// What a request pays in one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Charge {
    pub(super) window: Window,
    pub(super) quota: Quota,
    pub(super) units: u64,
}

/// All that a request pays.
pub(super) type Charges = SmallVec<[Charge; 2]>;

impl Window {
    pub(super) const ALL: [Self; WINDOWS] =
        [Self::RequestsMinute, Self::RequestsDay, Self::TokensMinute, Self::TokensDay];

    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// Its name in `RateLimit` fields, and its field in Redis.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::RequestsMinute => "rpm",
            Self::RequestsDay => "rpd",
            Self::TokensMinute => "tpm",
            Self::TokensDay => "tpd",
        }
    }

    pub(crate) const fn is_tokens(self) -> bool {
        matches!(self, Self::TokensMinute | Self::TokensDay)
    }

    pub(super) const fn period(self) -> Duration {
        match self {
            Self::RequestsMinute | Self::TokensMinute => MINUTE,
            Self::RequestsDay | Self::TokensDay => DAY,
        }
    }

    /// The bound of a key, where it has one. Only requests per minute have a burst of their own; elsewhere all of a period's
    /// quota may come at once.
    pub(super) fn quota(self, limits: &KeyLimits) -> Option<Quota> {
        let units = match self {
            Self::RequestsMinute => limits.requests_per_minute,
            Self::RequestsDay => limits.requests_per_day,
            Self::TokensMinute => limits.tokens_per_minute,
            Self::TokensDay => limits.tokens_per_day,
        }?;
        let burst = limits.burst.filter(|_| self == Self::RequestsMinute).unwrap_or(units);
        Some(Quota::new(units, self.period(), burst))
    }

    const fn words(self) -> &'static str {
        match self {
            Self::RequestsMinute => "requests per minute",
            Self::RequestsDay => "requests per day",
            Self::TokensMinute => "tokens per minute",
            Self::TokensDay => "tokens per day",
        }
    }

    /// What a client is told that came too early.
    pub(super) fn exceeded(self, charges: &[Charge], wait: Duration) -> String {
        let charge = charges.iter().find(|charge| charge.window == self);
        let (limit, asked) = charge.map_or((0, 0), |charge| (charge.quota.units(), charge.units));
        let wait = humantime::format_duration(Duration::from_millis(millis_up(wait)));
        let asked = if self.is_tokens() { format!(", {asked} wanted") } else { String::new() };
        format!(
            "rate limit of this key reached: {limit} {}{asked}; try again in {wait}",
            self.words()
        )
    }
}

pub(super) fn millis_up(span: Duration) -> u64 {
    u64::try_from(span.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}

impl Charge {
    /// Whether it could ever be paid.
    pub(super) fn fits(&self) -> bool {
        self.quota.cost(self.units) <= self.quota.tolerance()
    }

    /// Why it could not.
    pub(super) fn unfit(&self) -> String {
        format!(
            "this request wants {} tokens, prompt and answer, and this key may never use more than {} at once ({} {}); \
             shorten the prompt or lower max_tokens",
            self.units,
            self.quota.burst(),
            self.quota.units(),
            self.window.words(),
        )
    }
}

/// What a request pays under these limits, and how many tokens are reserved for it.
pub(super) fn charges(limits: &KeyLimits, estimate: Estimate) -> (Charges, u64) {
    let mut charges = Charges::new();
    let quotas = Window::ALL.iter().filter_map(|window| Some((*window, window.quota(limits)?)));
    for (window, quota) in quotas {
        charges.push(Charge { window, quota, units: 1 });
    }
    let most = charges.iter().filter(|charge| charge.window.is_tokens());
    let most = most.map(|charge| charge.quota.burst()).min().unwrap_or(u64::MAX);
    let reserved = estimate.reserve(most);
    for charge in charges.iter_mut().filter(|charge| charge.window.is_tokens()) {
        charge.units = reserved;
    }
    (charges, reserved)
}
