//! What the cache does by itself: lets go of what has ended, and keeps purges the same on all gateways of a Redis.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};
use std::{io, thread};

use redis::{Cmd, Value, cmd};

use super::entry::unix_ms;
use super::purges::{self, SCOPES_MAX};
use crate::plane::Plane;
use crate::redis::Unavailable;

/// Between two looks. A purge reaches other gateways within it.
const LOOK: Duration = Duration::from_millis(500);
/// The hash of purges, by scope.
const KEY: &[u8] = b"fb:purges";

/// Starts the thread; it runs until the process ends.
///
/// # Errors
/// When its thread or runtime cannot be made.
pub(crate) fn start(plane: Arc<Plane>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("cache".to_owned()).spawn(move || {
        runtime.block_on(async move {
            loop {
                look(&plane).await;
                // A purge of ours is told at once.
                let _ = tokio::time::timeout(LOOK, plane.cache.purged.notified()).await;
            }
        });
    })?;
    Ok(())
}

async fn look(plane: &Plane) {
    let held = plane.cache.prepared.load().memory.settle();
    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    plane.counters.cache.bytes.set(held as f64);
    // Whatever could not be told or heard now is at the next look.
    let _ = agree(plane).await;
}

/// Takes over the purges of others, and tells ours.
async fn agree(plane: &Plane) -> Result<(), Unavailable> {
    let Some(redis) = plane.redis() else { return Ok(()) };
    let answer = redis.command(cmd("HGETALL").arg(KEY)).await?;
    // What is no number of a purge is passed over.
    let theirs: HashMap<String, Value> = redis::from_redis_value(answer).unwrap_or_default();
    let theirs: HashMap<String, u64> = theirs
        .into_iter()
        .filter_map(|(name, number)| Some((name, redis::from_redis_value(number).ok()?)))
        .collect();
    let cache = &plane.cache;
    if theirs.len() > SCOPES_MAX {
        cache.purge(&router::planes::PurgeScope::All);
        redis.command(cmd("DEL").arg(KEY)).await?;
    } else {
        let raised = cache.purges.learn(theirs.iter().map(|(name, n)| (name.clone(), *n)));
        for scope in raised {
            cache.prepared.load().memory.purge(|entry| purges::covers(&scope, &entry.owner));
        }
    }
    let mut tell: Cmd = cmd("HSET");
    tell.arg(KEY);
    let mut ours = cache.purges.list();
    ours.retain(|(name, number)| theirs.get(name).is_none_or(|known| known < number));
    for (name, number) in &ours {
        tell.arg(name).arg(*number);
    }
    if !ours.is_empty() {
        redis.command(&tell).await?;
    }
    cache.agreed.store(unix_ms(SystemTime::now()), Relaxed);
    Ok(())
}
