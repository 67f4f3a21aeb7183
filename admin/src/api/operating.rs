//! What operators do with what runs: drain, resume, check, purge. Done on every data plane.

use std::time::{Duration, Instant};

use axum::response::Response;
use router::planes::{BackendView, Operate, OperateError, PurgeScope};
use router::{KeyName, ModelName, TenantName};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::api::audited::{Act, note};
use crate::api::call::Call;
use crate::api::extract::{Id, Json};
use crate::api::jobs::{accepted, begins};
use crate::api::named;
use crate::api::operation::Operation;
use crate::api::problem::{Kind, Problem};
use crate::api::route::Route;
use crate::api::state::Api;
use crate::jobs::{Outcome, Progress};
use crate::live::PlaneRef;
use crate::role::Role;

/// How long a check of all backends waits for the last of them.
const CHECK_TIME_MAX: Duration = Duration::from_secs(60);
/// Between two looks at how far it is.
const CHECK_LOOK: Duration = Duration::from_millis(100);

/// What each data plane did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Done {
    /// By name.
    planes: Vec<OnPlane>,
}

/// What one data plane did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OnPlane {
    /// Which one.
    #[schema(example = "pid-4711")]
    plane: String,
    /// It did what was asked for.
    done: bool,
    /// Why it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Cached answers that were dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    purged: Option<u64>,
}

/// Does something on every plane that answers; may block.
fn everywhere(
    planes: &[PlaneRef],
    act: impl Fn(&dyn Operate) -> Result<Option<u64>, OperateError>,
) -> Vec<OnPlane> {
    let one = |plane: &PlaneRef| {
        let (done, purged, error) = match &plane.unreachable {
            Some(reason) => (false, None, Some(reason.clone())),
            None => match act(&*plane.operate) {
                Ok(purged) => (true, purged, None),
                Err(error) => (false, None, Some(error.to_string())),
            },
        };
        OnPlane { plane: plane.name.clone(), done, error, purged }
    };
    planes.iter().map(one).collect()
}

/// The answer to what was to be done everywhere: a failure only where it was done nowhere.
fn answer(planes: Vec<OnPlane>) -> Result<axum::Json<Done>, Problem> {
    if planes.iter().any(|plane| plane.done) {
        return Ok(axum::Json(Done { planes }));
    }
    let first = planes.into_iter().find_map(|plane| plane.error);
    let words = first.unwrap_or_else(|| "no data plane runs on this store".to_owned());
    Err(Problem::new(Kind::Unreachable, words))
}

/// Whose cached answers are dropped: exactly one of these.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purge {
    /// A model's.
    Model(String),
    /// A tenant's.
    Tenant(String),
    /// A key's, by its name.
    Key(String),
    /// Everybody's, when `true`.
    All(bool),
}

impl Purge {
    /// The scope, and its name in the audit. What can be no name is the name of nothing.
    fn scope(&self) -> Result<(PurgeScope, String), Problem> {
        let (scope, target) = match self {
            Self::Model(name) => {
                (ModelName::try_from(name.as_str()).ok().map(PurgeScope::Model), ("model", name))
            }
            Self::Tenant(name) => {
                (TenantName::try_from(name.as_str()).ok().map(PurgeScope::Tenant), ("tenant", name))
            }
            Self::Key(name) => {
                (KeyName::try_from(name.as_str()).ok().map(PurgeScope::Key), ("key", name))
            }
            Self::All(true) => return Ok((PurgeScope::All, "all".to_owned())),
            Self::All(false) => {
                return Err(Problem::new(Kind::Conflict, "all = false purges nothing"));
            }
        };
        let (what, name) = target;
        let scope = scope.ok_or_else(|| Problem::not_found(what, name))?;
        Ok((scope, format!("{what}/{name}")))
    }
}

pub(crate) fn routes() -> Vec<Route> {
    let done = json!({"planes": [{"plane": "pid-4711", "done": true}]});
    let purged = json!({"planes": [{"plane": "pid-4711", "done": true, "purged": 12}]});
    vec![
        Route::post(
            "/admin/backends/{id}/drain",
            Role::Operator,
            Operation::new("drainBackend", "backends", "Give a backend no new work")
                .about("Running streams finish. It lasts until the data plane ends; to keep it so, set `draining`.")
                .gives::<Done>(200, "What each data plane did.", done.clone())
                .fails(&[Kind::Unreachable]),
            drain,
        ),
        Route::post(
            "/admin/backends/{id}/resume",
            Role::Operator,
            Operation::new("resumeBackend", "backends", "Give a drained backend work again")
                .about("Its share of new work grows over `slow_start`.")
                .gives::<Done>(200, "What each data plane did.", done)
                .fails(&[Kind::Unreachable]),
            resume,
        ),
        Route::post(
            "/admin/backends/health-check",
            Role::Operator,
            begins(
                Operation::new("checkBackends", "backends", "Check all backends now")
                    .about("Every data plane probes all of its backends; the job ends when the last of them was heard of."),
                "health-check",
            ),
            check,
        ),
        Route::post(
            "/admin/cache/purge",
            Role::Operator,
            Operation::new("purgeCache", "operations", "Drop cached answers")
                .takes::<Purge>(json!({"model": "mistral-7b"}))
                .gives::<Done>(200, "What each data plane did.", purged)
                .fails(&[Kind::Unreachable, Kind::NotFound, Kind::Conflict]),
            purge,
        ),
    ]
}

async fn drain(call: Call, Id(id): Id) -> Result<axum::Json<Done>, Problem> {
    let name = named::backend(&call.api, &id)?;
    let act = Act::new("drain", format!("backend/{name}"));
    let planes = call.api.blocking(move |context| {
        everywhere(&context.planes.all(), |plane| plane.drain(&name).map(|()| None))
    });
    let answer = answer(planes.await?);
    note(&call, act.failed_if(answer.is_err())).await;
    answer
}

async fn resume(call: Call, Id(id): Id) -> Result<axum::Json<Done>, Problem> {
    let name = named::backend(&call.api, &id)?;
    let act = Act::new("resume", format!("backend/{name}"));
    let planes = call.api.blocking(move |context| {
        everywhere(&context.planes.all(), |plane| plane.resume(&name).map(|()| None))
    });
    let answer = answer(planes.await?);
    note(&call, act.failed_if(answer.is_err())).await;
    answer
}

async fn purge(call: Call, Json(body): Json<Purge>) -> Result<axum::Json<Done>, Problem> {
    let (scope, target) = body.scope()?;
    let planes = call.api.blocking(move |context| {
        everywhere(&context.planes.all(), |plane| plane.purge(&scope).map(Some))
    });
    let answer = answer(planes.await?);
    note(&call, Act::new("purge", target).failed_if(answer.is_err())).await;
    answer
}

async fn check(call: Call) -> Result<Response, Problem> {
    let work = call.api.clone();
    let job = call.api.engines().jobs.start(
        "health-check",
        &call.caller.name,
        0,
        |progress| async move {
            check_all(&work, &progress).await.map_err(|problem| problem.detail().to_owned())?
        },
    );
    let job = job.await?;
    note(&call, Act::new("health-check", "backends")).await;
    Ok(accepted(job))
}

/// Asks every plane for a probe of all backends, and waits until each was probed since.
async fn check_all(api: &Api, progress: &Progress) -> Result<Outcome, Problem> {
    let begun = Instant::now();
    let asked = api.blocking(|context| {
        everywhere(&context.planes.all(), |plane| plane.probe_now(None).map(|()| None))
    });
    if !asked.await?.iter().any(|plane| plane.done) {
        return Ok(Err("no data plane answers".to_owned()));
    }
    loop {
        let views: Vec<(String, Vec<BackendView>)> = api
            .blocking(|context| {
                let planes = context.planes.all();
                planes.into_iter().map(|plane| (plane.name, plane.inspect.backends())).collect()
            })
            .await?;
        let since = begun.elapsed();
        let all = views.iter().flat_map(|(_, views)| views);
        let total = all.clone().count();
        let done = all.filter(|view| was_probed(view, since)).count();
        progress.set(done as u64, total as u64);
        progress.tell(found(&views, since));
        if done == total {
            return Ok(Ok(found(&views, since)));
        }
        if since > CHECK_TIME_MAX {
            return Ok(Err(format!("{} of {total} were not heard of in time", total - done)));
        }
        tokio::time::sleep(CHECK_LOOK).await;
    }
}

/// Whether the last probe is younger than the request for it.
fn was_probed(view: &BackendView, since: Duration) -> bool {
    view.status.last_probe.is_some_and(|(age, _)| age <= since)
}

fn found(views: &[(String, Vec<BackendView>)], since: Duration) -> Value {
    let one = |plane: &str, view: &BackendView| {
        json!({
            "plane": plane,
            "backend": view.name.as_str(),
            "state": view.state.as_str(),
            "checked": was_probed(view, since),
            "latency_ms": view.look.as_ref().map(|look| look.took.as_secs_f64() * 1e3),
            "error": view.look.as_ref().and_then(|look| look.error.clone()),
        })
    };
    let all = views.iter().flat_map(|(plane, views)| views.iter().map(|view| one(plane, view)));
    json!({ "backends": all.collect::<Vec<_>>() })
}
