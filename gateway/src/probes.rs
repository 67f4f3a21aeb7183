//! The questions that the prober asks a backend, and what the answers mean.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use adapters::details::tei_info;
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

/// What a health check came to, and what was wrong.
pub(crate) struct Checked {
    pub(crate) result: ProbeResult,
    pub(crate) error: Option<String>,
}

impl Checked {
    const PASSED: Self = Self { result: ProbeResult::Passed, error: None };

    fn failed(result: ProbeResult, path: &str, what: impl Display) -> Self {
        Self { result, error: Some(format!("{path}: {what}")) }
    }

    fn unanswered(path: &str, error: &ControlError) -> Self {
        let result = match error {
            ControlError::Timeout(_) => ProbeResult::TimedOut,
            _ => ProbeResult::Failed,
        };
        Self::failed(result, path, error)
    }
}

/// One health check: every question of the backend's kind, and a token where that was asked for.
pub(crate) async fn health(member: &Member<Arc<Link>>, timeout: Duration) -> Checked {
    for question in probe::health(member.spec.kind) {
        let path = question.path();
        let reply = match ask(member, *question, timeout).await {
            Ok(reply) => reply,
            Err(error) => return Checked::unanswered(path, &error),
        };
        let status = reply.status.as_u16();
        let (result, what) = match probe::judge(*question, status, &reply.body) {
            Finding::Alive | Finding::Unsupported => continue,
            Finding::Unauthorized => (ProbeResult::Unauthorized, "our credentials are refused"),
            Finding::Loading => (ProbeResult::Failed, "it loads its model"),
            Finding::Sick => (ProbeResult::Failed, "it says that it is not well"),
        };
        return Checked::failed(result, path, format_args!("status {status}, {what}"));
    }
    match member.spec.probe {
        ProbeMode::Token => token(member, timeout).await,
        ProbeMode::Auto | ProbeMode::Off => Checked::PASSED,
    }
}

/// Has one token generated, by the first model that the backend lists.
async fn token(member: &Member<Arc<Link>>, timeout: Duration) -> Checked {
    let models = match models(member, timeout).await {
        Ok(models) => models,
        Err(error) => return Checked::failed(ProbeResult::Failed, "its models", error),
    };
    let Some(model) = models.first() else { return Checked::PASSED };
    let body = serde_json::json!({
        "model": model.name.as_str(),
        "messages": [{"role": "user", "content": "."}],
        "max_tokens": 1,
    });
    let key = member.spec.api_key.as_ref();
    let path = router::Operation::ChatCompletions.path();
    let link = &member.live.attachment;
    match control::ask(link, path, key, Some(body.to_string()), timeout).await {
        Ok(reply) if reply.status.is_success() => Checked::PASSED,
        Ok(reply) => Checked::failed(
            ProbeResult::Failed,
            path,
            format_args!("status {}", reply.status.as_u16()),
        ),
        Err(error) => Checked::unanswered(path, &error),
    }
}

/// The models that a backend lists.
pub(crate) async fn models(
    member: &Member<Arc<Link>>,
    timeout: Duration,
) -> Result<Vec<DiscoveredModel>, NoList> {
    let mut unknown = None;
    for question in probe::discovery(member.spec.kind) {
        let reply = ask(member, *question, timeout).await?;
        let status = reply.status.as_u16();
        if !reply.status.is_success() {
            if probe::judge(*question, status, &reply.body) != Finding::Unsupported {
                return Err(NoList::Status(status));
            }
            unknown = Some(NoList::Status(status));
            continue;
        }
        return Ok(match question {
            Probe::Tags => ollama_tags(&reply.body)?.models,
            Probe::Info => vec![tei_info(&reply.body)?.into()],
            _ => openai_list(&reply.body)?.models,
        });
    }
    unknown.map_or_else(|| Ok(Vec::new()), Err)
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
                let vram = loaded.iter().map(|model| model.size_vram).sum();
                let loaded = loaded.into_iter().map(|model| LoadedModel {
                    name: model.name.to_string(),
                    digest: model.digest,
                });
                let loaded = Some(loaded.collect());
                said(LoadSignals { loaded, vram: Some(vram), ..NOTHING }, false)
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
    vram: None,
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
