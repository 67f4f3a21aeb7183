//! The guard of an admitted request: settles its tokens and frees its place when it is dropped.

use adapters::Usage;

use super::bucket::difference;
use super::{Request, Standing, shared};
use crate::redis::Redis;

/// One admitted request. Dropped without [`Admission::settle`] it counts as one that came to nothing.
pub(crate) struct Admission {
    request: Request,
    pub(crate) standing: Standing,
    lease: Option<u64>,
    /// It was charged in Redis; else by this gateway's share.
    shared: bool,
    used: u64,
}

impl Admission {
    pub(super) const fn new(
        request: Request,
        standing: Standing,
        lease: Option<u64>,
        shared: bool,
    ) -> Self {
        Self { request, standing, lease, shared, used: 0 }
    }

    /// Whether the answer's tokens matter.
    pub(crate) fn counts_tokens(&self) -> bool {
        self.request.charges.iter().any(|charge| charge.window.is_tokens())
    }

    /// The request is over; `usage` is what its answer says of itself.
    pub(crate) fn settle(mut self, used: Used, usage: Option<&Usage>) {
        let Request { prompt, reserved, refunds_hits, .. } = self.request;
        let unsaid = |events| if events > 0 { prompt + events } else { reserved };
        let answer = |events| usage.map_or_else(|| unsaid(events), |usage| usage.total_tokens);
        self.used = match used {
            Used::Nothing => 0,
            Used::Cached if refunds_hits => 0,
            Used::Cached => answer(0),
            Used::Prompt => prompt,
            Used::Answer { events } => answer(events),
        };
    }
}

/// What a request has used, as far as it can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Used {
    /// No backend has generated anything.
    Nothing,
    /// Nothing now: the answer was kept from an earlier request.
    Cached,
    /// The client left before anything came.
    Prompt,
    /// An answer, whole or not; a stream of so many events. Of one that is no stream nothing is given back that its usage
    /// does not say.
    Answer { events: u64 },
}

impl Drop for Admission {
    fn drop(&mut self) {
        let Request { plane, key, redis, charges, reserved, .. } = &self.request;
        let differs = self.used != *reserved;
        let n = redis.as_ref().map_or(1, Redis::gateways);
        let now = plane.limits.now();
        let mut bucket = key.bucket();
        if let Some(lease) = self.lease {
            bucket.end(lease);
        }
        let tokens = charges.iter().filter(|charge| charge.window.is_tokens() && differs);
        let owes = redis.is_some() && !self.shared;
        for charge in tokens.clone() {
            bucket.settle(charge, self.used, n, now, owes);
        }
        let Some(redis) = redis else { return };
        // With the bucket still held: what is told to Redis about a lease keeps its order.
        if self.shared {
            let deltas = tokens.map(|charge| {
                let delta = difference(&charge.quota, self.used, charge.units);
                (charge.window, delta, charge.quota.tolerance())
            });
            shared::settle(redis, key, self.lease, deltas);
        } else if let Some(lease) = self.lease {
            shared::release(redis, key, lease);
        }
    }
}
