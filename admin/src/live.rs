//! The data planes as the control plane sees them: its own, and those of other processes on the same store.

mod all;
mod explanation;
mod folder;
mod remote;
mod socket;
mod words;

use std::sync::Arc;

use router::planes::{Feed, Inspect, Operate};

pub use self::all::{Embedded, Sidecar};
pub use self::folder::{Folder, PLANES_MAX};
pub use self::remote::{Remote, RemoteError};
pub use self::socket::{Live, Socket};

/// One data plane.
#[derive(Clone)]
pub struct PlaneRef {
    /// Its process, as `pid-4711`; the same as long as it runs.
    pub name: String,
    /// Its live state.
    pub inspect: Arc<dyn Inspect>,
    /// What can be done there.
    pub operate: Arc<dyn Operate>,
    /// What happened there.
    pub feed: Arc<dyn Feed>,
    /// Why it does not answer; everything that is read from it is then empty, and nothing can be done there.
    pub unreachable: Option<String>,
}

/// The data planes of one store. Calls may take up to the deadline of a socket, so they belong on a thread that may block.
pub trait Planes: Send + Sync {
    /// All of them, the own one first; those that do not answer included.
    fn all(&self) -> Vec<PlaneRef>;
}
