//! `POST /admin/explain`: what would happen to a request now, and why, on each data plane.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use router::explain::{ExplainedCandidate, ExplainedTier, Explanation, Verdict};
use router::plan::{Blocked, ExhaustedReason, PlanError, Query};
use router::spec::{Catalog, KeySpec, ModelSpec};
use router::{ModelName, Operation as Asked};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::api::extract::Json;
use crate::api::operation::Operation;
use crate::api::problem::{Flaw, Kind, Problem};
use crate::api::route::Route;
use crate::api::state::Api;
use crate::live::PlaneRef;
use crate::role::Role;

/// Longest name of a model, bytes.
const MODEL_MAX: usize = 256;

/// A request as routing sees it.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    /// The model's name as a client would send it.
    #[schema(example = "mistral-7b", max_length = 256)]
    model: String,
    /// The region that the client asks for.
    region: Option<String>,
    /// The name of the client's key.
    key: Option<String>,
    /// `chat_completions` (the default), `completions` or `embeddings`.
    #[schema(pattern = "^(chat_completions|completions|embeddings)$")]
    operation: Option<String>,
}

/// The answer of each data plane.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Explained {
    /// By name.
    planes: Vec<OnPlane>,
}

/// What one data plane would do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OnPlane {
    /// Which one.
    #[schema(example = "pid-4711")]
    plane: String,
    /// The plan; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Plan>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The route of a request, tier by tier.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Plan {
    /// The snapshot's version.
    version: u64,
    /// The model that the name means.
    model: String,
    /// Its home region.
    #[serde(skip_serializing_if = "Option::is_none")]
    home: Option<String>,
    /// The regions that residency and the key leave; absent = all.
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<Vec<String>>,
    /// In the order in which they are tried.
    tiers: Vec<Tier>,
    /// Why nothing is tried at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    /// Why there is no candidate just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    exhausted: Option<String>,
}

/// A group of backends that is tried together.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Tier {
    /// The model: the one asked for, or a fallback.
    model: String,
    /// The head; absent = all that serve it.
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<String>,
    /// Where.
    region: String,
    /// How candidates are drawn.
    #[schema(example = "least_load")]
    policy: &'static str,
    /// Why it takes no part.
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked: Option<&'static str>,
    /// Its backends: those that would be tried, in order, then the others.
    candidates: Vec<Candidate>,
}

/// A backend of a tier.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Candidate {
    /// Which one.
    backend: String,
    /// Its name for the model; absent = it does not serve it.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_model: Option<String>,
    /// `attempt`, `spare` or `passed_over`.
    #[schema(example = "attempt")]
    verdict: &'static str,
    /// As the how many-th it would be tried, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    /// Why it is passed over.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// `least_load`'s score: the smallest wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    /// Requests under way.
    in_flight: u32,
    /// The model would have to be loaded first.
    cold: bool,
    /// It would be the trial of a breaker that is not closed.
    trial: bool,
}

impl From<&Explanation> for Plan {
    fn from(plan: &Explanation) -> Self {
        Self {
            version: plan.version,
            model: plan.model.to_string(),
            home: plan.home.as_ref().map(ToString::to_string),
            allowed: plan
                .allowed
                .as_ref()
                .map(|regions| regions.iter().map(ToString::to_string).collect()),
            tiers: plan.tiers.iter().map(Tier::from).collect(),
            refused: plan.refused.as_ref().map(ToString::to_string),
            exhausted: plan.exhausted.as_ref().map(|why| exhausted(why.reason).to_owned()),
        }
    }
}

const fn exhausted(reason: ExhaustedReason) -> &'static str {
    match reason {
        ExhaustedReason::Tried => "all were tried, or as many as may be",
        ExhaustedReason::Saturated => {
            "those that are well are at their limit, or asked to be left alone"
        }
        ExhaustedReason::Unavailable => "all are open or offline",
        ExhaustedReason::BudgetSpent => "retries are spent",
        ExhaustedReason::NotServed => "none serves the model just now",
    }
}

impl From<&ExplainedTier> for Tier {
    fn from(tier: &ExplainedTier) -> Self {
        Self {
            model: tier.model.to_string(),
            head: tier.head.as_ref().map(ToString::to_string),
            region: tier.region.to_string(),
            policy: tier.policy,
            blocked: tier.blocked.map(Blocked::as_str),
            candidates: tier.candidates.iter().map(Candidate::from).collect(),
        }
    }
}

impl From<&ExplainedCandidate> for Candidate {
    fn from(candidate: &ExplainedCandidate) -> Self {
        let (verdict, attempt, reason) = match candidate.verdict {
            Verdict::Attempt(number) => ("attempt", Some(number), None),
            Verdict::Spare => ("spare", None, None),
            Verdict::PassedOver(reason) => ("passed_over", None, Some(reason.as_str())),
        };
        Self {
            backend: candidate.backend.to_string(),
            upstream_model: candidate.upstream_model.as_ref().map(ToString::to_string),
            verdict,
            attempt,
            reason,
            score: candidate.score,
            in_flight: candidate.in_flight,
            cold: candidate.cold,
            trial: candidate.trial,
        }
    }
}

/// The plan of each plane that answers; may block.
pub(crate) fn on_planes(
    planes: &[PlaneRef],
    request: &Request,
    operation: Asked,
    key: Option<&KeySpec>,
    models: &[ModelSpec],
) -> Vec<OnPlane> {
    let query = Query {
        model: &request.model,
        operation,
        region: request.region.as_deref(),
        key_region: key.and_then(|key| key.region.as_ref()),
        key_regions: key.map(|key| key.regions.as_slice()).filter(|regions| !regions.is_empty()),
        affinity: None,
        repeatable: true,
    };
    let ask = |plane: &PlaneRef| {
        let (plan, error) = match (&plane.unreachable, plane.inspect.explain(&query)) {
            (Some(reason), _) => (None, Some(reason.clone())),
            (None, Ok(plan)) => (Some(Plan::from(&plan)), None),
            (None, Err(error)) => {
                let listed = plane.inspect.catalog();
                (None, Some(unknown(&error, &request.model, models, &listed)))
            }
        };
        OnPlane { plane: plane.name.clone(), plan, error }
    };
    planes.iter().map(ask).collect()
}

fn unknown(error: &PlanError, model: &str, models: &[ModelSpec], listed: &Catalog) -> String {
    match error {
        PlanError::UnknownRegion { known } => {
            let known: Vec<_> = known.iter().map(ToString::to_string).collect();
            format!("unknown region; known: {}", known.join(", "))
        }
        PlanError::UnknownModel => {
            let declared =
                models.iter().flat_map(|model| std::iter::once(&model.name).chain(&model.aliases));
            let found = listed.values().flat_map(|models| models.iter().map(|model| &model.name));
            let near = config::nearest(model, declared.chain(found).map(ModelName::as_str));
            let near = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
            format!("no model has the name or alias {model:?}, and no server lists it{near}")
        }
        other => other.to_string(),
    }
}

pub(crate) fn routes() -> Vec<Route> {
    vec![Route::post(
        "/admin/explain",
        Role::Viewer,
        Operation::new("explain", "state", "What would happen to a request now, and why")
            .about(
                "The route plan of a request that came now: tiers in their order, who would be tried, and why the others \
                 are passed over. Nothing is sent, and no slot is taken. `least_load` draws two backends at random and \
                 takes the better, so the order within its tiers is the likeliest one.",
            )
            .takes::<Request>(json!({"model": "mistral-7b", "region": "eu"}))
            .gives::<Explained>(200, "The plans.", json!({"planes": []}))
            .fails(&[Kind::NotFound, Kind::Conflict]),
        explain,
    )]
}

async fn explain(
    State(api): State<Api>,
    Json(request): Json<Request>,
) -> Result<axum::Json<Explained>, Problem> {
    if request.model.len() > MODEL_MAX {
        return Err(wrong("/model", format!("at most {MODEL_MAX} characters")));
    }
    let word = request.operation.as_deref().unwrap_or(Asked::ChatCompletions.as_str());
    let operation = operation(word).ok_or_else(|| {
        wrong("/operation", "chat_completions, completions or embeddings".to_owned())
    })?;
    let key = match &request.key {
        None => None,
        Some(name) => Some(key(&api, name, &request.model)?),
    };
    let planes = api.blocking(move |context| {
        let desired = context.registry.desired();
        on_planes(&context.planes.all(), &request, operation, key.as_ref(), &desired.spec.models)
    });
    Ok(axum::Json(Explained { planes: planes.await? }))
}

fn operation(word: &str) -> Option<Asked> {
    let inference = [Asked::ChatCompletions, Asked::Completions, Asked::Embeddings];
    inference.into_iter().find(|operation| operation.as_str() == word)
}

/// The key of this name, if it may ask for the model at all.
fn key(api: &Api, name: &str, model: &str) -> Result<KeySpec, Problem> {
    let desired = api.registry().desired();
    let found = desired.spec.keys.iter().find(|key| key.name.as_str() == name);
    let found = found.ok_or_else(|| Problem::not_found("key", name))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if !found.is_valid(now) {
        let words = format!("401: the key {name} is disabled or has expired");
        return Err(Problem::new(Kind::Conflict, words));
    }
    if !found.allows_model(model) {
        let words = format!("403: the key {name} may not use {model:?}");
        return Err(Problem::new(Kind::Conflict, words));
    }
    Ok(found.clone())
}

fn wrong(pointer: &str, detail: String) -> Problem {
    Problem::invalid(vec![Flaw {
        pointer: pointer.to_owned(),
        code: "invalid_value".to_owned(),
        detail,
    }])
}
