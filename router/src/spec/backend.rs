//! Inference servers.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Secret, TimeoutOverrides};
use crate::ids::{BackendName, ModelName, RegionName};

/// What speaks behind a base URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
