//! One listener for all cores: accepts, and hands each socket to the core with the fewest open requests.
//!
//! `SO_REUSEPORT` is left alone on purpose: a second process could bind silently, and few connections spread badly.

use std::net::{TcpListener as StdListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use std::{io, thread};

use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::core::CoreHandle;
use crate::stopper::{Stopped, Stopper};
use crate::telemetry::Counters;

/// A socket on its way to a core.
pub(crate) struct Accepted {
    pub(crate) socket: TcpStream,
    /// Held as long as the connection lives.
    pub(crate) place: OwnedSemaphorePermit,
}

/// The places for client connections; their number can change while they are taken.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    max: Arc<AtomicU32>,
}

impl Places {
    pub(crate) fn new(max: u32) -> Self {
        let free = usize::try_from(max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(free)), max: Arc::new(AtomicU32::new(max)) }
    }

    /// Adds or takes places. Where too few are free to be taken, the rest goes at a later change: connections are not cut.
    pub(crate) fn resize(&self, max: u32) {
        let before = self.max.load(Relaxed);
        let now = if max >= before {
            self.free.add_permits(usize::try_from(max - before).unwrap_or(0));
            max
        } else {
            let gone = self.free.forget_permits(usize::try_from(before - max).unwrap_or(0));
            before - u32::try_from(gone).unwrap_or(0)
        };
        self.max.store(now, Relaxed);
    }
}

/// Pause after a failed accept (out of descriptors, mostly), so that it is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts on a thread of its own until stopped.
///
/// # Errors
/// When its thread or runtime cannot be made.
pub(crate) fn start(
    listener: StdListener,
    cores: Arc<[CoreHandle]>,
    places: Places,
    stop: &Stopper,
    counters: &Arc<Counters>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut stopped, counters) = (stop.listener(), Arc::clone(counters));
    thread::Builder::new().name("accept".to_owned()).spawn(move || {
        runtime.block_on(async move {
            match TcpListener::from_std(listener) {
                Ok(listener) => run(listener, &cores, &places, &mut stopped, &counters).await,
                Err(error) => tracing::error!(%error, "the public listener failed"),
            }
        });
    })?;
    Ok(())
}

async fn run(
    listener: TcpListener,
    cores: &[CoreHandle],
    places: &Places,
    stopped: &mut Stopped,
    counters: &Counters,
) {
    loop {
        let accepted = tokio::select! {
            accepted = accept_one(&listener, places) => accepted,
            () = stopped.stopped() => break,
        };
        match accepted {
            Ok(accepted) => hand(accepted, cores, counters),
            Err(error) => {
                counters.accept_errors.increment(1);
                tracing::warn!(%error, "accept failed; pausing");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    if let Ok(listener) = listener.into_std() {
        clear(&listener, cores, places, counters);
    }
}

/// Takes those whom the kernel has already let in: closing the listener would cut them off.
fn clear(listener: &StdListener, cores: &[CoreHandle], places: &Places, counters: &Counters) {
    while let Ok(place) = Arc::clone(&places.free).try_acquire_owned()
        && let Ok((socket, _)) = listener.accept()
        && socket.set_nonblocking(true).is_ok()
    {
        hand(Accepted { socket, place }, cores, counters);
    }
}

fn hand(accepted: Accepted, cores: &[CoreHandle], counters: &Counters) {
    counters.connections_accepted.increment(1);
    if let Some(core) = cores.iter().min_by_key(|core| core.load()) {
        core.hand(accepted);
    }
}

/// Waits for a free place before it accepts: the kernel's backlog holds what exceeds `connections_max`.
async fn accept_one(listener: &TcpListener, places: &Places) -> io::Result<Accepted> {
    let place = Arc::clone(&places.free).acquire_owned().await.map_err(io::Error::other)?;
    loop {
        match listener.accept().await {
            Ok((socket, _)) => return Ok(Accepted { socket: socket.into_std()?, place }),
            // The client was gone before we came: nobody's fault, no pause.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}
