//! The tier in Redis: one value per answer, and a lease so that of several gateways about one makes it.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use adapters::Usage;
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use router::{ModelName, TenantName};
use tokio::time::Instant;

use super::counters::{CacheCounters, Tier};
use super::entry::{Entry, Owner, unix_ms};
use super::envelope::{self, Envelope, HEAD_MAX};
use super::key::Digest;
use super::purges::Stamp;
use crate::redis::{Redis, Script, Unavailable};

/// How long a gateway has an answer to itself; one that dies is replaced after that.
const LEASE: Duration = Duration::from_secs(30);
/// How long a gateway waits for an answer that another one makes.
const LEASE_WAIT: Duration = Duration::from_secs(5);
/// Pauses between looks, doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Bodies above this are packed off the core's thread, bytes.
const INLINE_MAX: usize = 64 << 10;

/// Gives a lease back, unless it is another one's by now.
static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("release.lua")));

/// The Redis that answers of one request may be in.
#[derive(Clone)]
pub(crate) struct Remote {
    pub(crate) redis: Redis,
    /// Checks what is read.
    pub(crate) secret: [u8; 32],
    /// Largest body, bytes.
    pub(crate) entry_max: u64,
    pub(crate) counters: Arc<crate::telemetry::Counters>,
}

/// What is wanted of a stored answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) digest: Digest,
    pub(crate) stamp: Stamp,
    pub(crate) max_age: Option<Duration>,
    /// Stored after this (unix ms).
    pub(crate) newer: u64,
}

/// What is there.
pub(crate) enum Looked {
    Found(Arc<Entry>),
    /// Nothing: this gateway makes it, as the only one if it has a lease.
    Ours(Option<Lease>),
    /// Another gateway makes it.
    Theirs,
}

/// The right to make an answer; given back when dropped.
pub(crate) struct Lease {
    redis: Redis,
    key: Vec<u8>,
    token: [u8; 16],
}

impl Drop for Lease {
    fn drop(&mut self) {
        // After the answer itself, which went the same way.
        self.redis.script_behind(&RELEASE, &[&self.key], &[&self.token]);
    }
}

fn key(kind: &str, digest: &Digest) -> Vec<u8> {
    format!("fb:{kind}:{}", blake3::Hash::from_bytes(*digest).to_hex()).into_bytes()
}

impl Remote {
    fn cache(&self) -> &CacheCounters {
        &self.counters.cache
    }

    /// The answer, if it is there and as wanted.
    pub(crate) async fn find(&self, wanted: &Wanted) -> Result<Option<Arc<Entry>>, Unavailable> {
        let Some(bytes) = self.redis.get(&key("answer", &wanted.digest)).await? else {
            return Ok(None);
        };
        let body_max = usize::try_from(self.entry_max).unwrap_or(usize::MAX);
        let opened = if bytes.len() > body_max.saturating_add(HEAD_MAX + body_max / 8) {
            None
        } else {
            let envelope = envelope::open(&bytes, &wanted.digest, &self.secret, body_max);
            envelope.ok().and_then(|envelope| Some((envelope.stamp, entry(envelope)?)))
        };
        let Some((stamp, entry)) = opened else {
            self.cache().corrupt.increment(1);
            return Ok(None);
        };
        let now = unix_ms(SystemTime::now());
        let good = stamp == wanted.stamp
            && entry.stored > wanted.newer
            && entry.serves(now, wanted.max_age);
        Ok(good.then(|| Arc::new(entry)))
    }

    /// The answer; or the right to make it; or, after a while, nothing. Where Redis is slow or gone there is no waiting.
    pub(crate) async fn look(&self, wanted: &Wanted, waits: bool) -> Looked {
        let key = key("lease", &wanted.digest);
        let token = fastrand::u128(..).to_le_bytes();
        let until = Instant::now() + LEASE_WAIT;
        let mut pause = PAUSE_MIN;
        loop {
            match self.find(wanted).await {
                Ok(Some(entry)) => return Looked::Found(entry),
                Ok(None) => {}
                Err(Unavailable) => return Looked::Ours(None),
            }
            match self.redis.set_nx_px(&key, &token, LEASE).await {
                Ok(true) => {
                    let lease = Lease { redis: self.redis.clone(), key, token };
                    return Looked::Ours(Some(lease));
                }
                Ok(false) if !waits => return Looked::Theirs,
                Ok(false) => {}
                Err(Unavailable) => return Looked::Ours(None),
            }
            if Instant::now() + pause > until {
                return Looked::Ours(None);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Stores an answer some time soon; `then` is dropped after that.
    pub(crate) fn put(
        &self,
        digest: Digest,
        stamp: Stamp,
        entry: &Arc<Entry>,
        then: Option<Lease>,
    ) {
        let (remote, entry) = (self.clone(), Arc::clone(entry));
        let large = entry.body.len() > INLINE_MAX;
        let write = move || {
            let sealed = envelope::seal(&packed(&entry, stamp), &digest, &remote.secret);
            let left = Duration::from_millis(entry.left(unix_ms(SystemTime::now())));
            if !left.is_zero() {
                remote.redis.put_behind(&key("answer", &digest), &sealed, left);
                remote.cache().stored(Tier::Redis);
            }
            drop(then);
        };
        if large {
            tokio::task::spawn_blocking(write);
        } else {
            write();
        }
    }
}

fn packed(entry: &Entry, stamp: Stamp) -> Envelope {
    let owner = &entry.owner;
    let kind = entry.content_type.as_ref().and_then(|kind| kind.to_str().ok());
    Envelope {
        stream: entry.stream,
        status: entry.status.as_u16(),
        stored: entry.stored,
        ttl: entry.ttl,
        cost: entry.cost,
        stamp,
        texts: [
            kind.map(str::to_owned),
            entry.region.clone(),
            entry.head.clone(),
            Some(owner.model.to_string()),
            owner.tenant.as_ref().map(ToString::to_string),
            owner.key.as_ref().map(ToString::to_string),
        ],
        usage: entry.usage.map(|usage| {
            [
                Some(usage.prompt_tokens),
                Some(usage.completion_tokens),
                Some(usage.total_tokens),
                usage.cached_tokens,
                usage.reasoning_tokens,
            ]
        }),
        body: entry.body.to_vec(),
    }
}

/// `None` where a text is none that we would have written.
fn entry(envelope: Envelope) -> Option<Entry> {
    let [kind, region, head, model, tenant, key] = envelope.texts;
    let owner = Owner {
        model: ModelName::try_from(model?.as_str()).ok()?,
        tenant: tenant.map(|name| TenantName::try_from(name.as_str())).transpose().ok()?,
        key: key.map(|name| name.as_str().try_into()).transpose().ok()?,
    };
    let usage = envelope.usage.map(|[prompt, completion, total, cached, reasoning]| Usage {
        prompt_tokens: prompt.unwrap_or_default(),
        completion_tokens: completion.unwrap_or_default(),
        total_tokens: total.unwrap_or_default(),
        cached_tokens: cached,
        reasoning_tokens: reasoning,
    });
    Some(Entry {
        owner,
        status: StatusCode::from_u16(envelope.status).ok()?,
        content_type: kind.map(HeaderValue::try_from).transpose().ok()?,
        stream: envelope.stream,
        body: Bytes::from(envelope.body),
        usage,
        region,
        head,
        stored: envelope.stored,
        ttl: envelope.ttl,
        cost: envelope.cost,
        renewed: AtomicBool::new(false),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::entry::example;
    use super::*;

    const NAME: Digest = [1; 32];
    const KEY: [u8; 32] = [2; 32];

    fn sealed() -> Vec<u8> {
        let usage = Usage { prompt_tokens: 3, reasoning_tokens: Some(0), ..Usage::default() };
        let example = Entry { usage: Some(usage), ..example(b"{\"a\":[1,1,1,1,1,1,1]}", 5, 7) };
        envelope::seal(&packed(&example, [1, 2, 3, 4]), &NAME, &KEY)
    }

    #[test]
    fn an_answer_comes_back_as_it_was() {
        let opened = envelope::open(&sealed(), &NAME, &KEY, 100).unwrap();
        assert_eq!(opened.stamp, [1, 2, 3, 4]);
        let back = entry(opened).unwrap();
        let usage = back.usage.unwrap();
        assert_eq!((usage.prompt_tokens, usage.cached_tokens), (3, None));
        assert_eq!(usage.reasoning_tokens, Some(0));
        let known = example(b"{\"a\":[1,1,1,1,1,1,1]}", 5, 7);
        assert_eq!((back.owner, back.body), (known.owner, known.body));
        assert_eq!((back.content_type, back.region), (known.content_type, known.region));
        assert_eq!((back.stored, back.ttl, back.cost), (5, 7, 500));
    }

    #[test]
    fn what_was_changed_cut_or_is_anothers_is_not_read() {
        let good = sealed();
        assert!(envelope::open(&good, &[9; 32], &KEY, 100).is_err(), "another answer's name");
        assert!(envelope::open(&good, &NAME, &[9; 32], 100).is_err(), "another key");
        assert!(envelope::open(&good, &NAME, &KEY, 5).is_err(), "too large");
        for at in 0..good.len() {
            assert!(envelope::open(&good[..at], &NAME, &KEY, 100).is_err(), "cut at {at}");
            let mut changed = good.clone();
            changed[at] ^= 1;
            assert!(envelope::open(&changed, &NAME, &KEY, 100).is_err(), "changed at {at}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_survives(
            body in prop::collection::vec(0..4_u8, 0..500),
            numbers in any::<[u64; 7]>(),
            texts in prop::collection::vec(prop::option::of("[a-z\u{e9}]{0,8}"), 6),
            usage in prop::option::of(any::<[Option<u64>; 5]>()),
            stream: bool,
            status: u16,
        ) {
            let mut envelope = Envelope { stream, status, usage, body, ..Envelope::default() };
            [envelope.stored, envelope.ttl, envelope.cost] = [numbers[0], numbers[1], numbers[2]];
            envelope.stamp.copy_from_slice(&numbers[3..]);
            envelope.texts.clone_from_slice(&texts);
            let sealed = envelope::seal(&envelope, &NAME, &KEY);
            prop_assert_eq!(envelope::open(&sealed, &NAME, &KEY, 500), Ok(envelope));
        }
    }
}
