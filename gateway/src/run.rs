//! Starting and stopping a data plane: listeners, cores, ops thread, prober.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread;
use std::{io, num::NonZero};

use router::snapshot::{BuildError, SnapshotHandle};
use router::spec::SnapshotSpec;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::plane::{Link, Plane};
use crate::settings::Settings;
use crate::shutdown::{Phase, Shutdown};
use crate::telemetry::Counters;
use crate::tls::{self, Certificate, TlsError};
use crate::{accept, core, ops, prober};

/// Why a data plane could not start.
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
}

/// A running data plane. Its threads run until [`Phase::Draining`] and the end of the last connection.
pub struct DataPlane {
    plane: Arc<Plane>,
    public: SocketAddr,
    ops: SocketAddr,
    stop_accepting: watch::Sender<bool>,
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
        let cores = settings.threads.map_or_else(available_cores, |threads| {
            NonZero::new(usize::from(threads)).map_or(1, NonZero::get)
        });
        let counters = Arc::new(Counters::new().map_err(|e| StartError::Metrics(e.to_string()))?);
        let acceptor = match &settings.public.tls {
            None => None,
            Some(files) => Some(TlsAcceptor::from(tls::server(Certificate::load(files)?)?)),
        };
        let public = listen(settings.public.listen)?;
        let ops = listen(ops)?;
        let world = {
            let counters = Arc::clone(&counters);
            SnapshotHandle::new(
                spec,
                Box::new(move |spec| Arc::new(Link::new(spec, cores, &counters))),
                std::time::Instant::now(),
            )
            .map_err(StartError::Build)?
        };
        let shutdown = Shutdown::new(cores);
        let plane = Arc::new(Plane::new(
            Arc::new(world),
            settings.public.clone(),
            acceptor,
            shutdown,
            counters,
        ));
        let (public_addr, ops_addr) = (public.local_addr()?, ops.local_addr()?);
        ops::start(ops, Arc::clone(&plane))?;
        prober::start(Arc::clone(&plane))?;
        let (stop_accepting, stopped) = watch::channel(false);
        start_cores(&plane, public, cores, stopped)?;
        Ok(Self { plane, public: public_addr, ops: ops_addr, stop_accepting })
    }

    /// Where clients connect, with the real port.
    #[must_use]
    pub const fn public_addr(&self) -> SocketAddr {
        self.public
    }

    /// Where the ops listener is, with the real port.
    #[must_use]
    pub const fn ops_addr(&self) -> SocketAddr {
        self.ops
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
            self.stop_accepting.send_replace(true);
        }
    }
}

fn available_cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

fn listen(address: SocketAddr) -> Result<StdListener, StartError> {
    let listener = StdListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.map_err(|source| StartError::Listen { address, source })
}

fn start_cores(
    plane: &Arc<Plane>,
    public: StdListener,
    cores: usize,
    stopped: watch::Receiver<bool>,
) -> Result<(), StartError> {
    let mut handles = Vec::with_capacity(cores);
    for index in 0..cores {
        handles.push(core::start(index, plane)?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let places = usize::try_from(plane.listen_settings().connections_max).unwrap_or(usize::MAX);
    let places = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
    let counters = Arc::clone(&plane.counters);
    thread::Builder::new().name("accept".to_owned()).spawn(move || {
        runtime.block_on(async move {
            match TcpListener::from_std(public) {
                Ok(listener) => {
                    accept::run(listener, handles.into(), places, stopped, counters).await;
                }
                Err(error) => tracing::error!(%error, "the public listener failed"),
            }
        });
    })?;
    Ok(())
}
