//! One listener for all cores: accepts, and hands each socket to the core with the fewest open requests.
//!
//! `SO_REUSEPORT` is left alone on purpose: a second process could bind silently, and few connections spread badly.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::core::CoreHandle;
use crate::telemetry::Counters;

/// A socket on its way to a core.
pub(crate) struct Accepted {
    pub(crate) socket: TcpStream,
    pub(crate) peer: SocketAddr,
    /// Held as long as the connection lives.
    pub(crate) place: OwnedSemaphorePermit,
}

/// Pause after a failed accept (out of descriptors, mostly), so that it is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until `stop` turns true or its sender is gone.
pub(crate) async fn run(
    listener: TcpListener,
    cores: Arc<[CoreHandle]>,
    places: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
    counters: Arc<Counters>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = accept_one(&listener, &places) => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok(accepted) => {
                counters.connections_accepted.increment(1);
                hand_over(accepted, &cores);
            }
            Err(error) => {
                counters.accept_errors.increment(1);
                tracing::warn!(%error, "accept failed; pausing");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Waits for a free place before it accepts: the kernel's backlog holds what exceeds `connections_max`.
async fn accept_one(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<Accepted> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                let socket = socket.into_std()?;
                return Ok(Accepted { socket, peer, place });
            }
            // The client was gone before we came: nobody's fault, no pause.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

fn hand_over(accepted: Accepted, cores: &[CoreHandle]) {
    if let Some(core) = cores.iter().min_by_key(|core| core.load()) {
        core.hand(accepted);
    }
}
