//! The process's log: one JSON object a line on standard error, or text on a terminal.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging at `level`; `RUST_LOG` overrides it.
pub(crate) fn start(level: &str, json: Option<bool>) {
    let filter = EnvFilter::try_from_default_env()
        .or_else(|_| EnvFilter::try_new(level))
        .unwrap_or_else(|_| EnvFilter::new("info"));
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
}
