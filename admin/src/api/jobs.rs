//! `/admin/jobs`: work that goes on after its request was answered.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::api::audited::{Act, note};
use crate::api::call::Call;
use crate::api::extract::{Id, Query};
use crate::api::moment;
use crate::api::operation::Operation;
use crate::api::page::{self, Page};
use crate::api::problem::{Kind, Problem};
use crate::api::route::Route;
use crate::api::state::Api;
use crate::jobs::{CancelError, StartError};
use crate::role::Role;
use crate::store::StoredJob;

/// A job.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Job {
    /// Its id.
    #[schema(example = "job_4x9k2m7p")]
    id: String,
    /// What it does.
    #[schema(example = "discover")]
    kind: String,
    /// `queued`, `running`, `done`, `failed` or `interrupted` (the process that ran it ended first).
    #[schema(example = "running")]
    state: &'static str,
    /// How far it is.
    progress: Steps,
    /// What it found, or why it failed; null until there is something.
    detail: Value,
    /// When it was asked for.
    #[schema(format = DateTime, example = "2026-03-01T09:30:00.000Z")]
    created_at: String,
    /// When it last got on.
    #[schema(format = DateTime, example = "2026-03-01T09:30:00.000Z")]
    updated_at: String,
    /// The token that asked for it.
    actor: String,
}

/// Steps of a job.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Steps {
    /// Those that are done.
    done: u64,
    /// All of them.
    total: u64,
}

impl From<StoredJob> for Job {
    fn from(job: StoredJob) -> Self {
        Self {
            id: job.id,
            kind: job.kind,
            state: job.state.as_str(),
            progress: Steps { done: job.progress.0, total: job.progress.1 },
            detail: job.detail,
            created_at: moment::show(job.created_at),
            updated_at: moment::show(job.updated_at),
            actor: job.actor,
        }
    }
}

/// The answer to a request that began a job.
pub(crate) fn accepted(job: StoredJob) -> Response {
    let place = HeaderValue::try_from(format!("/admin/jobs/{}", job.id));
    let mut response = (StatusCode::ACCEPTED, axum::Json(Job::from(job))).into_response();
    if let Ok(place) = place {
        response.headers_mut().insert(LOCATION, place);
    }
    response
}

/// What the document says of a route that begins a job.
pub(crate) fn begins(operation: Operation, kind: &str) -> Operation {
    operation
        .repeatable()
        .gives::<Job>(202, "The job; look at `Location` for its progress.", example(kind))
        .header(202, "Location", "Where the job is.")
}

fn example(kind: &str) -> Value {
    json!({
        "id": "job_4x9k2m7p",
        "kind": kind,
        "state": "queued",
        "progress": {"done": 0, "total": 3},
        "detail": null,
        "created_at": "2026-03-01T09:30:00.000Z",
        "updated_at": "2026-03-01T09:30:00.000Z",
        "actor": "ops",
    })
}

impl From<StartError> for Problem {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Full => Self::new(Kind::TooManyRequests, error.to_string()),
            StartError::Store(error) => Self::from(error),
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// Most entries of the page.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get(
            "/admin/jobs",
            Role::Viewer,
            Operation::new("listJobs", "history", "Jobs, newest first")
                .query::<Which>()
                .gives::<Page<Job>>(
                    200,
                    "A page of jobs.",
                    json!({"data": [example("discover")], "next_cursor": null}),
                ),
            list,
        ),
        Route::get(
            "/admin/jobs/{id}",
            Role::Viewer,
            Operation::new("getJob", "history", "One job").gives::<Job>(
                200,
                "The job.",
                example("discover"),
            ),
            get,
        ),
        Route::post(
            "/admin/jobs/{id}/cancel",
            Role::Operator,
            Operation::new("cancelJob", "history", "End a job where it stands")
                .gives_nothing(204, "It ends; it counts as failed.")
                .fails(&[Kind::Conflict]),
            cancel,
        ),
    ]
}

async fn list(
    State(api): State<Api>,
    Query(which): Query<Which>,
) -> Result<axum::Json<Page<Job>>, Problem> {
    let limit = page::limit(which.limit)?;
    let before = page::key_of(which.cursor.as_deref())?;
    let mut jobs = api.engines().jobs.list(limit + 1, before).await?;
    let more = jobs.len() > limit;
    jobs.truncate(limit);
    let next_cursor = jobs.last().filter(|_| more).map(|job| page::cursor(&job.id));
    Ok(axum::Json(Page { data: jobs.into_iter().map(Job::from).collect(), next_cursor }))
}

async fn get(State(api): State<Api>, Id(id): Id) -> Result<axum::Json<Job>, Problem> {
    let found = api.engines().jobs.get(&id).await?;
    found.map(|job| axum::Json(Job::from(job))).ok_or_else(|| Problem::not_found("job", &id))
}

async fn cancel(call: Call, Id(id): Id) -> Result<StatusCode, Problem> {
    call.api.engines().jobs.cancel(&id).await.map_err(|error| match error {
        CancelError::Unknown => Problem::not_found("job", &id),
        CancelError::Ended => Problem::new(Kind::Conflict, error.to_string()),
        CancelError::Store(error) => Problem::from(error),
    })?;
    note(&call, Act::new("cancel", format!("job/{id}"))).await;
    Ok(StatusCode::NO_CONTENT)
}
