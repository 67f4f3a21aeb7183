//! Which data planes there are: the own one, and whoever has a socket beside the store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::folder::Folder;
use super::remote::Remote;
use super::socket::{Live, Socket};
use super::{PlaneRef, Planes};

/// The data planes of other processes, found by their sockets.
#[derive(Debug)]
pub struct Sidecar {
    folder: Folder,
    /// What is ours: not another process.
    own: Option<String>,
    known: Mutex<BTreeMap<String, Arc<Remote>>>,
}

impl Sidecar {
    /// All that have a socket in this folder.
    #[must_use]
    pub fn new(folder: Folder) -> Self {
        Self { folder, own: None, known: Mutex::default() }
    }

    fn found(&self) -> Vec<(String, Arc<Remote>)> {
        let names = self.folder.names().unwrap_or_else(|error| {
            tracing::debug!(%error, "the folder of the planes cannot be read");
            Vec::new()
        });
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|name, _| names.contains(name));
        for name in names.into_iter().filter(|name| self.own.as_ref() != Some(name)) {
            known
                .entry(name.clone())
                .or_insert_with(|| Arc::new(Remote::new(self.folder.clone(), name)));
        }
        known.iter().map(|(name, remote)| (name.clone(), Arc::clone(remote))).collect()
    }
}

impl Planes for Sidecar {
    /// Asks all of them at once.
    fn all(&self) -> Vec<PlaneRef> {
        let found = self.found();
        let asked: Vec<_> = thread::scope(|scope| {
            let asked = found.iter().map(|(_, remote)| scope.spawn(|| remote.refresh()));
            let asked: Vec<_> = asked.collect();
            asked.into_iter().map(|answer| answer.join().ok()).collect()
        });
        let planes = found.into_iter().zip(asked).filter_map(|((name, remote), answer)| {
            let unreachable = match answer {
                Some(Ok(())) => None,
                // Ended since its name was read: no plane any more.
                Some(Err(super::RemoteError::Gone)) => return None,
                Some(Err(error)) => Some(error.to_string()),
                None => Some("the question met a defect".to_owned()),
            };
            Some(PlaneRef {
                name: format!("pid-{name}"),
                inspect: Arc::clone(&remote) as _,
                operate: Arc::clone(&remote) as _,
                feed: remote,
                unreachable,
            })
        });
        planes.collect()
    }
}

/// The data plane of this process, and those of others on the same store.
pub struct Embedded<P> {
    own: Arc<P>,
    name: String,
    others: Sidecar,
    _socket: Option<Socket>,
}

impl<P: Live + 'static> Embedded<P> {
    /// With a socket, others see this plane too.
    #[must_use]
    pub fn new(own: Arc<P>, folder: Folder, socket: Option<Socket>) -> Self {
        let name = socket.as_ref().map(|socket| socket.name().to_owned());
        let shown = name.clone().unwrap_or_else(|| std::process::id().to_string());
        let others = Sidecar { own: name, ..Sidecar::new(folder) };
        Self { own, name: format!("pid-{shown}"), others, _socket: socket }
    }
}

impl<P: Live + 'static> Planes for Embedded<P> {
    fn all(&self) -> Vec<PlaneRef> {
        let mut planes = self.others.all();
        planes.insert(
            0,
            PlaneRef {
                name: self.name.clone(),
                inspect: Arc::clone(&self.own) as _,
                operate: Arc::clone(&self.own) as _,
                feed: Arc::clone(&self.own) as _,
                unreachable: None,
            },
        );
        planes
    }
}
