//! The versions of what is stored: each change makes one, and any of the last can be gone back to.

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::api::call::Call;
use crate::api::configuration::{Outcome, plain};
use crate::api::extract::{Json, Query};
use crate::api::moment;
use crate::api::object::{json_response, versions};
use crate::api::operation::Operation;
use crate::api::page::{self, Page};
use crate::api::problem::{Kind, Problem};
use crate::api::route::Route;
use crate::api::state::Api;
use crate::role::Role;
use crate::store::VersionHead;

/// A version of what is stored.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Version {
    /// Counts from 1.
    number: u64,
    /// When it was made.
    #[schema(format = DateTime, example = "2026-03-01T09:30:00.000Z")]
    at: String,
    /// The name of the token that made it.
    author: String,
    /// What changed.
    #[schema(example = "create backend \"eu-vllm-1\"")]
    summary: String,
    /// The stored objects and overrides of that version as TOML; only where one version is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    toml: Option<String>,
}

/// Which versions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Most entries of the page.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<u32>,
    /// The page's beginning, from `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Two versions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Between {
    /// The older version.
    #[param(minimum = 1)]
    from: u64,
    /// The newer version.
    #[param(minimum = 1)]
    to: u64,
}

/// Which version to go back to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rollback {
    /// The version's number.
    #[schema(minimum = 1, example = 17)]
    version: u64,
}

pub(crate) fn routes() -> Vec<Route> {
    let version = || {
        json!({
            "number": 17,
            "at": "2026-03-01T09:30:00.000Z",
            "author": "first",
            "summary": "create backend \"eu-vllm-1\"",
        })
    };
    vec![
        Route::get(
            "/admin/config/versions",
            Role::Viewer,
            Operation::new("listVersions", "config", "Lists the versions of what is stored")
                .about("The newest first. Each change of a stored object or an override makes one.")
                .query::<Which>()
                .gives::<Page<Version>>(200, "A page.", json!({"data": [version()], "next_cursor": null})),
            list,
        ),
        Route::get(
            "/admin/config/versions/{number}",
            Role::Viewer,
            Operation::new("getVersion", "config", "Shows one version")
                .gives::<Version>(200, "The version, with its text.", version())
                .fails(&[Kind::NotFound])
                .tagged(),
            one,
        ),
        Route::get(
            "/admin/config/diff",
            Role::Viewer,
            Operation::new("diffVersions", "config", "Shows what differs between two versions")
                .about("A unified diff of their texts.")
                .query::<Between>()
                .gives_as(200, "text/plain", "The differences.", json!({"type": "string"}), json!("-weight = 1\n+weight = 2\n"))
                .fails(&[Kind::NotFound]),
            diff,
        ),
        Route::post(
            "/admin/config/rollback",
            Role::Admin,
            Operation::new("rollbackConfig", "config", "Goes back to a version")
                .about("Makes stored objects and overrides what they were then, as a new version. Files are not touched.")
                .takes::<Rollback>(json!({"version": 17}))
                .gives::<Outcome>(200, "It is in force.", json!({"version": 18, "applied": 4, "warnings": []}))
                .fails(&[Kind::NotFound, Kind::Conflict])
                .repeatable(),
            rollback,
        ),
    ]
}

fn version(head: VersionHead, toml: Option<String>) -> Version {
    Version {
        number: head.number,
        at: moment::show(head.at),
        author: head.author,
        summary: head.summary,
        toml,
    }
}

/// A number that a version can have.
fn known(number: u64) -> Result<u64, Problem> {
    let fits = page::is_number(number);
    fits.then_some(number).ok_or_else(|| Problem::not_found("version", &number.to_string()))
}

async fn list(State(api): State<Api>, Query(which): Query<Which>) -> Result<Response, Problem> {
    let limit = page::limit(which.limit)?;
    let before = page::number_of(which.cursor.as_deref())?;
    let mut found = api.registry().versions(limit + 1, before).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next_cursor =
        found.last().filter(|_| more).map(|last| page::cursor(&last.number.to_string()));
    let data = found.into_iter().map(|head| version(head, None)).collect();
    Ok(json_response(StatusCode::OK, &Page { data, next_cursor }))
}

async fn one(State(api): State<Api>, Path(number): Path<u64>) -> Result<Response, Problem> {
    let (head, toml) = api.registry().version(known(number)?).await?;
    Ok(json_response(StatusCode::OK, &version(head, Some(toml))))
}

async fn diff(State(api): State<Api>, Query(between): Query<Between>) -> Result<Response, Problem> {
    let text = api.registry().diff(known(between.from)?, known(between.to)?).await?;
    Ok(plain("text/plain; charset=utf-8", text))
}

async fn rollback(call: Call, Json(body): Json<Rollback>) -> Result<Response, Problem> {
    let world = call.api.world().await?;
    let change = call.change(None, &world);
    let done = call.api.registry().rollback(known(body.version)?, change).await?;
    let outcome = Outcome::of(&done);
    let mut response = json_response(StatusCode::OK, &outcome);
    versions(&mut response, &done);
    Ok(response)
}
