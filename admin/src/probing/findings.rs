//! From answers to what a server is and how it is: a pure function.

use adapters::models::{Listing, openai_list, version};
use adapters::probe::{Finding, Probe, judge};
use adapters::{details, probe};
use bytes::Bytes;
use router::spec::Kind;
use serde::Serialize;
use utoipa::ToSchema;

/// Status and body, where there was an answer.
pub type Answer = Option<(u16, Bytes)>;

/// What a server answered to each question.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// `GET /health`
    pub health: Answer,
    /// `GET /v1/models`
    pub models: Answer,
    /// `GET /version`: vLLM.
    pub version: Answer,
    /// `GET /api/version`: Ollama.
    pub ollama: Answer,
    /// `GET /info`: Text Embeddings Inference.
    pub info: Answer,
}

/// How a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It works.
    Online,
    /// It loads its model.
    Loading,
    /// It is there and says that it does not work.
    Sick,
    /// It is there and refuses the credential.
    Unauthorized,
    /// It does not answer.
    Unreachable,
    /// Something is there that is no inference server.
    Foreign,
}

impl Condition {
    /// Whether there is an inference server, however it is.
    #[must_use]
    pub const fn is_there(self) -> bool {
        !matches!(self, Self::Unreachable | Self::Foreign)
    }
}

/// What stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Fault {
    /// In one word: `invalid_url`, `dns`, `forbidden_address`, `refused`, `unreachable`, `tls`, `timeout`, `not_http`,
    /// `answer_too_long`, `unauthorized`, `redirect`, `not_an_inference_server`, `kind_mismatch`, `sick`, `loading`.
    #[schema(example = "refused")]
    pub code: &'static str,
    /// For people.
    pub detail: String,
}

impl Fault {
    fn new(code: &'static str, detail: impl Into<String>) -> Option<Self> {
        Some(Self { code, detail: detail.into() })
    }
}

/// What follows from the answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// What it is.
    pub kind: Option<Kind>,
    /// How it is.
    pub condition: Condition,
    /// Its version.
    pub version: Option<String>,
    /// What stands in the way.
    pub fault: Option<Fault>,
}

fn good(answer: &Answer) -> Option<&Bytes> {
    answer.as_ref().filter(|(status, _)| (200..300).contains(status)).map(|(_, body)| body)
}

fn listing(answers: &Answers) -> Option<Listing> {
    good(&answers.models).and_then(|body| openai_list(body).ok())
}

/// What a server is and how it is. `stated` is what the caller takes it for.
#[must_use]
pub fn findings(answers: &Answers, stated: Option<Kind>) -> Findings {
    let (seen, version) = match kind_of(answers) {
        Some((kind, version)) => (Some(kind), version),
        None => (None, None),
    };
    let (condition, fault) = match (stated, seen) {
        (Some(stated), Some(seen)) if !fits(stated, seen) => {
            let words = format!("it answers as {}, not as {}", seen.as_str(), stated.as_str());
            (Condition::Foreign, Fault::new("kind_mismatch", words))
        }
        (Some(kind), _) | (None, Some(kind)) => condition(answers, kind, seen.is_some()),
        (None, None) => nobody(answers),
    };
    let kind = match (&fault, stated) {
        (Some(fault), _) if fault.code == "kind_mismatch" => seen,
        (_, stated) => stated.or(seen),
    };
    Findings { kind, condition, version, fault }
}

/// The kind that the answers show, and the version. A kind that only refused us is not known.
fn kind_of(answers: &Answers) -> Option<(Kind, Option<String>)> {
    if let Some(info) = good(&answers.info).and_then(|body| details::tei_info(body).ok()) {
        return Some((if info.ranks { Kind::Rerank } else { Kind::Tei }, info.version));
    }
    let said = |answer: &Answer| good(answer).and_then(|body| version(body).ok());
    if let Some(version) = said(&answers.ollama) {
        return Some((Kind::Ollama, Some(version)));
    }
    let listing = listing(answers);
    match said(&answers.version) {
        Some(version) if listing.is_some() || refuses(&answers.models) => {
            Some((Kind::Vllm, Some(version)))
        }
        _ => {
            let by_vllm = |owner: &Option<String>| owner.as_deref() == Some("vllm");
            let vllm = listing?.models.iter().any(|model| by_vllm(&model.owned_by));
            Some((if vllm { Kind::Vllm } else { Kind::OpenAi }, None))
        }
    }
}

fn refuses(answer: &Answer) -> bool {
    matches!(answer, Some((401 | 403, _)))
}

/// Whether a server that answers as `seen` can be used as `stated`.
const fn fits(stated: Kind, seen: Kind) -> bool {
    match stated {
        Kind::OpenAi => matches!(seen, Kind::OpenAi | Kind::Vllm | Kind::Ollama),
        // A proxy in front of it may hide what makes it one.
        Kind::Vllm => matches!(seen, Kind::Vllm | Kind::OpenAi),
        Kind::Tei => matches!(seen, Kind::Tei | Kind::OpenAi),
        Kind::Rerank => !matches!(seen, Kind::Ollama),
        Kind::Ollama => matches!(seen, Kind::Ollama),
    }
}

/// How a server of a kind is; `recognised` = its answers are those of some inference server.
fn condition(answers: &Answers, kind: Kind, recognised: bool) -> (Condition, Option<Fault>) {
    let mut sick = false;
    let mut alive = false;
    for question in probe::health(kind) {
        let answer = match question {
            Probe::Models => &answers.models,
            Probe::Version => &answers.ollama,
            _ => &answers.health,
        };
        match answer.as_ref().map(|(status, body)| judge(*question, *status, body)) {
            Some(Finding::Alive) => alive = true,
            Some(Finding::Unsupported) => {}
            Some(Finding::Unauthorized) => return unauthorized(),
            Some(Finding::Loading) => return loading(),
            Some(Finding::Sick) | None => sick = true,
        }
    }
    // A server without a list of its own that is well says only that.
    let silent = matches!(kind, Kind::Tei | Kind::Rerank) && alive;
    match (sick, recognised || silent) {
        (false, true) => (Condition::Online, None),
        (true, true) => {
            (Condition::Sick, Fault::new("sick", "it is there and says that it does not work"))
        }
        (_, false) => nobody(answers),
    }
}

/// What to say of answers that show no inference server.
fn nobody(answers: &Answers) -> (Condition, Option<Fault>) {
    let all = [&answers.health, &answers.models];
    if all.into_iter().any(refuses) {
        return unauthorized();
    }
    if let Some((status, body)) = &answers.health
        && judge(Probe::Health, *status, body) == Finding::Loading
    {
        return loading();
    }
    if all.into_iter().any(|answer| matches!(answer, Some((300..=399, _)))) {
        let words = "it answers with a redirect, which is not followed";
        return (Condition::Foreign, Fault::new("redirect", words));
    }
    let words = "none of its answers is one of an inference server";
    (Condition::Foreign, Fault::new("not_an_inference_server", words))
}

fn unauthorized() -> (Condition, Option<Fault>) {
    (Condition::Unauthorized, Fault::new("unauthorized", "it refuses the api_key, or needs one"))
}

fn loading() -> (Condition, Option<Fault>) {
    (Condition::Loading, Fault::new("loading", "it loads its model; try again later"))
}
