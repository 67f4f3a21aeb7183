//! One stored answer, and how long it is good.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use adapters::Usage;
use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use router::{KeyName, ModelName, TenantName};

use crate::dispatch::{Origin, Won, WonBody};

/// Lifetimes are spread by this share both ways, so that what was stored together does not end together.
const JITTER: f64 = 0.1;
/// In this last share of its lifetime an answer may be made anew before it ends. With one early renewal at most, answers
/// are made 1.042 times per lifetime.
const EARLY: f64 = 0.04;
/// What an entry takes beside its body, bytes; about.
const OVERHEAD: usize = 512;

/// Whose an answer is: what can be purged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) model: ModelName,
    pub(crate) tenant: Option<TenantName>,
    pub(crate) key: Option<KeyName>,
}

/// An answer as it was given.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) owner: Owner,
    pub(crate) status: StatusCode,
    pub(crate) content_type: Option<HeaderValue>,
    pub(crate) stream: bool,
    pub(crate) body: Bytes,
    pub(crate) usage: Option<Usage>,
    /// Where it was made.
    pub(crate) region: Option<String>,
    pub(crate) head: Option<String>,
    /// Unix time, ms.
    pub(crate) stored: u64,
    /// How long it is good, ms.
    pub(crate) ttl: u64,
    /// How long it took to make, ms.
    pub(crate) cost: u64,
    /// Someone is making it anew.
    pub(crate) renewed: AtomicBool,
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms(now: SystemTime) -> u64 {
    millis(now.duration_since(UNIX_EPOCH).unwrap_or_default())
}

pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A lifetime with its jitter, ms.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a lifetime"
)]
pub(crate) fn spread(ttl: Duration, rng: &mut fastrand::Rng) -> u64 {
    let share = 1.0 + JITTER * (2.0 * rng.f64() - 1.0);
    (millis(ttl) as f64 * share) as u64
}

impl Entry {
    /// What it takes in memory, bytes; about.
    pub(crate) fn weight(&self) -> usize {
        self.body.len() + OVERHEAD
    }

    /// Its age at `now` (unix ms). Clocks of gateways differ a little: what comes from the future is new.
    pub(crate) const fn age(&self, now: u64) -> Duration {
        Duration::from_millis(now.saturating_sub(self.stored))
    }

    /// How long it is still good, ms.
    pub(crate) const fn left(&self, now: u64) -> u64 {
        self.ttl.saturating_sub(now.saturating_sub(self.stored))
    }

    /// Good at `now`, and no older than asked.
    pub(crate) fn serves(&self, now: u64, max_age: Option<Duration>) -> bool {
        self.left(now) > 0 && max_age.is_none_or(|max| self.age(now) <= max)
    }

    /// Whether this caller is the one who makes it anew before it ends, while others still get this one. By chance, and
    /// the more likely the longer it takes to make and the nearer the end is (XFetch, Vattani et al. 2015).
    #[expect(clippy::cast_precision_loss, reason = "a chance")]
    pub(crate) fn renews(&self, now: u64, rng: &mut fastrand::Rng) -> bool {
        let left = self.left(now) as f64;
        if left > EARLY * self.ttl as f64 || self.renewed.load(Relaxed) {
            return false;
        }
        let early = self.cost as f64 * -(1.0 - rng.f64()).ln();
        early >= left && !self.renewed.swap(true, Relaxed)
    }

    /// The answer again.
    pub(crate) fn replay(&self, now: u64) -> Won {
        let mut response = Response::new(());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if let Some(kind) = &self.content_type {
            headers.insert(CONTENT_TYPE, kind.clone());
        }
        if self.stream {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        headers.insert(AGE, HeaderValue::from(self.age(now).as_secs()));
        let origin = Origin {
            backend: None,
            region: self.region.clone(),
            head: self.head.clone(),
            model: Some(self.owner.model.to_string()),
            attempts: 0,
            queued_ms: 0,
        };
        let body = WonBody::Replay(self.body.clone(), self.usage);
        Won { origin, head: response.into_parts().0, body }
    }
}

#[cfg(test)]
pub(crate) fn example(body: &'static [u8], stored: u64, ttl: u64) -> Entry {
    Entry {
        owner: Owner {
            model: ModelName::try_from("m").unwrap(),
            tenant: TenantName::try_from("t").ok(),
            key: KeyName::try_from("k").ok(),
        },
        status: StatusCode::OK,
        content_type: Some(HeaderValue::from_static("application/json")),
        stream: false,
        body: Bytes::from_static(body),
        usage: None,
        region: Some("eu".to_owned()),
        head: None,
        stored,
        ttl,
        cost: 500,
        renewed: AtomicBool::new(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_spread_around_what_was_asked() {
        let mut rng = fastrand::Rng::with_seed(1);
        let spread: Vec<u64> =
            (0..1000).map(|_| spread(Duration::from_secs(100), &mut rng)).collect();
        assert!(spread.iter().all(|ttl| (90_000..=110_000).contains(ttl)));
        assert!(spread.iter().any(|ttl| *ttl < 92_000) && spread.iter().any(|ttl| *ttl > 108_000));
    }

    #[test]
    fn good_until_its_end_and_as_long_as_asked() {
        let entry = example(b"{}", 10_000, 5_000);
        assert!(entry.serves(14_999, None) && !entry.serves(15_000, None));
        let two = Some(Duration::from_secs(2));
        assert!(entry.serves(12_000, two) && !entry.serves(12_001, two));
        assert!(entry.serves(9_000, Some(Duration::ZERO)), "from the future");
    }

    #[test]
    fn one_renews_it_near_its_end_and_nobody_before() {
        let mut rng = fastrand::Rng::with_seed(7);
        let entry = example(b"{}", 0, 100_000);
        assert!((0..96_000).step_by(10).all(|now| !entry.renews(now, &mut rng)));
        let renewals = (96_000..100_000).filter(|now| entry.renews(*now, &mut rng)).count();
        assert_eq!(renewals, 1);
        // What took no time to make is not worth it.
        let quick = Entry { cost: 0, ..example(b"{}", 0, 100_000) };
        assert!((96_000..100_000).all(|now| !quick.renews(now, &mut rng)));
    }

    /// Callers at a steady rate, over many lifetimes: how often is the answer made?
    #[test]
    fn a_hot_answer_is_made_about_once_per_lifetime() {
        let mut rng = fastrand::Rng::with_seed(3);
        let (ttl, lifetimes) = (10_000, 200);
        let (mut made, mut stored) = (1_u64, 0);
        let mut entry = example(b"{}", 0, ttl);
        for now in 0..ttl * lifetimes {
            if entry.left(now) == 0 || entry.renews(now, &mut rng) {
                made += 1;
                stored = now;
                entry = example(b"{}", stored, ttl);
            }
        }
        assert!(stored > 0);
        assert!(made * 100 <= lifetimes * 105, "{made} for {lifetimes}");
    }
}
