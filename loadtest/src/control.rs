//! The control routes of the `fake-upstream` binary.

use serde_json::{Value, json};

use crate::http::Head;
use crate::profile::Vitals;
use crate::recorder::lock;
use crate::script::{Fixed, Script};
use crate::shared::Shared;

/// Answers a control request.
pub(crate) fn answer(shared: &Shared, head: &Head, body: &[u8]) -> Fixed {
    match route(shared, head, body) {
        Ok(value) => Fixed::json(200, value.to_string()),
        Err((status, message)) => Fixed::json(status, json!({ "error": message }).to_string()),
    }
}

fn route(shared: &Shared, head: &Head, body: &[u8]) -> Result<Value, (u16, String)> {
    let bad = |error: serde_json::Error| (400, error.to_string());
    match (head.method.as_str(), head.path()) {
        ("GET", "/control/stats") => serde_json::to_value(shared.recorder.stats()).map_err(bad),
        ("GET", "/control/requests") => Ok(requests(shared)),
        ("POST", "/control/clear") => {
            shared.recorder.clear();
            Ok(json!({}))
        }
        ("POST", "/control/script") => {
            shared.set_script(serde_json::from_slice::<Script>(body).map_err(bad)?);
            Ok(json!({}))
        }
        ("POST", "/control/next") => {
            let n = head.target.split("n=").nth(1).and_then(|n| n.parse().ok()).unwrap_or(1);
            shared.set_next(n, serde_json::from_slice::<Script>(body).map_err(bad)?);
            Ok(json!({ "n": n }))
        }
        ("GET", "/control/vitals") => serde_json::to_value(&*lock(&shared.vitals)).map_err(bad),
        ("POST", "/control/vitals") => {
            let change: Value = serde_json::from_slice(body).map_err(bad)?;
            let mut vitals = lock(&shared.vitals);
            let mut merged = serde_json::to_value(&*vitals).map_err(bad)?;
            if let (Some(into), Some(from)) = (merged.as_object_mut(), change.as_object()) {
                into.extend(from.clone());
            }
            *vitals = serde_json::from_value::<Vitals>(merged).map_err(bad)?;
            Ok(json!({}))
        }
        ("POST", "/control/unload") => {
            shared.unload();
            Ok(json!({}))
        }
        _ => Err((404, format!("no control route {} {}", head.method, head.target))),
    }
}

fn requests(shared: &Shared) -> Value {
    let requests = shared.recorder.requests();
    requests
        .iter()
        .map(|r| {
            json!({
                "connection": r.connection,
                "sequence": r.sequence,
                "method": r.method,
                "target": r.target,
                "headers": r.headers,
                "body": String::from_utf8_lossy(&r.body),
                "complete": r.complete,
            })
        })
        .collect()
}
