//! The models on a server, with what only the server knows of them. Asked for, bounded, and kept for half a minute.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use adapters::details::{self, Installed, Shown};
use adapters::models::{ListError, Loaded, ollama_loaded, ollama_tags, openai_list};
use router::load::same_model;
use router::spec::{DiscoveredModel, Kind, Secret};
use serde::Serialize;
use utoipa::ToSchema;

use crate::outbound::{Ask, Located, Outbound, OutboundError};

/// How long a list is believed.
pub const KEPT: Duration = Duration::from_secs(30);
/// Most backends whose lists are kept.
pub const KEPT_MAX: usize = 1024;
/// Most models of one Ollama that are asked for one by one; of the others it is not known what they can do.
pub const SHOWN_MAX: usize = 64;
/// Most such questions at once.
const SHOWN_AT_ONCE: usize = 8;

/// One model on a backend. What the server does not say is left out.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct BackendModel {
    /// The server's name for it.
    #[schema(example = "llama3.2:latest")]
    pub id: String,
    /// Largest context, tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u64>,
    /// Format of the weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Q4_K_M")]
    pub quantisation: Option<String>,
    /// How many parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "3.2B")]
    pub parameters: Option<String>,
    /// The architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "llama")]
    pub family: Option<String>,
    /// Bytes on disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// In memory, ready to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loaded: Option<bool>,
    /// Bytes in the GPU's memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vram: Option<u64>,
    /// What it can do, in the server's words.
    pub capabilities: Vec<String>,
    /// The base model of a LoRA adapter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Digest of the weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// It runs elsewhere than on this server.
    pub remote: bool,
}

impl From<DiscoveredModel> for BackendModel {
    fn from(model: DiscoveredModel) -> Self {
        Self {
            id: model.name.to_string(),
            context_length: model.context_length,
            quantisation: None,
            parameters: None,
            family: None,
            size: None,
            loaded: None,
            vram: None,
            capabilities: Vec::new(),
            parent: model.parent,
            digest: model.digest,
            remote: model.remote,
        }
    }
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum NoList {
    /// No answer.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// Not a success.
    #[error("status {0}")]
    Status(u16),
    /// An answer of another shape.
    #[error("the answer is not a list of models")]
    Shape(#[from] ListError),
}

/// Asks a server for its models.
///
/// # Errors
/// [`NoList`].
pub async fn models(
    client: &Outbound,
    at: &Located,
    kind: Kind,
    key: Option<&Secret>,
) -> Result<Vec<BackendModel>, NoList> {
    match kind {
        Kind::Ollama => ollama(client, at, key).await,
        Kind::Tei => Ok(vec![tei(client, at, key).await?]),
        Kind::Rerank => match tei(client, at, key).await {
            Ok(model) => Ok(vec![model]),
            Err(_) => listed(client, at, key).await,
        },
        Kind::Vllm | Kind::OpenAi => listed(client, at, key).await,
    }
}

async fn body(client: &Outbound, at: &Located, ask: Ask<'_>) -> Result<bytes::Bytes, NoList> {
    let reply = client.ask(at, ask).await?;
    if (200..300).contains(&reply.status) {
        Ok(reply.body)
    } else {
        Err(NoList::Status(reply.status))
    }
}

async fn listed(
    client: &Outbound,
    at: &Located,
    key: Option<&Secret>,
) -> Result<Vec<BackendModel>, NoList> {
    let page = body(client, at, Ask::get("/v1/models", key)).await?;
    Ok(openai_list(&page)?.models.into_iter().map(BackendModel::from).collect())
}

async fn tei(
    client: &Outbound,
    at: &Located,
    key: Option<&Secret>,
) -> Result<BackendModel, NoList> {
    let info = details::tei_info(&body(client, at, Ask::get("/info", key)).await?)?;
    let does = if info.ranks { "rerank" } else { "embedding" };
    Ok(BackendModel {
        loaded: Some(true),
        capabilities: vec![does.to_owned()],
        ..BackendModel::from(DiscoveredModel::from(info))
    })
}

async fn ollama(
    client: &Outbound,
    at: &Located,
    key: Option<&Secret>,
) -> Result<Vec<BackendModel>, NoList> {
    let (tags, loaded) = tokio::join!(
        body(client, at, Ask::get("/api/tags", key)),
        body(client, at, Ask::get("/api/ps", key)),
    );
    let tags = tags?;
    let loaded = loaded.ok().and_then(|page| ollama_loaded(&page).ok());
    let found = ollama_tags(&tags)?.models;
    let shown = show(client, at, key, &found).await;
    Ok(joined(found, &details::installed(&tags)?, loaded.as_deref(), &shown))
}

/// Asks for each model, a few at once; who does not answer is left out.
async fn show(
    client: &Outbound,
    at: &Located,
    key: Option<&Secret>,
    found: &[DiscoveredModel],
) -> HashMap<String, Shown> {
    let mut shown = HashMap::new();
    for some in found[..found.len().min(SHOWN_MAX)].chunks(SHOWN_AT_ONCE) {
        let mut asked = tokio::task::JoinSet::new();
        for model in some {
            let (client, at, key) = (client.clone(), at.clone(), key.cloned());
            let name = model.name.to_string();
            asked.spawn(async move {
                let question = serde_json::json!({ "model": name }).to_string();
                let ask = Ask { path: "/api/show", api_key: key.as_ref(), body: Some(&question) };
                let page = body(&client, &at, ask).await.ok()?;
                Some((name, details::shown(&page).ok()?))
            });
        }
        let mut answered = 0;
        while let Some(done) = asked.join_next().await {
            if let Ok(Some((name, one))) = done {
                shown.insert(name, one);
                answered += 1;
            }
        }
        if answered == 0 {
            break;
        }
    }
    shown
}

/// What each page says of each model, put together. Names that share weights share what is loaded.
fn joined(
    found: Vec<DiscoveredModel>,
    installed: &[Installed],
    loaded: Option<&[Loaded]>,
    shown: &HashMap<String, Shown>,
) -> Vec<BackendModel> {
    let installed: HashMap<&str, &Installed> =
        installed.iter().map(|one| (one.name.as_str(), one)).collect();
    let join = |model: DiscoveredModel| {
        let running = loaded.map(|loaded| loaded.iter().find(|one| is(one, &model)));
        let shown = shown.get(model.name.as_str());
        let detail = installed.get(model.name.as_str());
        BackendModel {
            context_length: running
                .flatten()
                .and_then(|one| one.context_length)
                .or_else(|| shown?.context_length),
            quantisation: detail.and_then(|one| one.quantisation.clone()),
            parameters: detail.and_then(|one| one.parameters.clone()),
            family: detail.and_then(|one| one.family.clone()),
            size: detail.and_then(|one| one.size),
            loaded: running.map(|one| one.is_some()),
            vram: running.flatten().map(|one| one.size_vram),
            capabilities: shown.map(|one| one.abilities.clone()).unwrap_or_default(),
            ..BackendModel::from(model)
        }
    };
    found.into_iter().map(join).collect()
}

fn is(loaded: &Loaded, model: &DiscoveredModel) -> bool {
    match (loaded.digest.as_deref(), model.digest.as_deref()) {
        (Some(one), Some(other)) => one == other,
        _ => same_model(loaded.name.as_str(), model.name.as_str()),
    }
}

/// Lists that were asked for of late, by backend and URL.
#[derive(Debug, Default)]
pub struct Inventory(Mutex<HashMap<(String, String), Kept>>);

type Kept = (Instant, Arc<[BackendModel]>);

impl Inventory {
    /// A list that is younger than [`KEPT`].
    #[must_use]
    pub fn get(&self, backend: &str, url: &str, now: Instant) -> Option<Arc<[BackendModel]>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, models) = kept.get(&(backend.to_owned(), url.to_owned()))?;
        (now.saturating_duration_since(*at) < KEPT).then(|| Arc::clone(models))
    }

    /// Keeps a list, and lets go of old ones; a full house takes nothing new.
    pub fn put(&self, backend: &str, url: &str, models: Arc<[BackendModel]>, now: Instant) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (at, _)| now.saturating_duration_since(*at) < KEPT);
        if kept.len() < KEPT_MAX {
            kept.insert((backend.to_owned(), url.to_owned()), (now, models));
        }
    }
}
