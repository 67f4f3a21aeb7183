//! One table: which upstream answer means what.

use std::time::Duration;

use memchr::memmem;
use router::Operation;
use router::outcome::FailureKind;
use router::spec::Kind;

use crate::sse::ErrorEvent;

/// What an upstream's answer means for the request and for the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A good answer.
    Success,
    /// The client's request is wrong: pass the answer through, one attempt, nobody else is at fault.
    ClientFault,
    /// A client fault of one kind: the prompt is too long here. A larger context could take it.
    ContextLength,
    /// This backend does not do this operation (an absent path, a feature that is off). Try the next; says nothing
    /// against the backend or about the model.
    NotServed,
    /// The backend's fault: try the next.
    Failure(FailureKind),
}

/// How a row recognises an answer by its body.
#[derive(Clone, Copy)]
enum Body {
    /// Any body.
    Any,
    /// One of these texts occurs in it.
    Has(&'static [&'static str]),
}

impl Body {
    fn matches(self, body: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Has(texts) => {
                texts.iter().any(|text| memmem::find(body, text.as_bytes()).is_some())
            }
        }
    }
}

/// One row: the first that matches decides.
struct Row {
    /// The kinds it is about; empty = every kind.
    kinds: &'static [Kind],
    /// The statuses it is about, both ends included.
    status: (u16, u16),
    body: Body,
    verdict: Verdict,
}

const fn row(kinds: &'static [Kind], status: (u16, u16), body: Body, verdict: Verdict) -> Row {
    Row { kinds, status, body, verdict }
}

const EVERY: &[Kind] = &[];
/// llama-server and its like are of kind `openai`; reranking ones are often the same program.
const GENERIC: &[Kind] = &[Kind::OpenAi, Kind::Rerank];

const TOO_LONG: &[&str] = &[
    // vLLM's Python and Rust front ends, llama_cpp.server, OpenAI.
    "maximum context length is",
    "context_length_exceeded",
    "cannot be greater than max_model_len",
    "exceeds the max_model_len",
    "is longer than the maximum model length",
    // llama-server.
    "exceed_context_size_error",
    // Ollama with truncate: false.
    "exceeds the context length",
    // TEI.
    "`inputs` must have less than",
];

/// Texts stand as they do in JSON, quotes escaped. Sources: CONTRACTS 3.3, 4.2, 5.1; UPSTREAMS 15, 19, 26, O2,
/// O9, O24 to O26.
const TABLE: &[Row] = &[
    row(EVERY, (200, 299), Body::Any, Verdict::Success),
    row(EVERY, (100, 399), Body::Any, Verdict::Failure(FailureKind::BadResponse)),
    // A refusal of our credentials. Ollama has none: its 403 is a cloud name, or the Host or Origin.
    row(
        &[Kind::Ollama],
        (403, 403),
        Body::Has(&["cloud is disabled"]),
        Verdict::Failure(FailureKind::ModelAbsent),
    ),
    row(EVERY, (401, 401), Body::Any, Verdict::Failure(FailureKind::Unauthorized)),
    row(EVERY, (403, 403), Body::Any, Verdict::Failure(FailureKind::Unauthorized)),
    // An absent path is not an absent model.
    row(
        EVERY,
        (404, 404),
        Body::Has(&[
            "\"detail\":\"Not Found\"",
            "404 page not found",
            "File Not Found",
            "<html",
            "<HTML",
            "<!DOCTYPE",
            "<!doctype",
        ]),
        Verdict::NotServed,
    ),
    row(EVERY, (404, 404), Body::Any, Verdict::Failure(FailureKind::ModelAbsent)),
    row(EVERY, (405, 405), Body::Any, Verdict::NotServed),
    row(EVERY, (408, 408), Body::Any, Verdict::Failure(FailureKind::ServerError)),
    row(EVERY, (424, 424), Body::Any, Verdict::Failure(FailureKind::ServerError)),
    row(EVERY, (429, 429), Body::Any, Verdict::Failure(FailureKind::Overloaded)),
    // A request of ours that Ollama believes cancelled, though nobody left.
    row(&[Kind::Ollama], (499, 499), Body::Any, Verdict::Failure(FailureKind::ServerError)),
    // A weights file that is gone, or a model of another sort.
    row(
        &[Kind::Ollama],
        (400, 400),
        Body::Has(&[
            "does not support chat",
            "does not support generate",
            "does not support embed",
        ]),
        Verdict::NotServed,
    ),
    row(EVERY, (400, 422), Body::Has(TOO_LONG), Verdict::ContextLength),
    row(EVERY, (400, 499), Body::Any, Verdict::ClientFault),
    // Client faults that come as 500. The texts of the two rows after this one are from llama.cpp (`tools/server`), not
    // from a run.
    row(
        GENERIC,
        (500, 500),
        Body::Has(&[
            "[json.exception.",
            "image input is not supported",
            "audio input is not supported",
        ]),
        Verdict::ClientFault,
    ),
    row(GENERIC, (500, 500), Body::Has(&["is too large to process"]), Verdict::ContextLength),
    row(GENERIC, (500, 500), Body::Has(&["requires --jinja flag"]), Verdict::NotServed),
    row(
        &[Kind::Ollama],
        (500, 500),
        Body::Has(&[
            "invalid JSON schema in format",
            "Failed to create new sequence: no input provided",
            "failed to create new sequence: no input provided",
        ]),
        Verdict::ClientFault,
    ),
    row(EVERY, (501, 501), Body::Any, Verdict::NotServed),
    row(EVERY, (503, 503), Body::Any, Verdict::Failure(FailureKind::Overloaded)),
    row(EVERY, (500, 599), Body::Any, Verdict::Failure(FailureKind::ServerError)),
];

/// How much of a body is searched for a row's text, in bytes.
pub const BODY_SEARCH_MAX_BYTES: usize = 8 << 10;

/// What an upstream's answer means. `body` is its start ([`BODY_SEARCH_MAX_BYTES`] are enough; empty for good
/// answers).
///
/// `ListModels` and `GetModel` have no model in the request: their 404 is [`Verdict::NotServed`].
#[must_use]
pub fn classify(kind: Kind, operation: Operation, status: u16, body: &[u8]) -> Verdict {
    let body = &body[..body.len().min(BODY_SEARCH_MAX_BYTES)];
    let verdict = TABLE
        .iter()
        .find(|row| {
            (row.kinds.is_empty() || row.kinds.contains(&kind))
                && (row.status.0..=row.status.1).contains(&status)
                && row.body.matches(body)
        })
        .map_or(Verdict::Failure(FailureKind::BadResponse), |row| row.verdict);
    match (operation, verdict) {
        (
            Operation::ListModels | Operation::GetModel,
            Verdict::Failure(FailureKind::ModelAbsent),
        ) => Verdict::NotServed,
        _ => verdict,
    }
}

/// What an error event means that came before any content: as if its `code` had been the status, else a failure of
/// the stream.
#[must_use]
pub fn classify_event(kind: Kind, operation: Operation, event: &ErrorEvent) -> Verdict {
    match event.status() {
        Some(status) => match classify(kind, operation, status, event.error.message.as_bytes()) {
            Verdict::Failure(FailureKind::ServerError) => Verdict::Failure(FailureKind::ErrorEvent),
            verdict => verdict,
        },
        None => Verdict::Failure(FailureKind::ErrorEvent),
    }
}

/// How long an upstream asked to be left alone, at most `max`: a `Retry-After` header in seconds (fractions are
/// fine). A date is not read, since that would need a clock, and gives `None`.
#[must_use]
pub fn retry_after(header: &str, max: Duration) -> Option<Duration> {
    let seconds: f64 = header.trim().parse().ok()?;
    if seconds.is_nan() || seconds < 0.0 {
        return None;
    }
    Some(Duration::try_from_secs_f64(seconds).map_or(max, |asked| asked.min(max)))
}

#[cfg(test)]
mod tests;
