//! `POST /admin/models/{id}/profile`: a measured run as a job.

use axum::response::Response;
use router::Operation as Asked;
use router::explain::{ExplainedCandidate, Verdict};
use router::plan::Query;
use router::spec::Secret;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::api::audited::{Act, note};
use crate::api::call::Call;
use crate::api::extract::{Id, Json};
use crate::api::jobs::{accepted, begins};
use crate::api::moment::{now_ms, show};
use crate::api::named;
use crate::api::operation::Operation;
use crate::api::probing::target_of;
use crate::api::problem::{Flaw, Kind, Problem};
use crate::api::route::Route;
use crate::api::state::Api;
use crate::jobs::{Outcome, Progress};
use crate::outbound::{Outbound, Target};
use crate::profiling::{
    PROMPT, PROMPT_MAX, Plan, REQUESTS, REQUESTS_MAX, TOKENS, TOKENS_MAX, run, summary,
};
use crate::role::Role;
use crate::store::StoreError;

/// What is to be measured.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Measure {
    /// The backend; the one that a request would try first when nothing is said.
    #[schema(example = "eu-vllm-1")]
    backend: Option<String>,
    /// How many requests, one after another; 3 when nothing is said.
    #[schema(minimum = 1, maximum = 20)]
    requests: Option<u32>,
    /// Most tokens of each answer; 64 when nothing is said.
    #[schema(minimum = 1, maximum = 512)]
    max_tokens: Option<u32>,
    /// What is asked.
    #[schema(max_length = 4096)]
    prompt: Option<String>,
}

impl Measure {
    fn plan(&self, model: String) -> Result<Plan, Problem> {
        let requests = self.requests.unwrap_or(REQUESTS);
        let max_tokens = self.max_tokens.unwrap_or(TOKENS);
        let prompt = self.prompt.clone().unwrap_or_else(|| PROMPT.to_owned());
        let mut flaws = Vec::new();
        let mut hold = |pointer: &str, holds: bool, detail: String| {
            if !holds {
                let (pointer, code) = (pointer.to_owned(), "invalid_value".to_owned());
                flaws.push(Flaw { pointer, code, detail });
            }
        };
        let within = |most: u32| format!("a number from 1 to {most}");
        hold("/requests", (1..=REQUESTS_MAX).contains(&requests), within(REQUESTS_MAX));
        hold("/max_tokens", (1..=TOKENS_MAX).contains(&max_tokens), within(TOKENS_MAX));
        let long = format!("at most {PROMPT_MAX} bytes");
        hold("/prompt", (1..=PROMPT_MAX).contains(&prompt.len()), long);
        if flaws.is_empty() {
            Ok(Plan { model, requests, max_tokens, prompt })
        } else {
            Err(Problem::invalid(flaws))
        }
    }
}

/// Whom a run asks.
struct Whom {
    backend: String,
    upstream_model: String,
    target: Target,
    api_key: Option<Secret>,
}

pub(crate) fn routes() -> Vec<Route> {
    vec![Route::post(
        "/admin/models/{id}/profile",
        Role::Admin,
        begins(
            Operation::new("profileModel", "operations", "Measure a model")
                .about(
                    "Sends a few short streamed chat requests straight to a backend, one after another, and measures the \
                     time to the first event, tokens per second and the share of answers that came whole. The result is in \
                     the job's `detail`, and in the model's statistics. It costs tokens, and counts for no limit.",
                )
                .takes::<Measure>(json!({"requests": 3, "max_tokens": 64}))
                .fails(&[Kind::Conflict]),
            "profile",
        ),
        profile,
    )]
}

async fn profile(
    call: Call,
    Id(id): Id,
    Json(measure): Json<Measure>,
) -> Result<Response, Problem> {
    let model = named::model(&call.api, &id).await?;
    let whom = whom(&call.api, &model, measure.backend.clone()).await?;
    let plan = measure.plan(whom.upstream_model.clone())?;
    let act = Act::new("profile", format!("model/{model}"))
        .with(json!({"backend": whom.backend, "requests": plan.requests}));
    let (total, work) = (u64::from(plan.requests), call.api.clone());
    let job =
        call.api.engines().jobs.start("profile", &call.caller.name, total, |progress| async move {
            measured(&work, &progress, &model, whom, plan).await
        });
    let job = job.await?;
    note(&call, act).await;
    Ok(accepted(job))
}

/// The backend that is asked for, or the one that a request would try first.
async fn whom(api: &Api, model: &str, backend: Option<String>) -> Result<Whom, Problem> {
    let (asked, wanted) = (model.to_owned(), backend.clone());
    let found = api.blocking(move |context| {
        let query = Query {
            model: &asked,
            operation: Asked::ChatCompletions,
            region: None,
            key_region: None,
            key_regions: None,
            affinity: None,
            repeatable: true,
        };
        let planes = context.planes.all();
        let plans = planes.iter().filter_map(|plane| plane.inspect.explain(&query).ok());
        let mut all = plans.flat_map(|plan| plan.tiers).flat_map(|tier| tier.candidates);
        all.find(|candidate| match &wanted {
            Some(name) => candidate.backend.as_str() == name && candidate.upstream_model.is_some(),
            None => candidate.verdict == Verdict::Attempt(1),
        })
    });
    let Some(ExplainedCandidate { backend: name, upstream_model: Some(upstream), .. }) =
        found.await?
    else {
        let words = match backend {
            Some(backend) => format!("{backend:?} does not serve {model:?} now"),
            None => format!("no backend would get a request for {model:?} now"),
        };
        return Err(Problem::new(Kind::Conflict, words));
    };
    let spec = named::backend_spec(api, name.as_str())?;
    let target =
        target_of(&spec).map_err(|error| Problem::new(Kind::Conflict, error.to_string()))?;
    let desired = api.registry().desired();
    let models = desired.spec.models.iter().filter(|spec| spec.name.as_str() == model);
    let own = models.flat_map(|spec| &spec.deployments).find(|one| one.backend == name);
    let api_key = own.and_then(|one| one.api_key.clone()).or(spec.api_key);
    let (backend, upstream_model) = (name.to_string(), upstream.to_string());
    Ok(Whom { backend, upstream_model, target, api_key })
}

async fn measured(api: &Api, progress: &Progress, model: &str, whom: Whom, plan: Plan) -> Outcome {
    let client: &Outbound = &api.engines().outbound;
    let at = client.locate(whom.target).await.map_err(|error| error.to_string())?;
    let mut runs = Vec::new();
    for _ in 0..plan.requests {
        runs.push(run(client, &at, whom.api_key.as_ref(), &plan).await);
        progress.step();
        progress.tell(json!({ "runs": runs }));
    }
    let found = json!(summary(&whom.backend, &plan.model, runs));
    let kept = json!({"at": show(now_ms()), "profile": found}).to_string();
    let place = place(model);
    let written: Result<(), StoreError> =
        api.store().write(move |tx| tx.set_meta(&place, &kept)).await;
    if let Err(error) = written {
        tracing::warn!(%error, model, "a profile was not kept with its model");
    }
    Ok(found)
}

fn place(model: &str) -> String {
    format!("profile/{model}")
}

/// What the last measured run of a model came to.
pub(crate) async fn last(api: &Api, model: &str) -> Result<Option<Value>, StoreError> {
    let place = place(model);
    let kept = api.store().read(move |tx| tx.meta(&place)).await?;
    Ok(kept.and_then(|text| serde_json::from_str(&text).ok()))
}
