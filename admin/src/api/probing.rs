//! Tests of servers, their health, and the models on them.

use std::time::Instant;

use axum::extract::State;
use router::spec::{BackendSpec, Catalog, Kind as ServerKind, Secret};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::api::audited::{Act, note};
use crate::api::call::Call;
use crate::api::extract::{Id, Json};
use crate::api::named;
use crate::api::operation::Operation;
use crate::api::problem::{Flaw, Kind, Problem};
use crate::api::route::Route;
use crate::api::state::Api;
use crate::api::status::BackendStatus;
use crate::outbound::Target;
use crate::probing::{self, BackendModel, Report};
use crate::role::Role;

/// Longest URL of a server, bytes.
const URL_MAX: usize = 2048;

/// A server that is not saved.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unsaved {
    /// Its base URL.
    #[schema(example = "http://10.0.0.4:8000", max_length = 2048)]
    url: String,
    /// What it is taken for; found out when nothing is said.
    #[schema(example = "vllm", pattern = "^(vllm|ollama|tei|rerank|openai)$")]
    kind: Option<String>,
    /// Its credential; it goes to this server and nowhere else.
    #[schema(write_only)]
    api_key: Option<String>,
    /// PEM text of further roots that its certificate may come from.
    ca: Option<String>,
}

/// How a backend is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// Which backend.
    #[schema(example = "eu-vllm-1")]
    backend: String,
    /// What each data plane sees.
    planes: Vec<BackendStatus>,
}

/// The models on a backend.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Models {
    /// The models.
    data: Vec<BackendModel>,
    /// Always null: there is one page.
    #[schema(required = true)]
    next_cursor: Option<String>,
    /// `backend` when it answered within the last half minute, `catalog` when this is what data planes found before.
    #[schema(example = "backend")]
    source: &'static str,
    /// Why it did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The kind that a word names.
pub(crate) fn kind_of(word: &str) -> Result<ServerKind, Problem> {
    let found = ServerKind::ALL.into_iter().find(|kind| kind.as_str() == word);
    found.ok_or_else(|| {
        Problem::invalid(vec![Flaw {
            pointer: "/kind".to_owned(),
            code: "invalid_value".to_owned(),
            detail: "vllm, ollama, tei, rerank or openai".to_owned(),
        }])
    })
}

pub(crate) fn routes() -> Vec<Route> {
    let report = json!({
        "ok": true,
        "url": "http://10.0.0.4:8000",
        "kind": "vllm",
        "health": "online",
        "version": "0.11.0",
        "latency_ms": 3.2,
        "capabilities": ["chat_completions", "completions", "embeddings"],
        "models": [{"id": "mistral-7b", "context_length": 32768, "capabilities": [], "remote": false}],
    });
    vec![
        Route::post(
            "/admin/backends/test",
            Role::Admin,
            Operation::new("testUnsavedBackend", "backends", "Test a server before it is saved")
                .about(
                    "Finds out what it is, how it is, its version and its models, without spending a token. Redirects are \
                     not followed; link-local and metadata addresses are refused. What goes wrong is told in `error`.",
                )
                .takes::<Unsaved>(json!({"url": "http://10.0.0.4:8000"}))
                .gives::<Report>(200, "What the test came to.", report.clone()),
            test_unsaved,
        ),
        Route::post(
            "/admin/backends/{id}/test",
            Role::Admin,
            Operation::new("testBackend", "backends", "Test a backend")
                .about("As for one that is not saved, with its own credential. It changes nothing of its health.")
                .gives::<Report>(200, "What the test came to.", report)
                .fails(&[Kind::Conflict]),
            test_saved,
        ),
        Route::get(
            "/admin/backends/{id}/health",
            Role::Viewer,
            Operation::new("getBackendHealth", "backends", "How a backend is").gives::<Health>(
                200,
                "What each data plane sees.",
                json!({"backend": "eu-vllm-1", "planes": []}),
            ),
            health,
        ),
        Route::get(
            "/admin/backends/{id}/models",
            Role::Viewer,
            Operation::new("listBackendModels", "backends", "The models on a backend")
                .about(
                    "Asked from the server itself, at most once in 30 s; when it does not answer, what data planes found \
                     before. Sizes, quantisation and what is loaded are told by Ollama only.",
                )
                .gives::<Models>(
                    200,
                    "Its models.",
                    json!({"data": [], "next_cursor": null, "source": "backend"}),
                )
                .fails(&[Kind::Conflict]),
            models,
        ),
    ]
}

async fn test_unsaved(
    call: Call,
    Json(body): Json<Unsaved>,
) -> Result<axum::Json<Report>, Problem> {
    let kind = body.kind.as_deref().map(kind_of).transpose()?;
    if body.url.len() > URL_MAX {
        return Err(Problem::invalid(vec![Flaw {
            pointer: "/url".to_owned(),
            code: "invalid_value".to_owned(),
            detail: format!("at most {URL_MAX} characters"),
        }]));
    }
    let key = body.api_key.as_deref().map(Secret::new);
    let report = match Target::parse(&body.url) {
        Ok(target) => {
            let target = target.with_ca(body.ca.as_deref());
            probing::test(&call.api.engines().outbound, target, kind, key.as_ref()).await
        }
        // What is wrong with a URL may be what it holds.
        Err(error) => Report::unasked("", &error),
    };
    let act = Act::new("test", format!("url/{}", report.url)).failed_if(!report.ok);
    note(&call, act.with(json!(report.error))).await;
    Ok(axum::Json(report))
}

async fn test_saved(call: Call, Id(id): Id) -> Result<axum::Json<Report>, Problem> {
    let spec = named::backend_spec(&call.api, &id)?;
    let report = match target_of(&spec) {
        Ok(target) => {
            let key = spec.api_key.as_ref();
            probing::test(&call.api.engines().outbound, target, Some(spec.kind), key).await
        }
        Err(error) => Report::unasked(&spec.url, &error),
    };
    let act = Act::new("test", format!("backend/{}", spec.name)).failed_if(!report.ok);
    note(&call, act.with(json!(report.error))).await;
    Ok(axum::Json(report))
}

/// Where a registered backend is.
pub(crate) fn target_of(spec: &BackendSpec) -> Result<Target, crate::outbound::OutboundError> {
    Ok(Target::parse(&spec.url)?.with_ca(spec.ca_pem.as_deref()))
}

async fn health(State(api): State<Api>, Id(id): Id) -> Result<axum::Json<Health>, Problem> {
    let backend = named::backend(&api, &id)?;
    let name = backend.clone();
    let planes = api.blocking(move |context| {
        let mut seen = Vec::new();
        for plane in context.planes.all() {
            let views = plane.inspect.backends();
            let view = views.iter().find(|view| view.name.as_str() == name);
            seen.extend(view.map(|view| BackendStatus::of(&plane.name, view)));
        }
        seen
    });
    Ok(axum::Json(Health { backend, planes: planes.await? }))
}

async fn models(State(api): State<Api>, Id(id): Id) -> Result<axum::Json<Models>, Problem> {
    let spec = named::backend_spec(&api, &id)?;
    let engines = api.engines();
    let (name, url) = (spec.name.as_str(), spec.url.as_str());
    let next_cursor = None;
    if let Some(kept) = engines.inventory.get(name, url, Instant::now()) {
        let data = kept.to_vec();
        return Ok(axum::Json(Models { data, next_cursor, source: "backend", error: None }));
    }
    let asked = async {
        let at = engines.outbound.locate(target_of(&spec)?).await?;
        probing::models(&engines.outbound, &at, spec.kind, spec.api_key.as_ref()).await
    };
    match asked.await {
        Ok(data) => {
            engines.inventory.put(name, url, data.clone().into(), Instant::now());
            Ok(axum::Json(Models { data, next_cursor, source: "backend", error: None }))
        }
        Err(error) => {
            let data = known(&api, &spec).await?;
            let error = Some(error.to_string());
            Ok(axum::Json(Models { data, next_cursor, source: "catalog", error }))
        }
    }
}

/// What data planes found on a backend before.
async fn known(api: &Api, spec: &BackendSpec) -> Result<Vec<BackendModel>, Problem> {
    let catalogs = api.blocking(|context| {
        let planes = context.planes.all();
        planes.iter().map(|plane| plane.inspect.catalog()).collect::<Vec<Catalog>>()
    });
    let found = catalogs.await?.into_iter().find_map(|mut catalog| catalog.remove(&spec.name));
    let found = found.map(|models| models.to_vec()).unwrap_or_default();
    Ok(found.into_iter().map(BackendModel::from).collect())
}
