//! How each kind of upstream is asked whether it lives, without spending a token.

use router::spec::Kind;

/// One question. All are `GET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Probe {
    /// The server's own health check.
    Health,
    /// The OpenAI model list; needs the credential.
    Models,
    /// Ollama's version: it answers while a model loads.
    Version,
    /// Ollama's installed models.
    Tags,
    /// Ollama's loaded models.
    Loaded,
    /// What Text Embeddings Inference says of itself and its one model.
    Info,
    /// The Prometheus page.
    Metrics,
}

impl Probe {
    /// The path to ask.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Health => "/health",
            Self::Models => "/v1/models",
            Self::Version => "/api/version",
            Self::Tags => "/api/tags",
            Self::Loaded => "/api/ps",
            Self::Info => "/info",
            Self::Metrics => "/metrics",
        }
    }
}

/// The questions of one health check; all must be [`Finding::Alive`] or [`Finding::Unsupported`].
#[must_use]
pub const fn health(kind: Kind) -> &'static [Probe] {
    match kind {
        Kind::Vllm | Kind::OpenAi => &[Probe::Health, Probe::Models],
        Kind::Ollama => &[Probe::Version],
        Kind::Tei | Kind::Rerank => &[Probe::Health],
    }
}

/// The questions whose answer lists a backend's models: the first that the server knows.
#[must_use]
pub const fn discovery(kind: Kind) -> &'static [Probe] {
    match kind {
        Kind::Vllm | Kind::OpenAi => &[Probe::Models],
        Kind::Ollama => &[Probe::Tags],
        Kind::Tei => &[Probe::Info],
        // A server of its own, or TEI with a model that ranks.
        Kind::Rerank => &[Probe::Models, Probe::Info],
    }
}

/// What an answer to a probe means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Finding {
    /// It works.
    Alive,
    /// It is there and loads its model (llama-server's 503).
    Loading,
    /// It is there and refuses our credential.
    Unauthorized,
    /// It does not know the question: says nothing.
    Unsupported,
    /// It is there and says that it does not work.
    Sick,
}

/// What a status and a body mean as the answer to a probe.
#[must_use]
pub fn judge(probe: Probe, status: u16, body: &[u8]) -> Finding {
    match status {
        200..=299 => match probe {
            Probe::Models if crate::models::openai_list(body).is_err() => Finding::Sick,
            Probe::Version if crate::models::version(body).is_err() => Finding::Sick,
            _ => Finding::Alive,
        },
        401 | 403 => Finding::Unauthorized,
        404 | 405 | 501 => Finding::Unsupported,
        503 if memchr::memmem::find(body, b"Loading model").is_some() => Finding::Loading,
        _ => Finding::Sick,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        for (probe, status, body, finding) in [
            (Probe::Health, 200, "", Finding::Alive),
            (Probe::Health, 503, "", Finding::Sick),
            (Probe::Health, 404, "404 page not found", Finding::Unsupported),
            (
                Probe::Health,
                503,
                r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#,
                Finding::Loading,
            ),
            (Probe::Models, 401, r#"{"error":"Unauthorized"}"#, Finding::Unauthorized),
            (Probe::Models, 200, r#"{"object":"list","data":null}"#, Finding::Alive),
            (Probe::Models, 200, "<html>", Finding::Sick),
            (Probe::Version, 200, r#"{"version":"0.0.0"}"#, Finding::Alive),
            (Probe::Version, 200, "Ollama is running", Finding::Sick),
            (Probe::Loaded, 500, "", Finding::Sick),
        ] {
            assert_eq!(judge(probe, status, body.as_bytes()), finding, "{probe:?} {status} {body}");
        }
    }
}
