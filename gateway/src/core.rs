//! One OS thread with a current-thread runtime per core; each serves its own connections and owns its upstream pools.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::{io, thread};

use tokio::sync::mpsc;

use crate::accept::Accepted;
use crate::connection;
use crate::plane::Plane;

/// How many requests and connections a core has, for the acceptor's choice.
#[derive(Debug, Default)]
pub(crate) struct Load {
    connections: AtomicU32,
    requests: AtomicU32,
}

/// Counts one connection or request of a core until it is dropped.
#[derive(Debug)]
pub(crate) struct Loaded {
    load: Arc<Load>,
    request: bool,
}

impl Load {
    fn count(&self, request: bool) -> &AtomicU32 {
        if request { &self.requests } else { &self.connections }
    }

    pub(crate) fn enter(self: &Arc<Self>, request: bool) -> Loaded {
        self.count(request).fetch_add(1, Relaxed);
        Loaded { load: Arc::clone(self), request }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.load.count(self.request).fetch_sub(1, Relaxed);
    }
}

/// The acceptor's end of a core.
pub(crate) struct CoreHandle {
    /// Bounded in effect by `connections_max`: every item holds one of its places.
    sockets: mpsc::UnboundedSender<(Accepted, Loaded)>,
    load: Arc<Load>,
}

impl CoreHandle {
    /// Open requests first, connections to break ties.
    pub(crate) fn load(&self) -> (u32, u32) {
        (self.load.requests.load(Relaxed), self.load.connections.load(Relaxed))
    }

    pub(crate) fn hand(&self, accepted: Accepted) {
        // Counted here, so that a burst is spread before the cores have run.
        let _ = self.sockets.send((accepted, self.load.enter(false)));
    }
}

/// Starts core `index`; it runs until the process ends.
pub(crate) fn start(index: usize, plane: &Arc<Plane>) -> io::Result<CoreHandle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (sockets, mut incoming) = mpsc::unbounded_channel::<(Accepted, Loaded)>();
    let load = Arc::new(Load::default());
    let plane = Arc::clone(plane);
    let core = Arc::new(connection::Core::new(index, plane, Arc::clone(&load)));
    thread::Builder::new().name(format!("core-{index}")).spawn(move || {
        runtime.block_on(async move {
            tokio::spawn(crate::upstream::sweep(Arc::clone(&core)));
            while let Some((accepted, counted)) = incoming.recv().await {
                let core = Arc::clone(&core);
                tokio::spawn(async move {
                    connection::serve(core, accepted).await;
                    drop(counted);
                });
            }
        });
    })?;
    Ok(CoreHandle { sockets, load })
}
