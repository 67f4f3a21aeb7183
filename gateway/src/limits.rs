//! What each key may ask for: requests and tokens per minute and day, and requests at once.
//!
//! With Redis, one script per request holds all gateways to one bound. Without it, or while it is slow or gone, each
//! gateway holds its share. Either way the arithmetic is [`router::gcra`]'s. Tokens are reserved when a request is admitted
//! and settled when its answer ends: [`Admission`] is the guard.

mod admission;
mod bucket;
mod counters;
mod estimate;
mod shared;
mod standing;
mod window;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use router::KeyName;
use router::spec::KeySpec;

pub(crate) use admission::{Admission, Used};
use bucket::{Bucket, Cause, Verdict};
pub(crate) use counters::LimitCounters;
pub(crate) use estimate::{Estimate, estimate};
pub(crate) use standing::Standing;
use window::{Charges, charges};

use crate::error::{ErrorKind, Rejection};
use crate::plane::Plane;
use crate::redis::Redis;

/// Parts of the table of keys, so that cores seldom meet at one lock.
const SHARDS: usize = 16;
/// Most keys that a part remembers; a key beyond them pushes out those that owe nothing.
const KEYS_PER_SHARD: usize = 8192;
/// After so long a full wait says nothing; what a key may do again then is worked out afresh.
const CONCURRENT_RETRY: Duration = Duration::from_secs(1);

/// The state of all keys that have limits.
pub(crate) struct Limits {
    shards: [Mutex<HashMap<KeyName, Arc<Key>>>; SHARDS],
    hasher: RandomState,
    epoch: Instant,
}

/// The state of one key; it outlives reloads.
struct Key {
    name: KeyName,
    bucket: Mutex<Bucket>,
}

impl Key {
    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that may not go on.
pub(crate) struct Refused {
    pub(crate) rejection: Rejection,
    pub(crate) standing: Standing,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            epoch: Instant::now(),
        }
    }
}

impl Limits {
    /// Admits one request of a key that wants so many tokens; `None` where the key has no limits.
    ///
    /// # Errors
    /// A 429 with what the key may do and when.
    pub(crate) async fn admit(
        plane: &Arc<Plane>,
        key: &KeySpec,
        estimate: Estimate,
        refunds_hits: bool,
    ) -> Result<Option<Admission>, Box<Refused>> {
        let (charges, reserved) = charges(&key.limits, estimate);
        let concurrent = key.limits.concurrent;
        if charges.is_empty() && concurrent.is_none() {
            return Ok(None);
        }
        let counters = &plane.counters.limits;
        if let Some(charge) = charges.iter().find(|charge| !charge.fits()) {
            counters.unfit.increment(1);
            let (standing, message) = (Standing::default(), charge.unfit());
            let rejection = Rejection::new(ErrorKind::LimitUnfit, message);
            return Err(Box::new(Refused { rejection, standing }));
        }
        let request = Request {
            plane: Arc::clone(plane),
            key: plane.limits.key(&key.name),
            redis: plane.redis(),
            charges,
            concurrent,
            reserved,
            prompt: estimate.prompt,
            refunds_hits,
        };
        let asks = request.redis.as_ref().is_some_and(Redis::is_up);
        if !asks {
            return request.local().map(Some);
        }
        // A task of its own: a client that leaves meanwhile must not leave a reservation behind.
        match tokio::spawn(request.shared()).await {
            Ok(admitted) => admitted.map(Some),
            Err(_) => {
                let message = "the gateway met a defect of its own";
                let rejection = Rejection::new(ErrorKind::Internal, message);
                Err(Box::new(Refused { rejection, standing: Standing::default() }))
            }
        }
    }

    /// Microseconds on a clock of our own.
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn key(&self, name: &KeyName) -> Arc<Key> {
        let shard = self.hasher.hash_one(name) as usize % SHARDS;
        let mut keys = lock(&self.shards[shard]);
        if let Some(key) = keys.get(name) {
            return Arc::clone(key);
        }
        if keys.len() >= KEYS_PER_SHARD {
            let now = self.now();
            keys.retain(|_, key| !forgettable(key, now));
        }
        let key = Arc::new(Key { name: name.clone(), bucket: Mutex::default() });
        keys.insert(name.clone(), Arc::clone(&key));
        key
    }

    /// Forgets keys that owe nothing, and tells Redis which requests still run; now and then.
    pub(crate) fn tend(&self, redis: Option<&Redis>) {
        let now = self.now();
        for shard in &self.shards {
            let held: Vec<Arc<Key>> = {
                let mut keys = lock(shard);
                keys.retain(|_, key| !forgettable(key, now));
                keys.values().cloned().collect()
            };
            if let Some(redis) = redis {
                held.iter().for_each(|key| shared::renew(redis, key));
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn forgettable(key: &Arc<Key>, now: u64) -> bool {
    Arc::strong_count(key) == 1 && key.bucket().is_clear(now)
}

/// One request that wants to be admitted.
struct Request {
    plane: Arc<Plane>,
    key: Arc<Key>,
    redis: Option<Redis>,
    charges: Charges,
    concurrent: Option<u32>,
    /// Tokens that were charged.
    reserved: u64,
    /// Of these, the prompt's.
    prompt: u64,
    /// An answer out of the cache costs no tokens.
    refunds_hits: bool,
}

impl Request {
    fn counters(&self) -> &LimitCounters {
        &self.plane.counters.limits
    }

    /// Asks Redis; goes on alone when it does not answer.
    async fn shared(self) -> Result<Admission, Box<Refused>> {
        let Some(redis) = self.redis.clone() else { return self.local() };
        let lease = self.concurrent.map(|_| self.key.bucket().begin());
        let owed = self.key.bucket().take_owed();
        let asked = shared::Asked {
            key: &self.key,
            charges: &self.charges,
            concurrent: self.concurrent,
            lease,
            owed,
        };
        let Ok(verdict) = shared::admit(&redis, asked).await else {
            let mut bucket = self.key.bucket();
            bucket.owe_again(owed);
            if let Some(lease) = lease {
                // What came of the script is not known: its lease ends with an admission, or now.
                bucket.end(lease);
                shared::release(&redis, &self.key, lease);
            }
            drop(bucket);
            return self.local();
        };
        if verdict.cause.is_none() {
            let (n, now) = (redis.gateways(), self.plane.limits.now());
            self.key.bucket().shadow(&self.charges, n, now);
            return Ok(self.admitted(&verdict, lease, 1, true));
        }
        if let Some(lease) = lease {
            self.key.bucket().end(lease);
        }
        Err(self.refused(&verdict, 1))
    }

    /// Decides alone, by this gateway's share.
    fn local(self) -> Result<Admission, Box<Refused>> {
        let n = self.redis.as_ref().map_or(1, Redis::gateways);
        if self.redis.is_some() {
            self.counters().alone.increment(1);
        }
        let now = self.plane.limits.now();
        let mut bucket = self.key.bucket();
        let owes = self.redis.is_some();
        let verdict = bucket.admit(&self.charges, self.concurrent, n, now, owes);
        let lease = match (&verdict.cause, self.concurrent) {
            (None, Some(_)) => Some(bucket.begin()),
            _ => None,
        };
        drop(bucket);
        if verdict.cause.is_some() {
            return Err(self.refused(&verdict, n));
        }
        Ok(self.admitted(&verdict, lease, n, false))
    }

    fn admitted(self, verdict: &Verdict, lease: Option<u64>, n: u32, shared: bool) -> Admission {
        let standing = Standing::of(&self.charges, verdict, n);
        Admission::new(self, standing, lease, shared)
    }

    fn refused(&self, verdict: &Verdict, n: u32) -> Box<Refused> {
        let standing = Standing::of(&self.charges, verdict, n);
        let counters = self.counters();
        let rejection = match verdict.cause {
            Some(Cause::Window(window, wait)) if window.is_tokens() => {
                counters.tokens.increment(1);
                let message = window.exceeded(&self.charges, wait);
                Rejection::new(ErrorKind::LimitTokens, message).retry_after(Some(wait))
            }
            Some(Cause::Window(window, wait)) => {
                counters.requests.increment(1);
                let message = window.exceeded(&self.charges, wait);
                Rejection::new(ErrorKind::LimitRequests, message).retry_after(Some(wait))
            }
            Some(Cause::Concurrent) | None => {
                counters.concurrent.increment(1);
                let most = self.concurrent.unwrap_or_default();
                let message = format!("this key may have {most} requests running at once");
                Rejection::new(ErrorKind::LimitRequests, message)
                    .retry_after(Some(CONCURRENT_RETRY))
            }
        };
        Box::new(Refused { rejection, standing })
    }
}
