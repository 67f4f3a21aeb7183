//! Which server the upstream plays, and its condition: what its health, model and metrics routes say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::script::Fixed;

/// The kind of server that is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// vLLM: sends the 200 head at once, a role-only first chunk, closes idle connections after 5 s.
    Vllm,
    /// Ollama: no byte before the first token, role in every chunk, no idle timeout.
    Ollama,
    /// llama-server: head with the first token, closes after each stream without saying so.
    LlamaServer,
    /// Text Embeddings Inference: embeddings and rerank, no model list.
    Tei,
    /// An OpenAI-compatible server without habits of its own.
    Plain,
}

/// A kind of server and the models that it serves at the start.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Whose wire behaviour is played.
    pub kind: Kind,
    /// The condition at the start.
    pub vitals: Vitals,
}

impl Profile {
    /// A server of this kind with these models.
    #[must_use]
    pub fn new(kind: Kind, models: &[&str]) -> Self {
        let idle_ms = match kind {
            Kind::Vllm | Kind::LlamaServer => Some(5000),
            Kind::Ollama | Kind::Tei | Kind::Plain => None,
        };
        let version = if kind == Kind::Ollama { "0.24.0" } else { "0.33.0" };
        let models = models.iter().map(|&m| m.to_owned()).collect();
        let vitals = Vitals { models, idle_ms, version: version.to_owned(), ..Vitals::default() };
        Self { kind, vitals }
    }

    /// A vLLM.
    #[must_use]
    pub fn vllm(models: &[&str]) -> Self {
        Self::new(Kind::Vllm, models)
    }

    /// An Ollama. Names without a tag are listed with `:latest`.
    #[must_use]
    pub fn ollama(models: &[&str]) -> Self {
        Self::new(Kind::Ollama, models)
    }

    /// A llama-server.
    #[must_use]
    pub fn llama_server(model: &str) -> Self {
        Self::new(Kind::LlamaServer, &[model])
    }

    /// A Text Embeddings Inference server.
    #[must_use]
    pub fn tei(model: &str) -> Self {
        Self::new(Kind::Tei, &[model])
    }

    /// A plain OpenAI-compatible server.
    #[must_use]
    pub fn plain(models: &[&str]) -> Self {
        Self::new(Kind::Plain, models)
    }
}

/// The condition of the server beside inference; can be changed at run time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vitals {
    /// Models it serves.
    pub models: Vec<String>,
    /// Status of the health route; 0 hangs there.
    pub health: u16,
    /// Status of the routes that list models; 0 hangs there.
    pub listing: u16,
    /// Running requests in the metrics; unset: the true number.
    pub running: Option<u64>,
    /// Waiting requests in the metrics; unset: the true number.
    pub waiting: Option<u64>,
    /// Use of the KV cache in the metrics, 0 to 1.
    pub kv_cache: f64,
    /// Sleep state in the metrics (vLLM: `awake`, `weights_offloaded`, `discard_all`).
    pub sleep_state: String,
    /// How many models can be loaded at once (Ollama); 0: all.
    pub max_loaded: usize,
    /// Longest context of the models, tokens. A longer prompt (counted in words) is refused by the
    /// kinds that refuse.
    pub max_model_len: u64,
    /// Version it reports.
    pub version: String,
    /// Key that `/v1` asks for.
    pub api_key: Option<String>,
    /// Silence after which an idle connection is closed, ms; unset: never.
    pub idle_ms: Option<u64>,
    /// Whether unknown model names are refused; llama-server never does.
    pub check_models: bool,
    /// Fixed answers by path (query excluded), before everything else.
    pub answers: BTreeMap<String, Fixed>,
}

impl Default for Vitals {
    fn default() -> Self {
        Self {
            models: Vec::new(),
            health: 200,
            listing: 200,
            running: None,
            waiting: None,
            kv_cache: 0.0,
            sleep_state: "awake".to_owned(),
            max_loaded: 0,
            max_model_len: 1 << 20,
            version: String::new(),
            api_key: None,
            idle_ms: None,
            check_models: true,
            answers: BTreeMap::new(),
        }
    }
}

impl Vitals {
    /// Whether a request may name this model.
    pub(crate) fn serves(&self, kind: Kind, model: &str) -> bool {
        if !self.check_models || matches!(kind, Kind::LlamaServer | Kind::Tei) {
            return true;
        }
        if kind == Kind::Ollama {
            return self.models.iter().any(|m| tagged(m).eq_ignore_ascii_case(&tagged(model)));
        }
        self.models.iter().any(|m| m == model)
    }
}

/// The full name of an Ollama model: `x` is `x:latest`.
pub(crate) fn tagged(model: &str) -> String {
    let last = model.rsplit('/').next().unwrap_or(model);
    if last.contains(':') { model.to_owned() } else { format!("{model}:latest") }
}
