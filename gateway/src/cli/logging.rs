//! The process's log: one JSON object a line on standard error, or text on a terminal.

use std::io::IsTerminal;

use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{Handle, Layer};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

/// Changes the level of a running log.
#[derive(Clone)]
pub(crate) struct LogHandle(Handle<EnvFilter, Registry>);

impl LogHandle {
    pub(crate) fn set_level(&self, level: &str) {
        // Without a subscriber there is nothing to change.
        let _ = self.0.reload(filter(level));
    }
}

/// `RUST_LOG` overrides the configured level.
fn filter(level: &str) -> EnvFilter {
    EnvFilter::try_from_default_env()
        .or_else(|_| EnvFilter::try_new(level))
        .unwrap_or_else(|_| EnvFilter::new("info"))
}

/// Starts logging at `level`; `json` says how, `None` = text on a terminal only.
pub(crate) fn start(level: &str, json: Option<bool>) -> LogHandle {
    let (filter, handle) = Layer::new(filter(level));
    let json = json.unwrap_or_else(|| !std::io::stderr().is_terminal());
    let registry = tracing_subscriber::registry().with(filter);
    let started = if json {
        let lines = layer().json().flatten_event(true).with_current_span(false);
        registry.with(lines.with_span_list(false).with_writer(std::io::stderr)).try_init()
    } else {
        registry.with(layer().with_writer(std::io::stderr).with_target(false)).try_init()
    };
    // A second start, as in tests, changes nothing.
    let _ = started;
    LogHandle(handle)
}
