//! The thread that Redis is spoken to on, and which Redis that is.

use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use router::spec::RedisSpec;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::behind::{self, WriteBehind};
use super::{HEARTBEAT, Redis, Shared, keeper};
use crate::plane::Plane;

/// Between two looks at what the snapshot says.
const LOOK: Duration = Duration::from_millis(250);

/// Starts the thread. It follows the snapshot: a changed `[redis]` takes the place of the old one while running.
///
/// # Errors
/// When its thread or runtime cannot be made.
pub(crate) fn start(plane: Arc<Plane>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("redis".to_owned()).spawn(move || {
        runtime.block_on(supervise(plane));
    })?;
    Ok(())
}

async fn supervise(plane: Arc<Plane>) {
    let id = format!("{:016x}", fastrand::u64(..));
    let mut running: Option<(RedisSpec, [JoinHandle<()>; 2])> = None;
    let mut ticks = tokio::time::interval(LOOK);
    let mut tended = Instant::now();
    loop {
        ticks.tick().await;
        if tended.elapsed() >= HEARTBEAT {
            tended = Instant::now();
            let redis = plane.redis();
            plane.limits.tend(redis.as_ref().filter(|redis| redis.is_up()));
        }
        let world = plane.world.load();
        let wanted = world.spec().redis.as_ref();
        if running.as_ref().map(|(spec, _)| spec) == wanted {
            continue;
        }
        if let Some((_, tasks)) = running.take() {
            plane.redis.store(None);
            tasks.iter().for_each(JoinHandle::abort);
            plane.counters.redis.up.set(0.0);
        }
        if let Some(spec) = wanted {
            let (redis, tasks) = open(&plane, spec.clone(), id.clone());
            plane.redis.store(Some(Arc::new(redis)));
            running = Some((spec.clone(), tasks));
        }
    }
}

fn open(plane: &Plane, spec: RedisSpec, id: String) -> (Redis, [JoinHandle<()>; 2]) {
    let (queue, writes) = WriteBehind::new();
    let shared = Arc::new(Shared {
        spec,
        id,
        gate: super::Gate::default(),
        connection: arc_swap::ArcSwapOption::empty(),
        wake: tokio::sync::Notify::new(),
        behind: queue,
        presence: super::Presence::default(),
        voice: super::Voice::default(),
        counters: Arc::clone(&plane.counters),
    });
    let tasks = [
        tokio::spawn(keeper::keep(Arc::clone(&shared))),
        tokio::spawn(behind::write(Arc::clone(&shared), writes)),
    ];
    (Redis(shared), tasks)
}
