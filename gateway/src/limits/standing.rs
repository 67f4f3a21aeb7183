//! Where a key stands, and the two families of headers that say so: OpenAI's `x-ratelimit-*` and the fields `RateLimit` and
//! `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-11). Both are written from the same lines.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::bucket::Verdict;
use super::window::{Charge, Window};

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What is left in one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    window: Window,
    /// Units in a period.
    limit: u64,
    /// Units that could be used now.
    remaining: u64,
    /// Microseconds until it is full.
    reset: u64,
}

/// All windows of a key, after one request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Standing(SmallVec<[Line; 2]>);

/// One family of units in OpenAI's headers.
struct Names {
    limit: HeaderName,
    remaining: HeaderName,
    reset: HeaderName,
}

const REQUESTS: Names = Names {
    limit: HeaderName::from_static("x-ratelimit-limit-requests"),
    remaining: HeaderName::from_static("x-ratelimit-remaining-requests"),
    reset: HeaderName::from_static("x-ratelimit-reset-requests"),
};
const TOKENS: Names = Names {
    limit: HeaderName::from_static("x-ratelimit-limit-tokens"),
    remaining: HeaderName::from_static("x-ratelimit-remaining-tokens"),
    reset: HeaderName::from_static("x-ratelimit-reset-tokens"),
};

impl Standing {
    /// What is left after a verdict by one of `n` gateways.
    pub(super) fn of(charges: &[Charge], verdict: &Verdict, n: u32) -> Self {
        let line = |charge: &Charge| {
            let share = charge.quota.share(n);
            let reset = verdict.ahead[charge.window.index()];
            let remaining = share.worth(share.tolerance().saturating_sub(reset));
            Line { window: charge.window, limit: charge.quota.units(), remaining, reset }
        };
        Self(charges.iter().map(line).collect())
    }

    /// Writes both families.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        if self.0.is_empty() {
            return;
        }
        for (names, tokens) in [(&REQUESTS, false), (&TOKENS, true)] {
            let Some(line) = self.tightest(tokens) else { continue };
            headers.insert(&names.limit, HeaderValue::from(line.limit));
            headers.insert(&names.remaining, HeaderValue::from(line.remaining));
            if let Ok(reset) = HeaderValue::try_from(duration(line.reset)) {
                headers.insert(&names.reset, reset);
            }
        }
        let (mut policy, mut state) = (String::new(), String::new());
        for (i, line) in self.0.iter().enumerate() {
            let (comma, name) = (if i > 0 { ", " } else { "" }, line.window.name());
            let window = line.window.period().as_secs();
            let seconds = line.reset.div_ceil(1_000_000);
            let _ = write!(policy, "{comma}\"{name}\";q={};w={window}", line.limit);
            let _ = write!(state, "{comma}\"{name}\";r={};t={seconds}", line.remaining);
        }
        for (name, value) in [(RATELIMIT_POLICY, policy), (RATELIMIT, state)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
    }

    /// OpenAI's headers have room for one window of each kind: the one that ends first.
    fn tightest(&self, tokens: bool) -> Option<&Line> {
        let lines = self.0.iter().filter(|line| line.window.is_tokens() == tokens);
        lines.min_by_key(|line| (line.remaining, std::cmp::Reverse(line.reset)))
    }
}

/// As OpenAI writes it: `120ms`, `1s`, `6m0s`, `1h30m2.5s`.
fn duration(micros: u64) -> String {
    let millis = micros.div_ceil(1000);
    let (seconds, rest) = (millis / 1000, millis % 1000);
    if seconds == 0 && rest > 0 {
        return format!("{rest}ms");
    }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let mut text = String::new();
    if hours > 0 {
        let _ = write!(text, "{hours}h");
    }
    if seconds >= 60 {
        let _ = write!(text, "{minutes}m");
    }
    let _ = write!(text, "{}", seconds % 60);
    if rest > 0 {
        let part = format!("{rest:03}");
        let _ = write!(text, ".{}", part.trim_end_matches('0'));
    }
    text.push('s');
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_written_as_openai_writes_them() {
        for (micros, text) in [
            (0, "0s"),
            (1, "1ms"),
            (120_000, "120ms"),
            (1_000_000, "1s"),
            (8_640_000, "8.64s"),
            (360_000_000, "6m0s"),
            (5_402_500_000, "1h30m2.5s"),
            (86_400_000_000, "24h0m0s"),
        ] {
            assert_eq!(duration(micros), text);
        }
    }

    /// Milliseconds of such a duration.
    fn parse(text: &str) -> u64 {
        if let Some(ms) = text.strip_suffix("ms") {
            return ms.parse().unwrap();
        }
        let mut rest = text.strip_suffix('s').unwrap();
        let mut total = 0;
        for (unit, ms) in [('h', 3_600_000), ('m', 60_000)] {
            if let Some((count, after)) = rest.split_once(unit) {
                total += count.parse::<u64>().unwrap() * ms;
                rest = after;
            }
        }
        let (seconds, part) = rest.split_once('.').unwrap_or((rest, "0"));
        total
            + seconds.parse::<u64>().unwrap() * 1000
            + format!("{part:0<3}").parse::<u64>().unwrap()
    }

    /// The value of a parameter of a window in a structured field.
    fn param(field: &str, window: &str, name: &str) -> u64 {
        let entry = field.split(", ").find(|entry| entry.starts_with(&format!("\"{window}\";")));
        let params = entry.unwrap().split(';').skip(1);
        let value = params.filter_map(|param| param.split_once('=')).find(|(key, _)| *key == name);
        value.unwrap().1.parse().unwrap()
    }

    proptest! {
        #[test]
        fn both_families_say_the_same(
            left in prop::collection::vec((1..1_000_000_u64, 0..1_000_000_u64, 0..200_000_000_000_u64), 4),
            present in prop::collection::vec(any::<bool>(), 4),
        ) {
            let lines = Window::ALL.iter().zip(left).zip(present);
            let standing = Standing(lines.filter(|(_, present)| *present).map(|((window, left), _)| {
                Line { window: *window, limit: left.0, remaining: left.1, reset: left.2 }
            }).collect());
            let mut headers = HeaderMap::new();
            standing.write(&mut headers);
            prop_assert_eq!(headers.is_empty(), standing.0.is_empty());
            let text = |name: &HeaderName| headers[name].to_str().unwrap();
            for (names, windows) in [(&REQUESTS, ["rpm", "rpd"]), (&TOKENS, ["tpm", "tpd"])] {
                let shown: Vec<_> = standing.0.iter().map(|line| line.window.name())
                    .filter(|name| windows.contains(name)).collect();
                if shown.is_empty() {
                    prop_assert!(!headers.contains_key(&names.limit));
                    continue;
                }
                let (policy, state) = (text(&RATELIMIT_POLICY), text(&RATELIMIT));
                let remaining: u64 = text(&names.remaining).parse().unwrap();
                let least = shown.iter().map(|window| param(state, window, "r")).min();
                prop_assert_eq!(Some(remaining), least);
                let reset = parse(text(&names.reset)).div_ceil(1000);
                let same = shown.iter().any(|window| {
                    param(state, window, "r") == remaining
                        && param(state, window, "t") == reset
                        && param(policy, window, "q").to_string() == text(&names.limit)
                });
                prop_assert!(same, "{:?}", headers);
            }
        }
    }
}
