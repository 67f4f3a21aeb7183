//! A running API as its process holds it: what a reload changes of it, and its end.

use std::io;
use std::net::TcpListener;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Handle, Runtime};
use tokio::sync::mpsc;

use crate::api::origin::Origins;
use crate::api::state::Api;

/// Changes a running API.
#[derive(Clone)]
pub struct Remote {
    api: Api,
    runtime: Handle,
    moves: mpsc::Sender<tokio::net::TcpListener>,
}

impl Remote {
    pub(super) fn new(
        api: &Api,
        runtime: &Runtime,
    ) -> (Self, mpsc::Receiver<tokio::net::TcpListener>) {
        // One under way: whoever moves it twice waits for the first.
        let (moves, moved) = mpsc::channel(1);
        (Self { api: api.clone(), runtime: runtime.handle().clone(), moves }, moved)
    }

    /// Answers to these names, `admin.hosts`, and to this token of the configuration from now on.
    pub fn configure(&self, token: Option<&str>, hosts: &[String]) {
        self.api.tokens().configure(token);
        self.api.set_origins(self.api.origins().with_hosts(hosts));
    }

    /// Accepts on another listener instead; connections of the one before live on. Blocks.
    ///
    /// # Errors
    /// The listener has no address, or cannot be waited for.
    pub fn move_to(&self, listener: TcpListener, hosts: &[String]) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let origins = Origins::new(listener.local_addr()?, hosts);
        let listener = {
            let _entered = self.runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        self.api.set_origins(origins);
        // An API that has ended accepts nowhere.
        let _ = self.moves.blocking_send(listener);
        Ok(())
    }
}

/// A running API.
pub struct Served {
    pub(super) remote: Remote,
    pub(super) thread: JoinHandle<()>,
}

impl Served {
    /// What changes it.
    #[must_use]
    pub const fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It panicked.
    pub fn join(self) -> thread::Result<()> {
        self.thread.join()
    }
}
