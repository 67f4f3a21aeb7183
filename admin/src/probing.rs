//! What a server is: asked without spending a token, told apart by its answers. Nothing of an answer's text comes back
//! but names, versions and figures that were parsed.

mod findings;
mod inventory;

pub use findings::{Answer, Answers, Condition, Fault, Findings, findings};
pub use inventory::{BackendModel, Inventory, KEPT, KEPT_MAX, NoList, SHOWN_MAX, models};

use std::time::Instant;

use router::spec::{Kind, Secret};
use serde::Serialize;
use utoipa::ToSchema;

use crate::outbound::{Ask, Located, Outbound, OutboundError, Target};

/// What a test of a server came to.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Report {
    /// It can be used as it was given.
    pub ok: bool,
    /// The base URL in its normal form.
    #[schema(example = "http://10.0.0.4:8000")]
    pub url: String,
    /// What it is: `vllm`, `ollama`, `tei`, `rerank` or `openai`; absent where that could not be found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "vllm")]
    pub kind: Option<&'static str>,
    /// How it is.
    pub health: Condition,
    /// Its version, where it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Until its first answer was complete, name resolution and connection included, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// The operations that would be sent to it.
    pub capabilities: Vec<&'static str>,
    /// Its models.
    pub models: Vec<BackendModel>,
    /// What stands in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Fault>,
}

impl Report {
    /// Of a server that could not be asked.
    #[must_use]
    pub fn unasked(url: &str, error: &OutboundError) -> Self {
        Self {
            ok: false,
            url: url.to_owned(),
            kind: None,
            health: Condition::Unreachable,
            version: None,
            latency_ms: None,
            capabilities: Vec::new(),
            models: Vec::new(),
            error: Some(Fault { code: error.code(), detail: error.to_string() }),
        }
    }
}

/// Tests a server: its kind (or whether it is of the kind that is given), health, version and models.
pub async fn test(
    client: &Outbound,
    target: Target,
    kind: Option<Kind>,
    key: Option<&Secret>,
) -> Report {
    let url = target.url.clone();
    let begun = Instant::now();
    let asked = async {
        let at = client.locate(target).await?;
        let health = client.ask(&at, Ask::get("/health", key)).await?;
        let latency = begun.elapsed();
        let answers = questions(client, &at, key, health).await;
        Ok((at, latency, answers))
    };
    let (at, latency, answers) = match asked.await {
        Ok(asked) => asked,
        Err(error) => return Report::unasked(&url, &error),
    };
    let found = findings(&answers, kind);
    let models = match found.kind {
        Some(kind) => models(client, &at, kind, key).await.unwrap_or_default(),
        None => Vec::new(),
    };
    Report {
        ok: found.fault.is_none(),
        url,
        kind: found.kind.map(Kind::as_str),
        health: found.condition,
        version: found.version,
        latency_ms: Some(latency.as_secs_f64() * 1e3),
        capabilities: found.kind.map(capabilities).unwrap_or_default(),
        models,
        error: found.fault,
    }
}

async fn questions(
    client: &Outbound,
    at: &Located,
    key: Option<&Secret>,
    health: crate::outbound::Reply,
) -> Answers {
    let ask = |path| async move {
        let reply = client.ask(at, Ask::get(path, key)).await.ok()?;
        Some((reply.status, reply.body))
    };
    let (models, version, ollama, info) =
        tokio::join!(ask("/v1/models"), ask("/version"), ask("/api/version"), ask("/info"));
    Answers { health: Some((health.status, health.body)), models, version, ollama, info }
}

/// The operations that are sent to a kind of server.
#[must_use]
pub fn capabilities(kind: Kind) -> Vec<&'static str> {
    let served = router::Operation::ALL.into_iter();
    served
        .filter(|operation| router::serving::serves(kind, *operation))
        .map(router::Operation::as_str)
        .filter(|word| !matches!(*word, "list_models" | "get_model"))
        .collect()
}

#[cfg(test)]
mod tests;
