//! Starting, changing and stopping a data plane: listeners, cores, ops thread, prober.

use std::fmt::Display;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::SystemTime;

use router::planes::EventKind;
use router::snapshot::{BuildError, SnapshotHandle};
use router::spec::SnapshotSpec;

use crate::accept::{self, Places};
use crate::cache;
use crate::core::{self, CoreHandle};
use crate::descriptors;
use crate::ops;
use crate::plane::{Counted, Link, Plane, World};
use crate::prober;
use crate::redis;
use crate::request_log::RequestLog;
use crate::settings::{DrainSettings, Settings, TlsSettings};
use crate::shutdown::{Phase, Shutdown};
use crate::stopper::Stopper;
use crate::tls::{self, TlsError};

/// Connections that the kernel holds until they are accepted; it cuts this at `net.core.somaxconn`. Beyond it a client's
/// first packet is lost, which costs the client a second.
const BACKLOG: i32 = 1024;

/// Why a data plane could not start, or a change could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate is not usable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The configuration cannot be turned into a snapshot.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Build(Vec<BuildError>),
    /// A thread or runtime could not be made.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// The metrics could not be set up.
    #[error("metrics: {0}")]
    Metrics(String),
    /// Running answers are finishing; a change could open a listener again.
    #[error("the process is stopping")]
    Stopping,
}

/// What a change came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The snapshot that new requests see.
    pub version: u64,
    /// Keys whose change takes effect only at the next start.
    pub needs_restart: Vec<&'static str>,
}

/// A running data plane. Its threads run until the process ends.
pub struct DataPlane {
    plane: Arc<Plane>,
    cores: Arc<[CoreHandle]>,
    places: Places,
    current: Mutex<Current>,
}

/// What is being listened on, and with which settings.
struct Current {
    settings: Settings,
    ops_asked: SocketAddr,
    public: Listening,
    ops: Listening,
}

struct Listening {
    address: SocketAddr,
    stop: Stopper,
}

impl DataPlane {
    /// Binds the listeners and starts serving `spec`.
    ///
    /// # Errors
    /// When an address is taken, the certificate is unusable, or the spec has errors.
    pub fn start(
        settings: &Settings,
        ops: SocketAddr,
        spec: SnapshotSpec,
    ) -> Result<Self, StartError> {
        descriptors::raise();
        let count = cores(settings);
        let counted = Counted::new().map_err(|e| StartError::Metrics(e.to_string()))?;
        let tls = acceptor(settings.public.tls.as_ref())?;
        let public_listener = listen(settings.public.listen)?;
        let ops_listener = listen(ops)?;
        let attach = {
            let counted = counted.clone();
            move |spec: &router::spec::BackendSpec| Arc::new(Link::new(spec, count, &counted))
        };
        let world = SnapshotHandle::new(spec, Box::new(attach), std::time::Instant::now())
            .map_err(StartError::Build)?;
        let sink = Box::new(io::stderr());
        let log = RequestLog::start(count, sink, counted.counters.lines_dropped.clone())?;
        let plane = Arc::new(Plane::new(
            Arc::new(world),
            settings.public.clone(),
            tls,
            Shutdown::new(count),
            counted,
            log,
        ));
        let handles = (0..count).map(|index| core::start(index, &plane));
        let handles: Arc<[CoreHandle]> = handles.collect::<io::Result<Vec<_>>>()?.into();
        let places = Places::new(descriptors::connections_max(settings.public.connections_max));
        let public = serve_public(&plane, &handles, &places, public_listener)?;
        let ops_listening = serve_ops(&plane, ops_listener)?;
        prober::start(Arc::clone(&plane))?;
        redis::start(Arc::clone(&plane))?;
        cache::start(Arc::clone(&plane))?;
        plane.counters.show_config(true);
        let current =
            Current { settings: settings.clone(), ops_asked: ops, public, ops: ops_listening };
        Ok(Self { plane, cores: handles, places, current: Mutex::new(current) })
    }

    /// Changes everything that can change while running. New listeners are opened before old ones close, and the snapshot
    /// is swapped last, once; an error changes nothing. Either is counted.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn apply(
        &self,
        settings: &Settings,
        ops: SocketAddr,
        spec: SnapshotSpec,
    ) -> Result<Applied, StartError> {
        let publish = || self.swap(spec).map_err(StartError::Build);
        self.apply_with(settings, ops, publish)
    }

    /// As [`Self::apply`], with a snapshot that somebody else makes and publishes here ([`router::planes::Publish`])
    /// when it is its turn; `publish` gives its version.
    ///
    /// # Errors
    /// As [`Self::start`], and those of `publish`.
    pub fn apply_with<E: From<StartError> + Display>(
        &self,
        settings: &Settings,
        ops: SocketAddr,
        publish: impl FnOnce() -> Result<u64, E>,
    ) -> Result<Applied, E> {
        let applied = self.change(settings, ops, publish);
        match &applied {
            Ok(_) => self.plane.reloads.applied(),
            Err(error) => self.plane.reloads.refused(&error.to_string()),
        }
        applied
    }

    fn change<E: From<StartError>>(
        &self,
        settings: &Settings,
        ops: SocketAddr,
        publish: impl FnOnce() -> Result<u64, E>,
    ) -> Result<Applied, E> {
        let mut current = self.current();
        if self.plane.shutdown.phase() >= Phase::Draining {
            return Err(StartError::Stopping.into());
        }
        let tls = acceptor(settings.public.tls.as_ref())?;
        // New listeners accept from here on; should the spec be refused, dropping them closes them.
        let public =
            Move::of(current.settings.public.listen, settings.public.listen, |listener| {
                serve_public(&self.plane, &self.cores, &self.places, listener)
            })?;
        let operations =
            Move::of(current.ops_asked, ops, |listener| serve_ops(&self.plane, listener))?;
        let version = publish()?;
        self.plane.set_tls(tls);
        self.plane.listen.store(Arc::new(settings.public.clone()));
        self.places.resize(descriptors::connections_max(settings.public.connections_max));
        let mut needs_restart = Vec::new();
        if cores(settings) != self.cores.len() {
            needs_restart.push("server.threads");
        }
        let listened = current.settings.public.listen;
        current.settings = settings.clone();
        if !public.finish(&mut current.public) {
            current.settings.public.listen = listened;
            needs_restart.push("server.listen");
        }
        if operations.finish(&mut current.ops) {
            current.ops_asked = ops;
        } else {
            needs_restart.push("ops.listen");
        }
        Ok(Applied { version, needs_restart })
    }

    /// Puts another snapshot in place and changes nothing else.
    pub(crate) fn swap(&self, spec: SnapshotSpec) -> Result<u64, Vec<BuildError>> {
        let before = self.plane.world.load();
        let version = self.plane.world.publish(spec, std::time::Instant::now())?;
        self.retire(&before);
        self.plane.events.push(EventKind::Published { version }, SystemTime::now());
        Ok(version)
    }

    /// Backends that are gone are not shown as up while their last streams finish.
    fn retire(&self, before: &World) {
        let now = self.plane.world.load();
        for member in before.backends() {
            if now.backend(member.spec.name.as_str()).is_none() {
                member.live.attachment.counters.show(
                    member.live.in_flight(),
                    false,
                    router::breaker::BreakerState::Closed,
                );
            }
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a shutdown would proceed now.
    #[must_use]
    pub fn drain(&self) -> DrainSettings {
        self.current().settings.drain
    }

    /// Where clients connect, with the real port.
    #[must_use]
    pub fn public_addr(&self) -> SocketAddr {
        self.current().public.address
    }

    /// Where the ops listener is, with the real port.
    #[must_use]
    pub fn ops_addr(&self) -> SocketAddr {
        self.current().ops.address
    }

    /// The shared state, for those that publish and inspect.
    #[must_use]
    pub const fn plane(&self) -> &Arc<Plane> {
        &self.plane
    }

    /// Advances the shutdown. [`Phase::Draining`] stops accepting.
    pub fn advance(&self, phase: Phase) {
        self.plane.shutdown.advance(phase);
        if phase >= Phase::Draining {
            self.current().public.stop.stop();
        }
    }
}

fn cores(settings: &Settings) -> usize {
    match settings.threads {
        Some(threads) => usize::from(threads).max(1),
        None => thread::available_parallelism().map_or(1, NonZero::get),
    }
}

fn acceptor(files: Option<&TlsSettings>) -> Result<Option<tokio_rustls::TlsAcceptor>, StartError> {
    Ok(files.map(tls::acceptor).transpose()?)
}

fn listen(address: SocketAddr) -> Result<StdListener, StartError> {
    let listener = StdListener::bind(address).and_then(|listener| {
        // A second time, for a queue that is longer than the standard library's 128.
        rustix::net::listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|source| StartError::Listen { address, source })
}

/// What becomes of a listener when a changed configuration asks for an address.
enum Move {
    /// Nothing: it is the same.
    Stays,
    /// This one takes over.
    To(Listening),
    /// The system lets nobody have the new address while the old one is listened on: same port, and one of the two is
    /// "all addresses". Closing first would refuse clients, so that waits for a restart.
    Overlaps,
}

impl Move {
    fn of(
        now: SocketAddr,
        asked: SocketAddr,
        serve: impl FnOnce(StdListener) -> io::Result<Listening>,
    ) -> Result<Self, StartError> {
        if asked == now {
            return Ok(Self::Stays);
        }
        let all = asked.ip().is_unspecified() || now.ip().is_unspecified();
        match listen(asked) {
            Ok(listener) => Ok(Self::To(serve(listener)?)),
            Err(StartError::Listen { source, .. })
                if source.kind() == io::ErrorKind::AddrInUse
                    && asked.port() == now.port()
                    && all =>
            {
                Ok(Self::Overlaps)
            }
            Err(error) => Err(error),
        }
    }

    /// Stops the old listener where a new one took over; false = that has to wait for a restart.
    fn finish(self, running: &mut Listening) -> bool {
        match self {
            Self::Stays => true,
            Self::To(next) => {
                std::mem::replace(running, next).stop.stop();
                true
            }
            Self::Overlaps => false,
        }
    }
}

fn serve_public(
    plane: &Arc<Plane>,
    cores: &Arc<[CoreHandle]>,
    places: &Places,
    listener: StdListener,
) -> io::Result<Listening> {
    let address = listener.local_addr()?;
    let stop = Stopper::default();
    accept::start(listener, Arc::clone(cores), places.clone(), &stop, &plane.counters)?;
    Ok(Listening { address, stop })
}

fn serve_ops(plane: &Arc<Plane>, listener: StdListener) -> io::Result<Listening> {
    let address = listener.local_addr()?;
    let stop = Stopper::default();
    ops::start(listener, Arc::clone(plane), &stop)?;
    Ok(Listening { address, stop })
}
