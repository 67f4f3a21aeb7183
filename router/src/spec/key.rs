//! Who may call, and what each key may do.

use std::fmt;

use crate::ids::{KeyName, RegionName, TenantName};

/// What stands for a key's secret in a snapshot: a digest that the data plane makes of what a caller presents, with a key
/// of its own, so that neither secrets nor plain hashes of them are looked up.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest(pub [u8; 32]);

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(..)")
    }
}

/// A model name in which `*` stands for any text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPattern(String);

impl ModelPattern {
    /// Takes a pattern as it is written.
    #[must_use]
    pub const fn new(pattern: String) -> Self {
        Self(pattern)
    }

    /// Whether a name fits.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
            return false;
        };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        // The leftmost place for each part in between leaves the most room for the next.
        let mut rest = rest;
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

/// Bounds of one key; `None` = no such bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyLimits {
    /// Requests per minute.
    pub requests_per_minute: Option<u64>,
    /// Requests per day.
    pub requests_per_day: Option<u64>,
    /// Tokens per minute, prompt and answer.
    pub tokens_per_minute: Option<u64>,
    /// Tokens per day, prompt and answer.
    pub tokens_per_day: Option<u64>,
    /// Requests that may come at once; `None` = one minute's quota.
    pub burst: Option<u64>,
    /// Requests at once, whole streams counted.
    pub concurrent: Option<u32>,
}

/// One key. It only ever narrows what a model allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySpec {
    /// Its name.
    pub name: KeyName,
    /// What a caller's secret is compared with.
    pub digest: KeyDigest,
    /// Whose it is.
    pub tenant: TenantName,
    /// The models that it may ask for; empty = all.
    pub models: Vec<ModelPattern>,
    /// The region of requests that name none.
    pub region: Option<RegionName>,
    /// The only regions that it may use; empty = those of the model.
    pub regions: Vec<RegionName>,
    /// Refused from this moment, Unix seconds.
    pub expires: Option<u64>,
    /// Refused now.
    pub disabled: bool,
    /// Higher goes first in a queue.
    pub priority: i32,
    /// Bounds on what it may ask for.
    pub limits: KeyLimits,
}

impl KeySpec {
    /// Whether the key may ask for a model by this name.
    #[must_use]
    pub fn allows_model(&self, name: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|pattern| pattern.matches(name))
    }

    /// Whether the key is good at this moment, in Unix seconds.
    #[must_use]
    pub fn is_valid(&self, now: u64) -> bool {
        !self.disabled && self.expires.is_none_or(|expires| now < expires)
    }
}

/// Whether callers need a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthSpec {
    /// Without a valid key nobody is served.
    pub required: bool,
    /// Answers out of the cache cost a key no tokens.
    pub refund_cache_hits: bool,
}

impl Default for AuthSpec {
    fn default() -> Self {
        Self { required: false, refund_cache_hits: true }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        ModelPattern::new(pattern.to_owned()).matches(name)
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, fits) in [
            ("llama3", "llama3", true),
            ("llama3", "llama3:8b", false),
            ("llama3*", "llama3:8b", true),
            ("*", "", true),
            ("*-chat", "qwen-chat", true),
            ("*-chat", "qwen-chat-2", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "ac", false),
            ("ab*ba", "aba", false),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_made_from_a_name_fits_it(name in "[a-c]{0,12}", cuts in prop::collection::vec(0..12_usize, 0..4)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(name.len())).collect();
            cuts.sort_unstable();
            // Every second piece is replaced.
            let mut pattern = String::new();
            let mut at = 0;
            for (i, cut) in cuts.iter().chain([&name.len()]).enumerate() {
                pattern.push_str(if i % 2 == 0 { &name[at..*cut] } else { "*" });
                at = *cut;
            }
            prop_assert!(matches(&pattern, &name), "{} {}", pattern, name);
        }
    }
}
