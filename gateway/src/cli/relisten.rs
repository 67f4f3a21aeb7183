//! The admin API's part of a reload: its listener, its names and the token of the file change while it runs.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use admin::api::Remote;
use config::AdminConfig;
use gateway::StartError;

/// The admin API of this process, once it runs; there may be none.
#[derive(Clone, Default)]
pub(crate) struct Relisten(Arc<Mutex<Option<Running>>>);

struct Running {
    remote: Remote,
    /// As the configuration that it came from says.
    listen: SocketAddr,
}

/// Reloads wait until this is gone.
pub(crate) struct Starting<'a>(MutexGuard<'a, Option<Running>>);

impl Starting<'_> {
    pub(crate) fn runs(mut self, remote: &Remote, listen: SocketAddr) {
        *self.0 = Some(Running { remote: remote.clone(), listen });
    }
}

/// What becomes of the listener.
pub(crate) enum Place {
    /// Nothing: it is the same, or there is none.
    Stays,
    /// This one takes over.
    To(TcpListener),
    /// The system lets nobody have the new address while the old one is listened on: same port, and one of the two is
    /// "all addresses".
    Overlaps,
}

impl Relisten {
    pub(crate) fn starting(&self) -> Starting<'_> {
        Starting(self.running())
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the new address, before anything changes.
    ///
    /// # Errors
    /// It cannot be had.
    pub(crate) fn prepare(&self, asked: &AdminConfig) -> Result<Place, StartError> {
        let running = self.running();
        let Some(now) = running.as_ref().map(|running| running.listen) else {
            return Ok(Place::Stays);
        };
        let address = asked.listen;
        if address == now {
            return Ok(Place::Stays);
        }
        let all = address.ip().is_unspecified() || now.ip().is_unspecified();
        match TcpListener::bind(address) {
            Ok(listener) => Ok(Place::To(listener)),
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && address.port() == now.port()
                    && all =>
            {
                Ok(Place::Overlaps)
            }
            Err(source) => Err(StartError::Listen { address, source }),
        }
    }

    /// Puts it in force; gives what has to wait for a restart.
    pub(crate) fn finish(&self, place: Place, asked: &AdminConfig) -> Option<&'static str> {
        let mut running = self.running();
        let running = running.as_mut()?;
        let token = asked.token.as_ref().map(|token| token.expose());
        running.remote.configure(token, &asked.hosts);
        match place {
            Place::Stays => None,
            Place::Overlaps => Some("admin.listen"),
            Place::To(listener) => match running.remote.move_to(listener, &asked.hosts) {
                Ok(()) => {
                    running.listen = asked.listen;
                    None
                }
                Err(error) => {
                    tracing::error!(%error, "the admin listener does not move");
                    Some("admin.listen")
                }
            },
        }
    }
}
