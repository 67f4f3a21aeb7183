//! What one request of the public API reads beside its route.

use std::time::Duration;

/// What one request of the public API reads beside its route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Longest time that a response head is held for the first content event.
    pub head_hold: Duration,
    /// Between keep-alive comments, once the head is out.
    pub keep_alive: Duration,
    /// Largest request body, bytes.
    pub max_body: u64,
    /// All bodies held at once, bytes.
    pub buffered_bytes: u64,
    /// Deepest JSON nesting.
    pub json_depth: u32,
    /// Time within which a body has to start, and the span over which its rate is averaged.
    pub body_timeout: Duration,
    /// Lowest average rate of a body being read, bytes per second.
    pub body_rate_min: u64,
    /// A client's write without progress.
    pub write_timeout: Duration,
    /// Largest incomplete event that the relay holds back, bytes.
    pub event_hold: u64,
    /// Largest `retry-after` that is sent or obeyed.
    pub retry_after_max: Duration,
    /// Idle upstream connections live this long.
    pub upstream_idle: Duration,
    /// Say in headers where an answer came from.
    pub expose_headers: bool,
    /// Further request headers that go upstream, lower case.
    pub forward_headers: Vec<String>,
    /// Origins that browsers may call from; `*` = any; empty = none.
    pub cors_origins: Vec<String>,
    /// Copy `max_completion_tokens` to `max_tokens` for Ollama.
    pub map_max_completion_tokens: bool,
}

impl Default for ServiceSpec {
    fn default() -> Self {
        Self {
            head_hold: Duration::from_secs(30),
            keep_alive: Duration::from_secs(15),
            max_body: 64 << 20,
            buffered_bytes: 1 << 30,
            json_depth: 128,
            body_timeout: Duration::from_secs(30),
            body_rate_min: 1024,
            write_timeout: Duration::from_secs(60),
            event_hold: 64 << 10,
            retry_after_max: Duration::from_secs(60),
            upstream_idle: Duration::from_secs(4),
            expose_headers: true,
            forward_headers: Vec::new(),
            cors_origins: Vec::new(),
            map_max_completion_tokens: true,
        }
    }
}
