//! What was done without a change of the registry, written into the audit.

use serde_json::Value;

use crate::api::call::Call;
use crate::store::StoreError;

/// Something that a caller did.
#[derive(Debug, Clone)]
pub(crate) struct Act {
    action: &'static str,
    target: String,
    outcome: &'static str,
    detail: Value,
}

impl Act {
    /// `target` is of the form `backend/eu-vllm-1`.
    pub(crate) fn new(action: &'static str, target: impl Into<String>) -> Self {
        Self { action, target: target.into(), outcome: "ok", detail: Value::Null }
    }

    /// It did not come to what was asked for.
    pub(crate) fn failed_if(mut self, failed: bool) -> Self {
        if failed {
            self.outcome = "failed";
        }
        self
    }

    /// More of it; no secret.
    pub(crate) fn with(mut self, detail: Value) -> Self {
        self.detail = detail;
        self
    }
}

/// Writes an act down. What was done is done: a store that cannot be written is logged, with the act, and hinders nobody from
/// draining a backend.
pub(crate) async fn note(call: &Call, act: Act) {
    let mut entry = call.audit(act.action, &act.target, act.detail);
    act.outcome.clone_into(&mut entry.outcome);
    let written: Result<u64, StoreError> =
        call.api.store().write(move |tx| tx.add_audit(&entry)).await;
    if let Err(error) = written {
        let (actor, action, target) = (&call.caller.name, act.action, &act.target);
        tracing::warn!(%error, actor, action, target, "an act is missing in the audit");
    }
}
