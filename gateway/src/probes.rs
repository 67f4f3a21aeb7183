//! The questions that the prober asks a backend, and what the answers mean.

use std::sync::Arc;
use std::time::Duration;

use adapters::metrics_text;
use adapters::models::{ListError, ollama_loaded, ollama_tags, openai_list};
use adapters::probe::{self, Finding, Probe};
use router::health::ProbeResult;
use router::load::{LoadSignals, LoadedModel};
use router::snapshot::Member;
use router::spec::{DiscoveredModel, Kind, ProbeMode};

use crate::control::{self, ControlError, Reply};
use crate::plane::Link;
use crate::prober::LOAD_INTERVAL;

/// How long load signals may be believed.
const LOAD_VALID: Duration = Duration::from_secs(3 * LOAD_INTERVAL.as_secs());

/// Why there is no model list.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoList {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("status {0}")]
    Status(u16),
    #[error(transparent)]
    List(#[from] ListError),
}

/// What a look at the load came to.
pub(crate) enum Load {
    Said {
        signals: LoadSignals,
        asleep: bool,
    },
    /// The backend does not offer such figures.
    NotOffered,
    /// It did not answer this time.
    Silent,
}

async fn ask(
    member: &Member<Arc<Link>>,
    question: Probe,
    timeout: Duration,
) -> Result<Reply, ControlError> {
    let key = member.spec.api_key.as_ref();
    control::ask(&member.live.attachment, question.path(), key, None, timeout).await
}

/// One health check: every question of the backend's kind, and a token where that was asked for.
pub(crate) async fn health(member: &Member<Arc<Link>>, timeout: Duration) -> ProbeResult {
    for question in probe::health(member.spec.kind) {
        let finding = match ask(member, *question, timeout).await {
            Ok(reply) => probe::judge(*question, reply.status.as_u16(), &reply.body),
            Err(ControlError::Timeout(_)) => return ProbeResult::TimedOut,
            Err(error) => {
                tracing::debug!(backend = %member.spec.name, %error, "probe failed");
                return ProbeResult::Failed;
            }
        };
        match finding {
            Finding::Alive | Finding::Unsupported => {}
            Finding::Unauthorized => return ProbeResult::Unauthorized,
            Finding::Loading | Finding::Sick => return ProbeResult::Failed,
        }
    }
    match member.spec.probe {
        ProbeMode::Token => token(member, timeout).await,
        ProbeMode::Auto | ProbeMode::Off => ProbeResult::Passed,
    }
}

/// Has one token generated, by the first model that the backend lists.
async fn token(member: &Member<Arc<Link>>, timeout: Duration) -> ProbeResult {
    let Ok(models) = models(member, timeout).await else { return ProbeResult::Failed };
    let Some(model) = models.first() else { return ProbeResult::Passed };
    let body = serde_json::json!({
        "model": model.name.as_str(),
        "messages": [{"role": "user", "content": "."}],
        "max_tokens": 1,
    });
    let key = member.spec.api_key.as_ref();
    let path = router::Operation::ChatCompletions.path();
    let link = &member.live.attachment;
    match control::ask(link, path, key, Some(body.to_string()), timeout).await {
        Ok(reply) if reply.status.is_success() => ProbeResult::Passed,
        Ok(_) => ProbeResult::Failed,
        Err(ControlError::Timeout(_)) => ProbeResult::TimedOut,
        Err(_) => ProbeResult::Failed,
    }
}

/// The models that a backend lists; none where its kind has no list.
pub(crate) async fn models(
    member: &Member<Arc<Link>>,
    timeout: Duration,
) -> Result<Vec<DiscoveredModel>, NoList> {
    let Some(question) = probe::discovery(member.spec.kind) else { return Ok(Vec::new()) };
    let reply = ask(member, question, timeout).await?;
    if !reply.status.is_success() {
        return Err(NoList::Status(reply.status.as_u16()));
    }
    let listing = match question {
        Probe::Tags => ollama_tags(&reply.body)?,
        _ => openai_list(&reply.body)?,
    };
    Ok(listing.models)
}

/// What a backend says of its load.
pub(crate) async fn load(member: &Member<Arc<Link>>, timeout: Duration) -> Load {
    let question = match member.spec.kind {
        Kind::Ollama => Probe::Loaded,
        Kind::Vllm | Kind::OpenAi => Probe::Metrics,
        Kind::Tei | Kind::Rerank => return Load::NotOffered,
    };
    let reply = match ask(member, question, timeout).await {
        Ok(reply) if reply.status.is_success() => reply,
        Ok(_) => return Load::NotOffered,
        Err(_) => return Load::Silent,
    };
    match question {
        Probe::Loaded => match ollama_loaded(&reply.body) {
            Ok(loaded) => {
                let loaded = loaded.into_iter().map(|model| LoadedModel {
                    name: model.name.to_string(),
                    digest: model.digest,
                });
                said(LoadSignals { loaded: Some(loaded.collect()), ..NOTHING }, false)
            }
            Err(_) => Load::NotOffered,
        },
        _ => metrics(&reply.body),
    }
}

const NOTHING: LoadSignals = LoadSignals {
    waiting: None,
    running: None,
    kv_usage: None,
    loaded: None,
    valid_for: LOAD_VALID,
};

const fn said(signals: LoadSignals, asleep: bool) -> Load {
    Load::Said { signals, asleep }
}

fn metrics(page: &[u8]) -> Load {
    let found = metrics_text::parse(page);
    if found == metrics_text::LoadSignals::default() {
        return Load::NotOffered;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts; a float to an integer saturates, and what is not finite was passed over"
    )]
    let signals = LoadSignals {
        waiting: found.waiting.map(|count| count as u32),
        running: found.running.map(|count| count as u32),
        kv_usage: found.kv_cache.map(|share| share as f32),
        ..NOTHING
    };
    said(signals, found.asleep.unwrap_or(false))
}
