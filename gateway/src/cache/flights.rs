//! The answers that are being made now, so that equal requests wait for one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::flight::{Flight, Seat};
use super::key::Digest;
use super::purges::Stamp;

/// Locks by the digest's first byte: cores meet in one only by chance.
const SHARDS: usize = 16;

/// At most one per running request.
#[derive(Default)]
pub(crate) struct Flights {
    shards: [Mutex<HashMap<Digest, Listed>>; SHARDS],
}

struct Listed {
    flight: Arc<Flight>,
    /// What was purged when it began: after another purge nobody joins it.
    stamp: Stamp,
}

/// What a request finds.
pub(crate) enum Found<T> {
    /// It was stored in the meantime.
    Stored(T),
    Joined(Seat),
    /// Nobody makes it: this request has begun to.
    Begun(Arc<Flight>, Seat),
}

impl Flights {
    fn shard(&self, digest: &Digest) -> MutexGuard<'_, HashMap<Digest, Listed>> {
        let shard = &self.shards[usize::from(digest[0]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the running flight, or begins one. `stored` is asked where there is none: one that ended a moment ago has
    /// stored its answer before it left the list.
    pub(crate) fn find<T>(
        &self,
        digest: &Digest,
        stamp: Stamp,
        stored: impl FnOnce() -> Option<T>,
        begin: impl FnOnce() -> (Arc<Flight>, Seat),
    ) -> Found<T> {
        let mut shard = self.shard(digest);
        let running = shard.get(digest).filter(|listed| listed.stamp == stamp);
        if let Some(seat) = running.and_then(|listed| listed.flight.join()) {
            return Found::Joined(seat);
        }
        if let Some(stored) = stored() {
            return Found::Stored(stored);
        }
        let (flight, seat) = begin();
        shard.insert(*digest, Listed { flight: Arc::clone(&flight), stamp });
        Found::Begun(flight, seat)
    }

    /// Takes a flight off the list, if it is still the one that is on it.
    pub(crate) fn remove(&self, digest: &Digest, flight: &Arc<Flight>) {
        let mut shard = self.shard(digest);
        if shard.get(digest).is_some_and(|listed| Arc::ptr_eq(&listed.flight, flight)) {
            shard.remove(digest);
        }
    }
}
