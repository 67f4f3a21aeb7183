//! What a configuration says, typed. The routing part is a [`SnapshotSpec`]; the rest is for the process itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use router::spec::{
    CacheScope, CacheSpec, CacheWhen, KeyLimits, ModelCache, QueueSpec, RedisSpec,
};
use router::spec::{Secret, SnapshotSpec};
use router::{KeyName, ModelName, RegionName, TenantName};

use crate::restriction::Restriction;

/// One complete, checked configuration.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// The public listener and the process.
    pub server: ServerConfig,
    /// The admin API.
    pub admin: AdminConfig,
    /// The operations listener: metrics and health.
    pub ops: OpsConfig,
    /// Where stored objects live.
    pub store: StoreConfig,
    /// The shared cache and limits; `None` = everything is local.
    pub redis: Option<RedisSpec>,
    /// The response cache.
    pub cache: CacheSpec,
    /// Waiting for a free backend.
    pub queue: QueueSpec,
    /// Who may call.
    pub auth: AuthConfig,
    /// Keys that the file declares.
    pub keys: Vec<KeyConfig>,
    /// What single models say about the cache, the queue and limits; models that say nothing are not here.
    pub models: BTreeMap<ModelName, ModelConfig>,
    /// Free text about objects, by `backend.NAME` or `model.NAME`.
    pub metadata: BTreeMap<String, BTreeMap<String, String>>,
    /// The process log.
    pub log: LogConfig,
    /// Regions, backends, heads, models and everything that a request reads.
    pub snapshot: SnapshotSpec,
    /// What restricts access or residency, with the place that asks for it; see [`crate::restrictions`].
    pub restrictions: Vec<Restriction>,
}

/// `[server]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Certificate of the listener; `None` = clear text.
    pub tls: Option<TlsConfig>,
    /// Threads that serve; `None` = one per CPU.
    pub threads: Option<u16>,
    /// Where this gateway stands.
    pub region: Option<RegionName>,
    /// Most client connections at once; beyond it accepting pauses.
    pub connections_max: u32,
    /// Largest request head, bytes.
    pub head_max: u64,
    /// Most request headers.
    pub headers_max: u32,
    /// First byte, TLS handshake and complete request head each within this.
    pub header_timeout: Duration,
    /// An idle keep-alive connection of a client is closed after this.
    pub idle_timeout: Duration,
    /// Most concurrent streams of one HTTP/2 connection.
    pub h2_streams_max: u32,
    /// How a shutdown proceeds.
    pub drain: DrainConfig,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            tls: None,
            threads: None,
            region: None,
            connections_max: 10_000,
            head_max: 32 << 10,
            headers_max: 100,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            h2_streams_max: 100,
            drain: DrainConfig::default(),
        }
    }
}

/// `[server.tls]`: PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// `[server.drain]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainConfig {
    /// Not ready any more, but still accepting.
    pub grace: Duration,
    /// Running answers may finish within this.
    pub timeout: Duration,
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self { grace: Duration::from_secs(5), timeout: Duration::from_secs(120) }
    }
}

/// Where the admin API runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AdminMode {
    /// In the gateway's process.
    #[default]
    Embedded,
    /// In a process of its own on the same store.
    Sidecar,
    /// Nowhere.
    Off,
}

/// `[admin]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where it runs.
    pub mode: AdminMode,
    /// Where it listens.
    pub listen: SocketAddr,
    /// A token with the admin role; `None` = a first one is made and printed once.
    pub token: Option<Secret>,
    /// Names, beside `localhost` and addresses, under which it may be called; without ports.
    pub hosts: Vec<String>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            mode: AdminMode::Embedded,
            listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            token: None,
            hosts: Vec::new(),
        }
    }
}

/// `[ops]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpsConfig {
    /// Where `/metrics`, `/livez` and `/readyz` are.
    pub listen: SocketAddr,
}

impl Default for OpsConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8082)) }
    }
}

/// `[store]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// The SQLite file.
    pub path: PathBuf,
    /// Seals stored credentials: 32 bytes as hex or base64.
    pub master_key: Option<Secret>,
    /// The key before it, which opens what is not yet sealed under the new one.
    pub master_key_previous: Option<Secret>,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { path: PathBuf::from("data/forebay.db"), master_key: None, master_key_previous: None }
    }
}

/// Whether callers need a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuthMode {
    /// They need none.
    #[default]
    Open,
    /// They need one.
    Keys,
}

/// `[auth]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthConfig {
    /// Whether callers need a key.
    pub mode: AuthMode,
    /// The file says so itself; otherwise `open` holds only as long as no key was ever stored.
    pub said: bool,
    /// Answers out of the cache cost a key no tokens.
    pub refund_cache_hits: bool,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self { mode: AuthMode::default(), said: false, refund_cache_hits: true }
    }
}

/// How a key's secret is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySecret {
    /// The secret itself.
    Plain(Secret),
    /// SHA-256 of the secret.
    Sha256([u8; 32]),
}

/// One `[[key]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyConfig {
    /// Its name.
    pub name: KeyName,
    /// What the caller presents.
    pub secret: KeySecret,
    /// Whose it is; `None` = a tenant of the key's own name.
    pub tenant: Option<TenantName>,
    /// Names and patterns with `*` that it may use; empty = all.
    pub models: Vec<String>,
    /// Where its requests go when they do not say.
    pub region: Option<RegionName>,
    /// It may use only these; empty = those of the model.
    pub regions: Vec<RegionName>,
    /// Higher goes first in a queue.
    pub priority: i32,
    /// Bounds on what it may ask for.
    pub limits: KeyLimits,
    /// Refused from this moment, Unix seconds.
    pub expires: Option<u64>,
    /// Refused now.
    pub disabled: bool,
}

/// What a model says beside its routing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ModelConfig {
    /// The response cache.
    pub cache: ModelCache,
    /// Longest wait for a free backend; `None` inherits.
    pub queue_timeout: Option<Duration>,
    /// Most waiting requests; `None` inherits.
    pub queue_size: Option<u32>,
    /// Most requests at once on all backends; `None` = no cap.
    pub max_in_flight: Option<u32>,
}

/// Least severe message that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// Failures.
    Error,
    /// What an operator should look at.
    Warn,
    /// One line per request.
    #[default]
    Info,
    /// Decisions.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Text.
    Text,
    /// One JSON object per line.
    Json,
}

/// `[log]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogConfig {
    /// Least severe message.
    pub level: LogLevel,
    /// Shape of a line.
    pub format: LogFormat,
}
