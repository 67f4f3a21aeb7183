//! Requests that kill the backend that takes them: recognised, stopped, and refused for a while.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use router::poison::POISON_DEATHS;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::call::Call;
use crate::dial;
use crate::error::{ErrorKind, Rejection};
use crate::plane::Link;
use crate::upstream::Wire;

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
pub(crate) fn refused(call: &Call) -> Option<Rejection> {
    let poison = call.world.poison();
    if poison.is_empty() {
        return None;
    }
    let left = poison.refuses(digest(call), Instant::now().into_std())?;
    let message = format!(
        "this request has brought down several backends and is refused for {} s more",
        left.as_secs().max(1)
    );
    Some(Rejection::new(ErrorKind::Poisonous, message))
}

/// The backends that may have died of one request.
#[derive(Debug, Default)]
pub(crate) struct Suspicion {
    died: usize,
    /// Still being looked at; at most one per attempt.
    pending: Vec<JoinHandle<bool>>,
}

/// A connection was lost in a way that looks like a death. True when it was one, and one too many by this request.
///
/// The first loss delays nothing: the backend is looked at while the request goes on elsewhere.
pub(crate) async fn killed(call: &Call, link: &Arc<Link>) -> bool {
    let mut suspicion = std::mem::take(&mut *lock(&call.suspicion));
    suspicion.pending.push(tokio::spawn(has_died(Arc::clone(link))));
    if suspicion.died + suspicion.pending.len() >= DEATHS {
        for verdict in std::mem::take(&mut suspicion.pending) {
            suspicion.died += usize::from(verdict.await.unwrap_or(false));
        }
    }
    let poisonous = suspicion.died >= DEATHS;
    *lock(&call.suspicion) = suspicion;
    if poisonous {
        call.world.poison().quarantine(digest(call), Instant::now().into_std());
    }
    poisonous
}

/// Whether a backend refuses a new connection. A process that dies closes its sockets in any order, so that one look is
/// not enough.
async fn has_died(link: Arc<Link>) -> bool {
    let Ok(target) = link.target() else { return false };
    let looks = async {
        for pause in LOOKS {
            tokio::time::sleep(pause).await;
            if dial::dial(target, Arc::new(Wire::default())).await.is_err() {
                return true;
            }
        }
        false
    };
    tokio::time::timeout(REFUSES_WITHIN, looks).await.unwrap_or(false)
}

fn lock(suspicion: &Mutex<Suspicion>) -> MutexGuard<'_, Suspicion> {
    suspicion.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The end of a request that has just killed once too often.
pub(crate) fn stop() -> Rejection {
    Rejection::new(ErrorKind::Poisonous, "this request has brought down several backends")
}

fn digest(call: &Call) -> u128 {
    let mut first = [0; 16];
    first.copy_from_slice(&blake3::hash(&call.body.bytes).as_bytes()[..16]);
    u128::from_le_bytes(first)
}
