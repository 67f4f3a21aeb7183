//! What a write knows of the request that asks for it.

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde_json::Value;

use crate::api::caller::{Caller, RequestId};
use crate::api::moment::now_ms;
use crate::api::problem::Problem;
use crate::api::state::Api;
use crate::api::world::World;
use crate::registry::{Change, IfMatch};
use crate::store::AuditEntry;

/// The API, who calls it, and the request's id.
pub(crate) struct Call {
    pub(crate) api: Api,
    pub(crate) caller: Caller,
    pub(crate) request_id: String,
}

impl FromRequestParts<Api> for Call {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, api).await?;
        let request_id =
            parts.extensions.get::<RequestId>().map_or_else(String::new, |id| id.0.clone());
        Ok(Self { api: api.clone(), caller, request_id })
    }
}

impl Call {
    /// For the registry.
    pub(crate) fn change(&self, if_match: Option<IfMatch>, world: &World) -> Change {
        Change {
            actor: self.caller.name.clone(),
            role: self.caller.role.as_str().to_owned(),
            request_id: self.request_id.clone(),
            if_match,
            catalog: world.catalog.clone(),
        }
    }

    /// For the audit.
    pub(crate) fn audit(&self, action: &str, target: &str, detail: Value) -> AuditEntry {
        AuditEntry {
            id: 0,
            at: now_ms(),
            actor: self.caller.name.clone(),
            role: self.caller.role.as_str().to_owned(),
            action: action.to_owned(),
            target: target.to_owned(),
            outcome: "ok".to_owned(),
            request_id: self.request_id.clone(),
            detail,
        }
    }
}
