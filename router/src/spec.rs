//! What the operator asked for: plain data, made by `config` or `admin`, turned into a snapshot by [`crate::snapshot`].
//!
//! Every field has a [`Default`] where one makes sense; the numbers are those of `config/default.toml`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::ids::{BackendName, HeadName, ModelName, RegionName};

/// A credential. Printing it shows nothing of it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a credential.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The credential itself; only the place that writes it to the wire calls this.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What speaks behind a base URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// vLLM's OpenAI server.
    Vllm,
    /// Ollama.
    Ollama,
    /// Hugging Face text-embeddings-inference.
    Tei,
    /// A reranking server.
    Rerank,
    /// Anything else that speaks the OpenAI API.
    OpenAi,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Vllm, Self::Ollama, Self::Tei, Self::Rerank, Self::OpenAi];

    /// The word in TOML, API and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::Ollama => "ollama",
            Self::Tei => "tei",
            Self::Rerank => "rerank",
            Self::OpenAi => "openai",
        }
    }
}

/// Deadlines that a backend or a model may set for itself; `None` inherits (model over backend over global).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeoutOverrides {
    /// See [`Timeouts::connect`].
    pub connect: Option<Duration>,
    /// See [`Timeouts::first_event`].
    pub first_event: Option<Duration>,
    /// See [`Timeouts::load`].
    pub load: Option<Duration>,
    /// See [`Timeouts::idle`].
    pub idle: Option<Duration>,
    /// See [`Timeouts::response`].
    pub response: Option<Duration>,
    /// See [`Timeouts::total`].
    pub total: Option<Duration>,
}

/// The deadlines of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP and TLS handshake.
    pub connect: Duration,
    /// From the request written to the first content event of a stream.
    pub first_event: Duration,
    /// Instead of `first_event` while an Ollama model has to be loaded.
    pub load: Duration,
    /// Between two events of a stream; comments do not count.
    pub idle: Duration,
    /// A plain answer, complete.
    pub response: Duration,
    /// The whole request with all its attempts; `None` = no such limit.
    pub total: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            first_event: Duration::from_secs(120),
            load: Duration::from_secs(600),
            idle: Duration::from_secs(60),
            response: Duration::from_secs(600),
            total: None,
        }
    }
}

impl Timeouts {
    /// These deadlines with another layer's own values put over them.
    #[must_use]
    pub fn with(self, over: &TimeoutOverrides) -> Self {
        Self {
            connect: over.connect.unwrap_or(self.connect),
            first_event: over.first_event.unwrap_or(self.first_event),
            load: over.load.unwrap_or(self.load),
            idle: over.idle.unwrap_or(self.idle),
            response: over.response.unwrap_or(self.response),
            total: over.total.or(self.total),
        }
    }
}

/// How a backend's health is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProbeMode {
    /// By kind, free of tokens.
    #[default]
    Auto,
    /// A one-token completion; costs a token each interval.
    Token,
    /// No active probes.
    Off,
}

/// One inference server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendSpec {
    /// Its name.
    pub name: BackendName,
    /// What it speaks.
    pub kind: Kind,
    /// `http://` or `https://`, host, port and optional path prefix; without a trailing slash and without a trailing `/v1`.
    pub url: String,
    /// Where it stands.
    pub region: RegionName,
    /// The credential sent as `Authorization: Bearer`.
    pub api_key: Option<Secret>,
    /// PEM text of extra trusted roots for `https://`; `None` = the system's roots only.
    pub ca_pem: Option<Arc<str>>,
    /// Relative share of traffic, 1 to 1000.
    pub weight: u32,
    /// Most requests at once, whole streams counted; `None` = no cap.
    pub max_in_flight: Option<u32>,
    /// Its own deadlines.
    pub timeouts: TimeoutOverrides,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// Counts as local inference.
    pub local: bool,
    /// Takes part at all.
    pub enabled: bool,
    /// Gets no new work; running streams finish.
    pub draining: bool,
    /// How its health is asked for.
    pub probe: ProbeMode,
    /// Ollama only: names that leave the machine (`:cloud`, remote models) may be used.
    pub allow_cloud: bool,
    /// Declared models; `None` = discover them.
    pub models: Option<Vec<ModelName>>,
}

impl BackendSpec {
    /// A backend with every default.
    #[must_use]
    pub const fn new(name: BackendName, kind: Kind, url: String, region: RegionName) -> Self {
        Self {
            name,
            kind,
            url,
            region,
            api_key: None,
            ca_pem: None,
            weight: 1,
            max_in_flight: None,
            timeouts: TimeoutOverrides {
                connect: None,
                first_event: None,
                load: None,
                idle: None,
                response: None,
                total: None,
            },
            labels: BTreeMap::new(),
            local: false,
            enabled: true,
            draining: false,
            probe: ProbeMode::Auto,
            allow_cloud: false,
            models: None,
        }
    }
}

/// A region and its nearest neighbours, nearest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionSpec {
    /// Its code.
    pub name: RegionName,
    /// Other regions, nearest first.
    pub neighbours: Vec<RegionName>,
}

/// In which order a head's members are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeadOrder {
    /// By the model's policy.
    #[default]
    Balanced,
    /// Strictly as listed.
    Listed,
}

/// A named access point in one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadSpec {
    /// Its name.
    pub name: HeadName,
    /// Its region; all members stand there.
    pub region: RegionName,
    /// Its members.
    pub backends: Vec<BackendName>,
    /// How they are tried.
    pub order: HeadOrder,
}

/// How the next candidate of a tier is drawn.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Policy {
    /// Two random choices over peak-EWMA of time to first event x (in-flight + 1) / weight.
    #[default]
    LeastLoad,
    /// In turn, by weight.
    RoundRobin,
    /// Consistent hashing with bounded load over the start of the prompt.
    PrefixHash,
    /// The same value goes to the same backend.
    Session(SessionSource),
}

/// Where a session's identity is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionSource {
    /// A request header, lower case.
    Header(String),
    /// The body's `user` field.
    User,
}

/// Whether attempts may leave a model's allowed regions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Residency {
    /// They may.
    #[default]
    Prefer,
    /// They never do.
    Strict,
}

/// A backend's own name for a model, and what differs there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentSpec {
    /// Which backend.
    pub backend: BackendName,
    /// Its name for the model; `None` = the model's `upstream_model`, else the model's name.
    pub upstream_model: Option<ModelName>,
    /// Instead of the backend's weight.
    pub weight: Option<u32>,
    /// Instead of the backend's credential.
    pub api_key: Option<Secret>,
}

/// A public model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSpec {
    /// The name that clients send.
    pub name: ModelName,
    /// Further names.
    pub aliases: Vec<ModelName>,
    /// Home region.
    pub region: Option<RegionName>,
    /// Further allowed regions.
    pub regions: Vec<RegionName>,
    /// Whether they are a wish or a wall.
    pub residency: Residency,
    /// Tried first.
    pub priority_head: Option<HeadName>,
    /// Tried next, in order.
    pub heads: Vec<HeadName>,
    /// Other models to try when all heads fail.
    pub fallbacks: Vec<ModelName>,
    /// The backends' name for the model, where it is not its public one.
    pub upstream_model: Option<ModelName>,
    /// Declared deployments; where empty, the backends that are found to serve the model.
    pub deployments: Vec<DeploymentSpec>,
    /// How candidates are drawn; `None` = the global policy.
    pub policy: Option<Policy>,
    /// Its own deadlines.
    pub timeouts: TimeoutOverrides,
    /// A model with a larger context, tried when the prompt is refused as too long.
    pub context_fallback: Option<ModelName>,
    /// Largest context in tokens, where the operator knows it.
    pub context_length: Option<u64>,
    /// Only backends with `local = true`.
    pub local_inference: bool,
}

impl ModelSpec {
    /// A model with every default.
    #[must_use]
    pub const fn new(name: ModelName) -> Self {
        Self {
            name,
            aliases: Vec::new(),
            region: None,
            regions: Vec::new(),
            residency: Residency::Prefer,
            priority_head: None,
            heads: Vec::new(),
            fallbacks: Vec::new(),
            upstream_model: None,
            deployments: Vec::new(),
            policy: None,
            timeouts: TimeoutOverrides {
                connect: None,
                first_event: None,
                load: None,
                idle: None,
                response: None,
                total: None,
            },
            context_fallback: None,
            context_length: None,
            local_inference: false,
        }
    }
}

/// Bounds on retries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetrySpec {
    /// Attempts on a model's own tiers.
    pub max_attempts: u32,
    /// Attempts with the whole fallback chain.
    pub max_attempts_chain: u32,
    /// Share of active requests that may be retrying.
    pub budget_ratio: f64,
    /// Retries per second on top of the share.
    pub budget_per_second: f64,
}

impl Default for RetrySpec {
    fn default() -> Self {
        Self { max_attempts: 3, max_attempts_chain: 8, budget_ratio: 0.2, budget_per_second: 10.0 }
    }
}

/// When a breaker opens and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerSpec {
    /// Failures in a row that open it.
    pub consecutive_failures: u32,
    /// Lowest share of successes in the window.
    pub success_rate: f64,
    /// Fewest requests in the window for the share to count.
    pub min_requests: u32,
    /// Length of the window.
    pub window: Duration,
    /// First time open.
    pub open_min: Duration,
    /// Longest time open; it doubles from one to the next.
    pub open_max: Duration,
}

impl Default for BreakerSpec {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            success_rate: 0.5,
            min_requests: 20,
            window: Duration::from_secs(10),
            open_min: Duration::from_secs(30),
            open_max: Duration::from_secs(300),
        }
    }
}

/// How health is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthSpec {
    /// Between two probes of a backend, jittered.
    pub interval: Duration,
    /// One probe.
    pub timeout: Duration,
    /// Passed probes until online.
    pub up: u32,
    /// Failed probes until offline.
    pub down: u32,
    /// A new or recovered backend's ramp.
    pub slow_start: Duration,
    /// First wait between probes of an open backend.
    pub open_probe_min: Duration,
    /// Longest wait between probes of an open backend.
    pub open_probe_max: Duration,
}

impl Default for HealthSpec {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            up: 2,
            down: 3,
            slow_start: Duration::from_secs(10),
            open_probe_min: Duration::from_secs(1),
            open_probe_max: Duration::from_secs(30),
        }
    }
}

/// What is found on backends and how far it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiscoverySpec {
    /// Discovered models that no `[[model]]` uses are public.
    pub expose: bool,
    /// Between two looks at a backend's model list.
    pub interval: Duration,
}

impl Default for DiscoverySpec {
    fn default() -> Self {
        Self { expose: true, interval: Duration::from_secs(30) }
    }
}

/// What one request of the public API reads beside its route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Longest time that a response head is held for the first content event.
    pub head_hold: Duration,
    /// Between keep-alive comments, once the head is out.
    pub keep_alive: Duration,
    /// Largest request body, bytes.
    pub max_body: u64,
    /// All bodies held at once, bytes.
    pub buffered_bytes: u64,
    /// Deepest JSON nesting.
    pub json_depth: u32,
    /// Time within which a body has to start, and the span over which its rate is averaged.
    pub body_timeout: Duration,
    /// Lowest average rate of a body being read, bytes per second.
    pub body_rate_min: u64,
    /// A client's write without progress.
    pub write_timeout: Duration,
    /// Largest incomplete event that the relay holds back, bytes.
    pub event_hold: u64,
    /// Largest `retry-after` that is sent or obeyed.
    pub retry_after_max: Duration,
    /// Idle upstream connections live this long.
    pub upstream_idle: Duration,
    /// Say in headers where an answer came from.
    pub expose_headers: bool,
    /// Further request headers that go upstream, lower case.
    pub forward_headers: Vec<String>,
    /// Origins that browsers may call from; `*` = any; empty = none.
    pub cors_origins: Vec<String>,
    /// Copy `max_completion_tokens` to `max_tokens` for Ollama.
    pub map_max_completion_tokens: bool,
}

impl Default for ServiceSpec {
    fn default() -> Self {
        Self {
            head_hold: Duration::from_secs(30),
            keep_alive: Duration::from_secs(15),
            max_body: 64 << 20,
            buffered_bytes: 1 << 30,
            json_depth: 128,
            body_timeout: Duration::from_secs(30),
            body_rate_min: 1024,
            write_timeout: Duration::from_secs(60),
            event_hold: 64 << 10,
            retry_after_max: Duration::from_secs(60),
            upstream_idle: Duration::from_secs(4),
            expose_headers: true,
            forward_headers: Vec::new(),
            cors_origins: Vec::new(),
            map_max_completion_tokens: true,
        }
    }
}

/// Everything that was asked for, in one value.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SnapshotSpec {
    /// Where this gateway itself stands.
    pub server_region: Option<RegionName>,
    /// The region of what names none.
    pub default_region: Option<RegionName>,
    /// Regions; all that are named anywhere are here.
    pub regions: Vec<RegionSpec>,
    /// Backends.
    pub backends: Vec<BackendSpec>,
    /// Heads.
    pub heads: Vec<HeadSpec>,
    /// Models.
    pub models: Vec<ModelSpec>,
    /// The policy of models that name none.
    pub policy: Policy,
    /// Global deadlines.
    pub timeouts: Timeouts,
    /// Bounds on retries.
    pub retry: RetrySpec,
    /// Breakers.
    pub breaker: BreakerSpec,
    /// Health.
    pub health: HealthSpec,
    /// Discovery.
    pub discovery: DiscoverySpec,
    /// The public API.
    pub service: ServiceSpec,
}

/// A model that was found on a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveredModel {
    /// The backend's name for it.
    pub name: ModelName,
    /// Unix seconds, where the backend says.
    pub created: Option<u64>,
    /// Who owns it, where the backend says.
    pub owned_by: Option<String>,
    /// Largest context in tokens, where the backend says.
    pub context_length: Option<u64>,
    /// The base model of an adapter.
    pub parent: Option<String>,
    /// Digest of the weights (Ollama): names that share it share a runner.
    pub digest: Option<String>,
    /// It runs elsewhere than on this backend (Ollama's cloud and remote models).
    pub remote: bool,
}

/// What discovery knows: the models of each backend that has answered so far.
pub type Catalog = BTreeMap<BackendName, Arc<[DiscoveredModel]>>;
