//! How an attempt ends: the vocabulary that status codes, metrics, breakers and logs are columns of.

use std::time::Duration;

/// Who is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The client.
    Downstream,
    /// This gateway: a limit, a rule, a defect of ours.
    Gateway,
    /// The inference server or the way to it.
    Upstream,
}

/// How far an attempt had come when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Before there was a connection (DNS, TCP, TLS).
    Connect,
    /// While the request was being written.
    SendBody,
    /// Request written, no complete response head yet.
    AwaitHead,
    /// Response head there, no content event yet.
    FirstEvent,
    /// Content was delivered to the client.
    MidStream,
}

/// What went wrong. The exhaustive table in the gateway's `error.rs` gives each its status, code, label and log level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The address could not be resolved, refused the connection, or the network failed.
    ConnectFailed,
    /// No connection within `timeouts.connect`.
    ConnectTimeout,
    /// The TLS handshake failed.
    TlsFailed,
    /// The connection was lost or closed before the answer was complete.
    ConnectionLost,
    /// What came back was not HTTP, or broke its framing.
    BadResponse,
    /// No first event within `timeouts.first_event` (or `timeouts.load`).
    FirstEventTimeout,
    /// No event within `timeouts.idle` after the first.
    IdleTimeout,
    /// A plain answer was not complete within `timeouts.response`.
    ResponseTimeout,
    /// The request exceeded `timeouts.total`.
    TotalTimeout,
    /// The upstream answered 5xx (or 408, 424): its own fault.
    ServerError,
    /// The upstream answered 429 or 503: it is there and will not serve this now.
    Overloaded,
    /// The upstream refused our credentials (401, 403).
    Unauthorized,
    /// The upstream does not serve this model (404).
    ModelAbsent,
    /// The stream carried an error event.
    ErrorEvent,
    /// The stream ended without a finish reason and without `[DONE]`.
    Unfinished,
    /// The upstream says that the request itself is wrong (other 4xx and what counts as such).
    ClientFault,
}

/// What may be done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// Nothing: the answer is final.
    Never,
    /// The same backend on a fresh connection, once: a reused connection died before the first response byte.
    SameBackend,
    /// The next candidate of the plan.
    OtherBackend,
}

/// One failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Who is at fault.
    pub origin: Origin,
    /// How far the attempt had come.
    pub stage: Stage,
    /// What went wrong.
    pub kind: FailureKind,
    /// What may be done about it.
    pub retry: Retry,
    /// How long the upstream asked to be left alone.
    pub retry_after: Option<Duration>,
}

/// The one end of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A first content event or a complete plain answer came.
    Success,
    /// The client left; says nothing about the backend.
    Abandoned,
    /// The attempt failed.
    Failure(Failure),
}
