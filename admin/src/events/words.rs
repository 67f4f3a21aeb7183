//! An event of a data plane in the words of the history.

use router::planes::{Event, EventKind};
use serde_json::{Value, json};

/// Longest text of diagnostics that is kept, bytes.
const DIAGNOSTICS_MAX: usize = 4096;

/// What the history says of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Words {
    /// What kind of thing.
    pub kind: &'static str,
    /// Whom it happened to.
    pub subject: String,
    /// More of it.
    pub detail: Value,
}

/// The words for an event of a plane.
#[must_use]
pub fn words(plane: &str, event: &Event) -> Words {
    let (kind, subject, mut detail) = match &event.kind {
        EventKind::Published { version } => {
            ("published", plane.to_owned(), json!({ "version": version }))
        }
        EventKind::Health { backend, from, to } => {
            let detail = json!({ "from": from.as_str(), "to": to.as_str() });
            ("health", backend.to_string(), detail)
        }
        EventKind::Breaker { backend, transition } => {
            let detail = json!({
                "from": transition.from.as_str(),
                "to": transition.to.as_str(),
                "open_for_ms": transition.open_for.map(|time| time.as_millis()),
            });
            ("breaker", backend.to_string(), detail)
        }
        EventKind::Refused { diagnostics } => {
            let mut ends = (0..=DIAGNOSTICS_MAX.min(diagnostics.len())).rev();
            let end = ends.find(|at| diagnostics.is_char_boundary(*at)).unwrap_or(0);
            let text = &diagnostics[..end];
            ("refused", plane.to_owned(), json!({ "diagnostics": text }))
        }
        EventKind::Discovered { backend, models } => {
            ("discovered", backend.to_string(), json!({ "models": models }))
        }
    };
    if let Some(detail) = detail.as_object_mut() {
        detail.retain(|_, value| !value.is_null());
        detail.insert("plane".to_owned(), json!(plane));
    }
    Words { kind, subject, detail }
}
