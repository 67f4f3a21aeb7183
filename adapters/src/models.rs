//! Model lists: what upstreams answer, and what we answer.

use bytes::Bytes;
use router::ModelName;
use router::spec::DiscoveredModel;
use serde::Serialize;
use serde_json::Value;

/// Most models taken from one backend.
pub const MODELS_MAX: usize = 10_000;
/// Longest list that is read, in bytes.
pub const LIST_MAX_BYTES: usize = 8 << 20;
/// Longest owner, parent, digest or version kept, in bytes; longer ones are left out.
const TEXT_MAX_BYTES: usize = 256;

/// Why a list cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The body is longer than [`LIST_MAX_BYTES`].
    #[error("the answer has {0} bytes, more than is read of a model list")]
    TooLong(usize),
    /// Not JSON.
    #[error("the answer is not JSON: {0}")]
    NotJson(String),
    /// JSON of another shape.
    #[error("the answer has no {0:?}")]
    Shape(&'static str),
}

/// The models that a backend named.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// Usable ones, in the backend's order, each name once.
    pub models: Vec<DiscoveredModel>,
    /// Entries left out: no name, a name that is too long or has control characters, a doubled one, or one beyond
    /// [`MODELS_MAX`].
    pub skipped: usize,
}

impl Listing {
    fn collect<'v>(
        entries: &'v [Value],
        read: impl Fn(&'v Value) -> Option<DiscoveredModel>,
    ) -> Self {
        let mut listing = Self::default();
        let mut seen = std::collections::HashSet::new();
        for entry in entries {
            match read(entry) {
                Some(model)
                    if listing.models.len() < MODELS_MAX && seen.insert(model.name.clone()) =>
                {
                    listing.models.push(model);
                }
                _ => listing.skipped += 1,
            }
        }
        listing
    }
}

pub(crate) fn parse(body: &[u8]) -> Result<Value, ListError> {
    if body.len() > LIST_MAX_BYTES {
        return Err(ListError::TooLong(body.len()));
    }
    serde_json::from_slice(body).map_err(|error| ListError::NotJson(error.to_string()))
}

/// The array under a key; null is an empty one (Ollama without models, on `/v1/models`).
pub(crate) fn entries<'v>(value: &'v Value, key: &'static str) -> Result<&'v [Value], ListError> {
    match value.get(key) {
        Some(Value::Array(entries)) => Ok(entries),
        Some(Value::Null) => Ok(&[]),
        _ => Err(ListError::Shape(key)),
    }
}

pub(crate) fn text(entry: &Value, key: &str) -> Option<String> {
    let text = entry.get(key)?.as_str()?;
    let usable = !text.is_empty() && text.len() <= TEXT_MAX_BYTES;
    (usable && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

pub(crate) fn name(entry: &Value, keys: &[&str]) -> Option<ModelName> {
    let text = keys.iter().find_map(|key| entry.get(*key)?.as_str())?;
    ModelName::try_from(text).ok()
}

/// Reads an answer of `GET /v1/models`: OpenAI's list, vLLM's (`max_model_len`, `parent`), llama-server's (which also
/// has `models`, and the context under `meta`).
///
/// # Errors
/// The body is too long, not JSON, or has no `data`.
pub fn openai_list(body: &[u8]) -> Result<Listing, ListError> {
    let value = parse(body)?;
    let entries = match entries(&value, "data") {
        Err(_) if value.get("models").is_some_and(Value::is_array) => entries(&value, "models")?,
        entries => entries?,
    };
    Ok(Listing::collect(entries, |entry| {
        Some(DiscoveredModel {
            name: name(entry, &["id", "model", "name"])?,
            created: entry.get("created").and_then(Value::as_u64),
            owned_by: text(entry, "owned_by"),
            context_length: context_length(entry),
            parent: text(entry, "parent"),
            digest: None,
            remote: false,
        })
    }))
}

fn context_length(entry: &Value) -> Option<u64> {
    let meta = entry.get("meta");
    entry
        .get("max_model_len")
        .and_then(Value::as_u64)
        .or_else(|| meta?.get("n_ctx")?.as_u64())
        .or_else(|| meta?.get("n_ctx_train")?.as_u64())
}

/// Reads an answer of Ollama's `GET /api/tags`.
///
/// # Errors
/// The body is too long, not JSON, or has no `models`.
pub fn ollama_tags(body: &[u8]) -> Result<Listing, ListError> {
    let value = parse(body)?;
    Ok(Listing::collect(entries(&value, "models")?, |entry| {
        let name = name(entry, &["name", "model"])?;
        let remote = text(entry, "remote_host").is_some()
            || text(entry, "remote_model").is_some()
            || is_cloud(name.as_str());
        Some(DiscoveredModel {
            remote,
            name,
            created: None,
            owned_by: Some("library".to_owned()),
            context_length: None,
            parent: None,
            digest: text(entry, "digest"),
        })
    }))
}

/// A name that Ollama sends on to its cloud: tag `cloud` or `...-cloud` (`server/cloud_proxy.go`).
#[must_use]
pub fn is_cloud(name: &str) -> bool {
    name.rsplit_once(':').is_some_and(|(_, tag)| {
        tag.eq_ignore_ascii_case("cloud") || tag.to_ascii_lowercase().ends_with("-cloud")
    })
}

/// A model that an Ollama holds in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The name that loaded it; other names of the same weights are not listed.
    pub name: ModelName,
    /// Digest of the weights: what to match by.
    pub digest: Option<String>,
    /// Bytes in all.
    pub size: u64,
    /// Bytes on the GPU; less than `size` = partly on the CPU.
    pub size_vram: u64,
    /// The context it was loaded with, in tokens.
    pub context_length: Option<u64>,
}

/// Reads an answer of Ollama's `GET /api/ps`.
///
/// # Errors
/// The body is too long, not JSON, or has no `models`.
pub fn ollama_loaded(body: &[u8]) -> Result<Vec<Loaded>, ListError> {
    let value = parse(body)?;
    let number = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_u64);
    Ok(entries(&value, "models")?
        .iter()
        .take(MODELS_MAX)
        .filter_map(|entry| {
            Some(Loaded {
                name: name(entry, &["name", "model"])?,
                digest: text(entry, "digest"),
                size: number(entry, "size").unwrap_or(0),
                size_vram: number(entry, "size_vram").unwrap_or(0),
                context_length: number(entry, "context_length"),
            })
        })
        .collect())
}

/// Reads the `version` of Ollama's `GET /api/version` or vLLM's `GET /version`.
///
/// # Errors
/// The body is too long, not JSON, or has no usable `version`.
pub fn version(body: &[u8]) -> Result<String, ListError> {
    text(&parse(body)?, "version").ok_or(ListError::Shape("version"))
}

/// Owner of a model whose backend names none.
pub const OWNER_UNKNOWN: &str = "forebay";

/// A model as our own `/v1/models` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedModel<'a> {
    /// The public name.
    pub id: &'a str,
    /// Unix seconds.
    pub created: u64,
    /// Who owns it; `None` = nobody said, shown as [`OWNER_UNKNOWN`] since clients expect a string.
    pub owned_by: Option<&'a str>,
    /// The base model of an adapter.
    pub parent: Option<&'a str>,
    /// Largest context in tokens.
    pub max_model_len: Option<u64>,
}

#[derive(Serialize)]
struct Card<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_model_len: Option<u64>,
}

impl<'a> From<&ListedModel<'a>> for Card<'a> {
    fn from(model: &ListedModel<'a>) -> Self {
        Self {
            id: model.id,
            object: "model",
            created: model.created,
            owned_by: model.owned_by.unwrap_or(OWNER_UNKNOWN),
            parent: model.parent,
            max_model_len: model.max_model_len,
        }
    }
}

/// The body of our `GET /v1/models`.
#[must_use]
pub fn list<'a>(models: impl IntoIterator<Item = ListedModel<'a>>) -> Bytes {
    #[derive(Serialize)]
    struct List<'a> {
        object: &'static str,
        data: Vec<Card<'a>>,
    }
    let data = models.into_iter().map(|model| Card::from(&model)).collect();
    serde_json::to_vec(&List { object: "list", data }).unwrap_or_default().into()
}

/// The body of our `GET /v1/models/{id}`.
#[must_use]
pub fn one(model: &ListedModel<'_>) -> Bytes {
    serde_json::to_vec(&Card::from(model)).unwrap_or_default().into()
}

#[cfg(test)]
mod tests;
