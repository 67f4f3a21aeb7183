//! Requests that kill the backend that takes them: recognised, stopped, and refused for a while.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use router::poison::POISON_DEATHS;
use tokio::time::Instant;

use crate::call::Call;
use crate::dial;
use crate::error::{ErrorKind, Rejection};
use crate::plane::Link;
use crate::upstream::Wire;

/// A backend that refuses a new connection within this has died; one that takes it, or is slow, has not.
const REFUSES_WITHIN: Duration = Duration::from_millis(500);

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

/// A connection was lost in a way that looks like a death. True when it was one, and one too many by this request.
pub(crate) async fn killed(call: &Call, link: &Arc<Link>) -> bool {
    let Ok(target) = link.target() else { return false };
    let again = dial::dial(target, Arc::new(Wire::default()));
    let refused = matches!(tokio::time::timeout(REFUSES_WITHIN, again).await, Ok(Err(_)));
    if !refused || call.deaths.fetch_add(1, Relaxed) + 1 < POISON_DEATHS {
        return false;
    }
    call.world.poison().quarantine(digest(call), Instant::now().into_std());
    true
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
