//! What the cores of one data plane share, and what it attaches to each backend.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use arc_swap::{ArcSwap, ArcSwapOption};
use http::{HeaderValue, Uri};
use router::breaker::Transition;
use router::planes::{EventKind, EventRing, Look};
use router::snapshot::{Snapshot, SnapshotHandle};
use router::spec::BackendSpec;
use router::{BackendName, Operation};
use rustls::pki_types::ServerName;
use tokio::sync::Notify;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::cache::Cache;
use crate::dial::{DialError, Target};
use crate::limits::Limits;
use crate::poison::Served;
use crate::queue::Lines;
use crate::redis::Redis;
use crate::reloads::Reloads;
use crate::request_log::RequestLog;
use crate::settings::ListenSettings;
use crate::shutdown::Shutdown;
use crate::tally::{Count, Tallies};
use crate::telemetry::{BackendCounters, Counters};
use crate::upstream::Pool;

/// The snapshot type of the data plane.
pub type World = Snapshot<Arc<Link>>;
/// The handle through which it is published and read.
pub type WorldHandle = SnapshotHandle<Arc<Link>>;

/// Where a plane and its backends write down what happens.
#[derive(Clone)]
pub(crate) struct Counted {
    pub(crate) counters: Arc<Counters>,
    pub(crate) events: Arc<EventRing>,
    pub(crate) tallies: Arc<Tallies>,
}

impl Counted {
    pub(crate) fn new() -> Result<Self, metrics_exporter_prometheus::BuildError> {
        let counters = Arc::new(Counters::new()?);
        Ok(Self { counters, events: Arc::default(), tallies: Arc::default() })
    }
}

/// State shared by all cores.
pub struct Plane {
    /// The current snapshot.
    pub world: Arc<WorldHandle>,
    pub(crate) listen: ArcSwap<ListenSettings>,
    tls: RwLock<Option<TlsAcceptor>>,
    pub(crate) shutdown: Shutdown,
    /// Counters and histograms.
    pub counters: Arc<Counters>,
    /// One line per request.
    pub log: Arc<RequestLog>,
    /// What became of the configurations that were offered.
    pub reloads: Reloads,
    /// What happened of late.
    pub events: Arc<EventRing>,
    pub(crate) tallies: Arc<Tallies>,
    /// Bodies that were served of late.
    pub(crate) served: Served,
    /// Requests that wait for a place.
    pub(crate) lines: Lines,
    /// What each key has used.
    pub(crate) limits: Limits,
    /// What several gateways share, where there is a Redis; see [`Plane::redis`].
    pub(crate) redis: ArcSwapOption<Redis>,
    pub(crate) cache: Cache,
    buffered: Arc<AtomicU64>,
    connections: AtomicU64,
}

impl Plane {
    pub(crate) fn new(
        world: Arc<WorldHandle>,
        listen: ListenSettings,
        tls: Option<TlsAcceptor>,
        shutdown: Shutdown,
        counted: Counted,
        log: Arc<RequestLog>,
    ) -> Self {
        let Counted { counters, events, tallies } = counted;
        let cache = Cache::new(&world.load(), &counters.cache);
        Self {
            world,
            listen: ArcSwap::from_pointee(listen),
            tls: RwLock::new(tls),
            shutdown,
            reloads: Reloads::new(Arc::clone(&counters), Arc::clone(&events)),
            events,
            tallies,
            counters,
            log,
            served: Served::default(),
            lines: Lines::default(),
            limits: Limits::default(),
            redis: ArcSwapOption::empty(),
            cache,
            buffered: Arc::default(),
            connections: AtomicU64::new(0),
        }
    }

    pub(crate) fn listen_settings(&self) -> Arc<ListenSettings> {
        self.listen.load_full()
    }

    pub(crate) fn tls_acceptor(&self) -> Option<TlsAcceptor> {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Client connections that are open right now.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// Counts a connection until the guard is dropped.
    pub(crate) fn connection(self: &Arc<Self>) -> OpenConnection {
        self.connections.fetch_add(1, Relaxed);
        OpenConnection(Arc::clone(self))
    }

    pub(crate) fn set_tls(&self, acceptor: Option<TlsAcceptor>) {
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = acceptor;
    }

    /// An empty share of `server.buffered_bytes`.
    pub(crate) fn buffer(&self) -> Buffered {
        Buffered { total: Arc::clone(&self.buffered), held: 0 }
    }

    /// The Redis of the configuration in force; it may be down.
    pub(crate) fn redis(&self) -> Option<Redis> {
        self.redis.load().as_deref().cloned()
    }

    /// Bytes of request bodies held right now.
    #[must_use]
    pub fn buffered_bytes(&self) -> u64 {
        self.buffered.load(Relaxed)
    }
}

/// One open client connection.
pub(crate) struct OpenConnection(Arc<Plane>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

/// One request's share of all body bytes that may be held at once; given back when dropped.
#[derive(Debug)]
pub(crate) struct Buffered {
    total: Arc<AtomicU64>,
    held: u64,
}

impl Buffered {
    /// Takes `bytes` more, unless the process would then hold more than `max`.
    pub(crate) fn grow(&mut self, bytes: u64, max: u64) -> bool {
        if self.total.fetch_add(bytes, Relaxed).saturating_add(bytes) > max {
            self.total.fetch_sub(bytes, Relaxed);
            return false;
        }
        self.held += bytes;
        true
    }
}

#[cfg(test)]
impl Buffered {
    /// A share that nobody else draws on.
    pub(crate) fn alone() -> Self {
        Self { total: Arc::default(), held: 0 }
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        self.total.fetch_sub(self.held, Relaxed);
    }
}

/// What the data plane attaches to a backend: everything about its connections that can be prepared.
pub struct Link {
    target: Result<Target, String>,
    /// `Host` as the backend knows itself: Ollama refuses foreign ones.
    pub(crate) host: HeaderValue,
    uris: [Uri; 3],
    path_prefix: String,
    pools: Box<[Pool]>,
    pub(crate) counters: BackendCounters,
    /// Of this name, whatever its connections were before.
    pub(crate) tally: Arc<Count>,
    events: Arc<EventRing>,
    nudge: Notify,
    look: Notify,
    looked: Mutex<Option<Look>>,
}

/// The operations that go upstream, in the order of [`Link::uris`].
const FORWARDED: [Operation; 3] =
    [Operation::ChatCompletions, Operation::Completions, Operation::Embeddings];

impl Link {
    /// Prepares a backend's connections; nothing is opened yet. An unusable address is kept as the reason that every
    /// attempt then fails with.
    pub(crate) fn new(spec: &BackendSpec, cores: usize, counted: &Counted) -> Self {
        let parsed = parse(spec);
        let (target, host, path_prefix) = match parsed {
            Ok((target, host, prefix)) => (Ok(target), host, prefix),
            Err(reason) => (Err(reason), HeaderValue::from_static("invalid"), String::new()),
        };
        let uris = FORWARDED.map(|operation| {
            format!("{path_prefix}{}", operation.path()).parse().unwrap_or_default()
        });
        Self {
            target,
            host,
            uris,
            path_prefix,
            pools: (0..cores.max(1)).map(|_| Pool::default()).collect(),
            counters: counted.counters.backend(spec.name.as_str()),
            tally: counted.tallies.backends.of(&spec.name),
            events: Arc::clone(&counted.events),
            nudge: Notify::new(),
            look: Notify::new(),
            looked: Mutex::default(),
        }
    }

    pub(crate) fn target(&self) -> Result<&Target, DialError> {
        self.target.as_ref().map_err(|reason| DialError::Address(reason.clone()))
    }

    /// Takes note of a change of the breaker of the backend of this name.
    pub(crate) fn moved(&self, backend: &BackendName, change: Option<Transition>) {
        let Some(transition) = change else { return };
        self.counters.moved(backend.as_str(), transition);
        let kind = EventKind::Breaker { backend: backend.clone(), transition };
        self.events.push(kind, SystemTime::now());
    }

    /// Something has changed there that the prober should look at now.
    pub(crate) fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Resolves at a nudge, also at one that came before.
    pub(crate) async fn nudged(&self) {
        self.nudge.notified().await;
    }

    /// Health, models and load are to be looked at now, each.
    pub(crate) fn look_now(&self) {
        self.look.notify_one();
    }

    /// Resolves when that is asked for, also when it was before.
    pub(crate) async fn look_asked(&self) {
        self.look.notified().await;
    }

    /// Takes note of an active probe, and gives the one before.
    pub(crate) fn note_look(&self, look: Look) -> Option<Look> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).replace(look)
    }

    /// How the last active probe went.
    pub(crate) fn looked(&self) -> Option<Look> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A path on this backend, below its prefix.
    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.path_prefix)
    }

    pub(crate) fn pool(&self, core: usize) -> &Pool {
        &self.pools[core % self.pools.len()]
    }

    /// The request target for an operation, with the client's query string as it was.
    pub(crate) fn uri(&self, operation: Operation, query: Option<&str>) -> Option<Uri> {
        let index = FORWARDED.iter().position(|known| *known == operation)?;
        match query {
            None => Some(self.uris[index].clone()),
            Some(query) => format!("{}{}?{query}", self.path_prefix, operation.path()).parse().ok(),
        }
    }
}

fn parse(spec: &BackendSpec) -> Result<(Target, HeaderValue, String), String> {
    let uri: Uri = spec.url.parse().map_err(|error| format!("{}: {error}", spec.url))?;
    let https = uri.scheme_str() == Some("https");
    let authority = uri.authority().ok_or_else(|| format!("{} names no host", spec.url))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
    let tls = if https {
        let connector = TlsConnector::from(crate::tls::client(spec.ca_pem.as_deref())?);
        let name = ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
        Some((connector, name))
    } else {
        None
    };
    let header = HeaderValue::try_from(authority.as_str()).map_err(|error| error.to_string())?;
    let prefix = uri.path().trim_end_matches('/').to_owned();
    Ok((Target { host, port, tls }, header, prefix))
}
