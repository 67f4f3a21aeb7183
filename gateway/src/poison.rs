//! Requests that kill the backend that takes them: recognised, stopped, and refused for a while.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use router::poison::{POISON_DEATHS, POISON_MEMORY};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::call::Call;
use crate::dial::{self, DialError};
use crate::error::{ErrorKind, Rejection};
use crate::plane::Link;
use crate::request::INLINE_MAX;

/// A backend that refuses a new connection within this has died; one that takes it, or is slow, has not.
const REFUSES_WITHIN: Duration = Duration::from_millis(500);
/// Pauses before each look at it.
const LOOKS: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(300),
];
const DEATHS: usize = POISON_DEATHS as usize;

/// The answer to a request that has killed of late, if this is one. Nothing is hashed unless something is remembered.
pub(crate) async fn refused(call: &Call) -> Option<Rejection> {
    let poison = call.world.poison();
    if poison.is_empty() {
        return None;
    }
    let left = poison.refuses(digest(call).await, Instant::now().into_std())?;
    let message = format!(
        "this request has brought down several backends and is refused for {} s more",
        left.as_secs().max(1)
    );
    Some(Rejection::new(ErrorKind::Poisonous, message))
}

/// Fingerprints of requests that were served of late: one whose like was served is no poison, however many backends are
/// lost around it. Lossy and small; it is written once per request, so nothing is hashed in full.
#[derive(Debug)]
pub(crate) struct Served {
    epoch: Instant,
    /// 48 bits of fingerprint and 16 of the second at which it was served; 0 = none.
    slots: Box<[AtomicU64]>,
}

/// How many are remembered; a power of two.
const SERVED_SLOTS: usize = 4096;
/// Pieces of a body that its fingerprint is made of, 8 bytes each.
const SAMPLES: usize = 16;

impl Default for Served {
    fn default() -> Self {
        let slots = (0..SERVED_SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { epoch: Instant::now(), slots }
    }
}

impl Served {
    /// A request with this body was served.
    pub(crate) fn note(&self, body: &[u8], now: Instant) {
        let (slot, fingerprint) = self.place(body);
        let entry = fingerprint | self.second(now);
        if slot.load(Relaxed) != entry {
            slot.store(entry, Relaxed);
        }
    }

    /// Whether one was served within the memory of poison.
    fn knows(&self, body: &[u8], now: Instant) -> bool {
        let (slot, fingerprint) = self.place(body);
        let entry = slot.load(Relaxed);
        let age = self.second(now).wrapping_sub(entry) & SECONDS;
        entry != 0 && entry & !SECONDS == fingerprint && age <= POISON_MEMORY.as_secs()
    }

    fn second(&self, now: Instant) -> u64 {
        (now.saturating_duration_since(self.epoch).as_secs() + 1) & SECONDS
    }

    fn place(&self, body: &[u8]) -> (&AtomicU64, u64) {
        let hash = sampled(body);
        let index = usize::try_from(hash % SERVED_SLOTS as u64).unwrap_or_default();
        (&self.slots[index], hash & !SECONDS)
    }
}

const SECONDS: u64 = 0xffff;

/// A hash of a body's length and of pieces spread over it.
fn sampled(body: &[u8]) -> u64 {
    let step = (body.len() / SAMPLES).max(8);
    let pieces = body.chunks(step).map(|chunk| {
        let mut piece = [0; 8];
        let n = chunk.len().min(8);
        piece[..n].copy_from_slice(&chunk[..n]);
        u64::from_le_bytes(piece)
    });
    pieces.fold(body.len() as u64, |hash, piece| {
        (hash ^ piece).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    })
}

/// The backends that may have died of one request.
#[derive(Debug, Default)]
pub(crate) struct Suspicion {
    died: usize,
    /// Still being looked at; at most one per attempt.
    pending: Vec<JoinHandle<bool>>,
}

impl Suspicion {
    /// A connection was lost in a way that looks like a death. True when it was one, and one too many by this request.
    ///
    /// The first loss delays nothing: the backend is looked at while the request goes on elsewhere.
    pub(crate) async fn confirmed(&mut self, call: &Call, link: &Arc<Link>) -> bool {
        self.pending.push(tokio::spawn(has_died(Arc::clone(link))));
        if self.died + self.pending.len() < DEATHS {
            return false;
        }
        for verdict in std::mem::take(&mut self.pending) {
            self.died += usize::from(verdict.await.unwrap_or(false));
        }
        if self.died < DEATHS || call.core.plane.served.knows(&call.body.bytes, Instant::now()) {
            return false;
        }
        let digest = digest(call).await;
        call.world.poison().quarantine(digest, Instant::now().into_std());
        true
    }
}

/// Whether a backend refuses a new connection. A process that dies closes its sockets in any order, so that one look is
/// not enough.
async fn has_died(link: Arc<Link>) -> bool {
    let Ok(target) = link.target() else { return false };
    let looks = async {
        for pause in LOOKS {
            tokio::time::sleep(pause).await;
            // Refused and nothing else: a name that does not resolve or a network that is down is nobody's death.
            if let Err(DialError::Failed(error)) = dial::dial(target, Arc::default()).await
                && error.kind() == io::ErrorKind::ConnectionRefused
            {
                return true;
            }
        }
        false
    };
    tokio::time::timeout(REFUSES_WITHIN, looks).await.unwrap_or(false)
}

/// The end of a request that has just killed once too often.
pub(crate) fn stop() -> Rejection {
    Rejection::new(ErrorKind::Poisonous, "this request has brought down several backends")
}

/// Of the whole body; of a large one on a thread of its own, so that the core's other streams go on.
async fn digest(call: &Call) -> u128 {
    if call.body.bytes.len() <= INLINE_MAX {
        return digest_of(&call.body.bytes);
    }
    let body = Arc::clone(&call.body);
    let digested = tokio::task::spawn_blocking(move || digest_of(&body.bytes));
    digested.await.unwrap_or_else(|_| digest_of(&call.body.bytes))
}

fn digest_of(body: &[u8]) -> u128 {
    let mut first = [0; 16];
    first.copy_from_slice(&blake3::hash(body).as_bytes()[..16]);
    u128::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_served_is_known_for_a_minute() {
        let served = Served::default();
        let now = Instant::now();
        let body = |text: &str| format!("{{\"model\":\"m\",\"messages\":\"{text}\"}}");
        assert!(!served.knows(body("hello").as_bytes(), now));
        served.note(body("hello").as_bytes(), now);
        assert!(served.knows(body("hello").as_bytes(), now + Duration::from_secs(30)));
        assert!(!served.knows(body("hello").as_bytes(), now + Duration::from_secs(90)));
        for other in ["hellp", "hello ", "", "a longer one that shares nothing but its beginning"] {
            assert!(!served.knows(body(other).as_bytes(), now), "{other}");
        }
        assert!(!served.knows(b"", now));
    }

    #[test]
    fn small_bodies_are_read_whole() {
        let body = "0123456789abcdef".repeat(4);
        for at in 0..body.len() {
            let mut other = body.clone().into_bytes();
            other[at] ^= 1;
            assert_ne!(sampled(&other), sampled(body.as_bytes()), "{at}");
        }
    }
}
