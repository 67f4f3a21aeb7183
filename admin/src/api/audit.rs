//! The audit: who did what. There is no way to write or change it here.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::api::extract::Query;
use crate::api::moment;
use crate::api::object::json_response;
use crate::api::operation::Operation;
use crate::api::page::{self, Page};
use crate::api::problem::Problem;
use crate::api::route::Route;
use crate::api::state::Api;
use crate::role::Role;
use crate::store::{AuditEntry, AuditFilter, StoreError};

/// Something that was done, or refused.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditRecord {
    /// Counts up without a gap.
    id: u64,
    /// When.
    #[schema(format = DateTime, example = "2026-03-01T09:30:00.000Z")]
    at: String,
    /// The name of the token.
    actor: String,
    /// The role that it had.
    #[schema(example = "admin")]
    role: String,
    /// What was asked for.
    #[schema(example = "create")]
    action: String,
    /// Of which object.
    #[schema(example = "backend/eu-vllm-1")]
    target: String,
    /// How it ended.
    #[schema(example = "ok")]
    outcome: String,
    /// The request.
    request_id: String,
    /// More of it; never a credential.
    detail: Value,
}

/// Which records.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// By this token.
    actor: Option<String>,
    /// Of this action.
    action: Option<String>,
    /// Of this object.
    target: Option<String>,
    /// With this end.
    outcome: Option<String>,
    /// Not before.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Before.
    #[param(format = DateTime)]
    until: Option<String>,
    /// Most entries of the page.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<u32>,
    /// The page's beginning, from `next_cursor` of the page before.
    cursor: Option<String>,
}

pub(crate) fn routes() -> Vec<Route> {
    vec![Route::get(
        "/admin/audit",
        Role::Admin,
        Operation::new("listAudit", "history", "Lists who did what")
            .about("The newest first. Records are kept for ever; each holds a hash of the one before it.")
            .query::<Which>()
            .gives::<Page<AuditRecord>>(200, "A page.", json!({"data": [], "next_cursor": null})),
        list,
    )]
}

async fn list(State(api): State<Api>, Query(which): Query<Which>) -> Result<Response, Problem> {
    let limit = page::limit(which.limit)?;
    let before = page::number_of(which.cursor.as_deref())?;
    let filter = AuditFilter {
        actor: which.actor,
        action: which.action,
        target: which.target,
        outcome: which.outcome,
        since: moment_of("since", which.since)?,
        until: moment_of("until", which.until)?,
    };
    let found: Result<Vec<AuditEntry>, StoreError> =
        api.store().read(move |tx| tx.audit(&filter, limit + 1, before)).await;
    let mut found = found?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| more).map(|last| page::cursor(&last.id.to_string()));
    let data = found.into_iter().map(record).collect();
    Ok(json_response(StatusCode::OK, &Page { data, next_cursor }))
}

fn moment_of(name: &str, text: Option<String>) -> Result<Option<u64>, Problem> {
    let wrong =
        || Problem::parameter(name, "a moment as in RFC 3339, for instance 2026-03-01T09:30:00Z");
    text.map(|text| moment::parse(&text).ok_or_else(wrong)).transpose()
}

fn record(entry: AuditEntry) -> AuditRecord {
    AuditRecord {
        id: entry.id,
        at: moment::show(entry.at),
        actor: entry.actor,
        role: entry.role,
        action: entry.action,
        target: entry.target,
        outcome: entry.outcome,
        request_id: entry.request_id,
        detail: entry.detail,
    }
}
