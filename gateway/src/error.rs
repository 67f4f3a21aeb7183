//! The one table from what went wrong to what the client, the metrics and the log see. Nothing else maps errors.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use adapters::error::envelope;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use router::outcome::{FailureKind, Stage};

use crate::body::ClientBody;

/// Says whether an SDK should send the request again.
pub(crate) const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// The same as `retry-after`, finer; both OpenAI SDKs obey it first.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Everything that ends a request without the answer that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ErrorKind {
    InvalidRequest,
    UnsupportedMediaType,
    RequestTooLarge,
    RequestTimeout,
    NotFound,
    MethodNotAllowed,
    InvalidApiKey,
    PermissionDenied,
    ModelNotFound,
    UnknownRegion,
    RegionUnavailable,
    OperationNotServed,
    Saturated,
    QueueFull,
    QueueTimeout,
    /// A key has used up its requests, or runs as many as it may.
    LimitRequests,
    /// A key has used up its tokens.
    LimitTokens,
    /// A request that wants more tokens than its key may ever use at once.
    LimitUnfit,
    NoBackend,
    BudgetSpent,
    Poisonous,
    BuffersFull,
    ShuttingDown,
    NotCached,
    ReadTooSlowly,
    Internal,
    /// The upstream says that the request is wrong; its own answer is passed on.
    ClientFault,
    Upstream(FailureKind),
}

/// The columns of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) status: StatusCode,
    /// `error.code`, and the label in metrics and logs.
    pub(crate) code: &'static str,
    /// `error.type`.
    pub(crate) class: &'static str,
    /// `x-should-retry`, where we know.
    pub(crate) should_retry: Option<bool>,
    /// Worth a warning in the log.
    pub(crate) warn: bool,
}

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";
const LIMIT: &str = "rate_limit_error";

impl ErrorKind {
    /// It is about who asks, and says nothing of another who asks the same.
    pub(crate) const fn is_the_callers(self) -> bool {
        matches!(self, Self::InvalidApiKey | Self::PermissionDenied | Self::RegionUnavailable)
    }

    /// The row of this kind. `docs/errors.md` shows the same table.
    pub(crate) const fn row(self) -> Row {
        use StatusCode as S;
        let (status, code, class, should_retry, warn) = match self {
            Self::InvalidRequest => (S::BAD_REQUEST, "invalid_request", INVALID, None, false),
            Self::UnsupportedMediaType => {
                (S::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", INVALID, None, false)
            }
            Self::RequestTooLarge => {
                (S::PAYLOAD_TOO_LARGE, "request_too_large", INVALID, None, false)
            }
            Self::RequestTimeout => (S::REQUEST_TIMEOUT, "request_timeout", INVALID, None, false),
            Self::NotFound => (S::NOT_FOUND, "not_found", INVALID, None, false),
            Self::MethodNotAllowed => {
                (S::METHOD_NOT_ALLOWED, "method_not_allowed", INVALID, None, false)
            }
            Self::InvalidApiKey => (S::UNAUTHORIZED, "invalid_api_key", INVALID, None, false),
            Self::PermissionDenied => (S::FORBIDDEN, "permission_denied", INVALID, None, false),
            Self::ModelNotFound => (S::NOT_FOUND, "model_not_found", INVALID, None, false),
            Self::UnknownRegion => (S::BAD_REQUEST, "unknown_region", INVALID, None, false),
            Self::RegionUnavailable => {
                (S::SERVICE_UNAVAILABLE, "region_unavailable", SERVER, None, true)
            }
            Self::OperationNotServed | Self::NoBackend => {
                (S::SERVICE_UNAVAILABLE, "no_backend_available", SERVER, None, true)
            }
            Self::Saturated => (S::TOO_MANY_REQUESTS, "rate_limit_exceeded", LIMIT, None, false),
            Self::QueueFull => (S::TOO_MANY_REQUESTS, "queue_full", LIMIT, None, false),
            Self::QueueTimeout => (S::TOO_MANY_REQUESTS, "queue_timeout", LIMIT, None, false),
            Self::LimitRequests => {
                (S::TOO_MANY_REQUESTS, "rate_limit_exceeded", "requests", None, false)
            }
            Self::LimitTokens => {
                (S::TOO_MANY_REQUESTS, "rate_limit_exceeded", "tokens", None, false)
            }
            Self::LimitUnfit => {
                (S::TOO_MANY_REQUESTS, "rate_limit_exceeded", "tokens", Some(false), false)
            }
            Self::BudgetSpent => (S::SERVICE_UNAVAILABLE, "retry_budget_spent", SERVER, None, true),
            Self::Poisonous => (S::BAD_GATEWAY, "poison_request", SERVER, Some(false), true),
            Self::BuffersFull => (S::SERVICE_UNAVAILABLE, "buffers_full", SERVER, None, true),
            Self::ShuttingDown => {
                (S::SERVICE_UNAVAILABLE, "shutting_down", SERVER, Some(true), false)
            }
            Self::NotCached => (S::GATEWAY_TIMEOUT, "not_cached", INVALID, Some(false), false),
            Self::ReadTooSlowly => (S::REQUEST_TIMEOUT, "read_too_slowly", INVALID, None, false),
            Self::Internal => (S::INTERNAL_SERVER_ERROR, "internal_error", SERVER, None, true),
            Self::ClientFault => (S::BAD_REQUEST, "upstream_refused", INVALID, Some(false), false),
            Self::Upstream(kind) => return upstream_row(kind),
        };
        Row { status, code, class, should_retry, warn }
    }
}

/// Failover has already tried what could be tried, so an SDK's own retries would only multiply: `x-should-retry: false`,
/// except where the upstream asked for a later one.
const fn upstream_row(kind: FailureKind) -> Row {
    use FailureKind as F;
    use StatusCode as S;
    let (status, code, should_retry) = match kind {
        F::ConnectFailed => (S::BAD_GATEWAY, "upstream_unreachable", Some(false)),
        F::ConnectTimeout => (S::GATEWAY_TIMEOUT, "upstream_connect_timeout", Some(false)),
        F::TlsFailed => (S::BAD_GATEWAY, "upstream_tls_failed", Some(false)),
        F::ConnectionLost => (S::BAD_GATEWAY, "upstream_connection_lost", Some(false)),
        F::BadResponse => (S::BAD_GATEWAY, "upstream_bad_response", Some(false)),
        F::FirstEventTimeout | F::IdleTimeout | F::ResponseTimeout | F::TotalTimeout => {
            (S::GATEWAY_TIMEOUT, "upstream_timeout", Some(false))
        }
        F::ServerError | F::ErrorEvent => (S::BAD_GATEWAY, "upstream_error", Some(false)),
        F::Overloaded => (S::SERVICE_UNAVAILABLE, "upstream_overloaded", None),
        F::Unauthorized => (S::BAD_GATEWAY, "upstream_unauthorized", Some(false)),
        F::ModelAbsent => (S::NOT_FOUND, "model_not_found", None),
        F::Unfinished => (S::BAD_GATEWAY, "upstream_stream_broken", Some(false)),
        F::ClientFault => (S::BAD_REQUEST, "upstream_refused", Some(false)),
    };
    let class = match kind {
        F::ModelAbsent | F::ClientFault => INVALID,
        _ => SERVER,
    };
    Row { status, code, class, should_retry, warn: true }
}

/// One request's end in an error. Boxed: it travels in many results, and nearly never.
#[derive(Debug, Clone)]
pub(crate) struct Rejection(Box<Details>);

/// What one request adds to its row.
#[derive(Debug, Clone)]
pub(crate) struct Details {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    pub(crate) param: Option<&'static str>,
    pub(crate) retry_after: Option<Duration>,
    /// An upstream's own status, where it is kept.
    pub(crate) status: Option<StatusCode>,
    /// An upstream's own body, passed byte for byte, with its content type.
    pub(crate) body: Option<(Bytes, HeaderValue)>,
    allow: Option<&'static str>,
}

impl Deref for Rejection {
    type Target = Details;

    fn deref(&self) -> &Details {
        &self.0
    }
}

impl DerefMut for Rejection {
    fn deref_mut(&mut self) -> &mut Details {
        &mut self.0
    }
}

impl Rejection {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Details {
            kind,
            message: message.into(),
            param: None,
            retry_after: None,
            status: None,
            body: None,
            allow: None,
        }))
    }

    pub(crate) fn upstream(kind: FailureKind, stage: Stage, backend: &str) -> Self {
        let what = describe(kind, stage);
        Self::new(ErrorKind::Upstream(kind), format!("backend {backend}: {what}"))
    }

    pub(crate) fn param(mut self, param: Option<&'static str>) -> Self {
        self.param = param;
        self
    }

    pub(crate) fn retry_after(mut self, after: Option<Duration>) -> Self {
        self.retry_after = after;
        self
    }

    pub(crate) fn method(allow: &'static str) -> Self {
        let message = format!("this path takes {allow}");
        let mut rejection = Self::new(ErrorKind::MethodNotAllowed, message);
        rejection.allow = Some(allow);
        rejection
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status.unwrap_or_else(|| self.kind.row().status)
    }

    /// The canonical envelope, or the upstream's own body.
    pub(crate) fn json(&self) -> Bytes {
        if let Some((body, _)) = &self.body {
            return body.clone();
        }
        let row = self.kind.row();
        envelope(&self.message, row.class, self.param, Some(row.code))
    }

    /// The in-band form for a stream whose head is already out.
    pub(crate) fn event(&self) -> Bytes {
        adapters::error::event(&self.json())
    }

    /// The response; `retry_after_max` bounds what clients are asked to wait.
    pub(crate) fn response(&self, retry_after_max: Duration) -> Response<ClientBody> {
        let row = self.kind.row();
        let mut response = Response::new(ClientBody::full(self.json()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        let content_type = self.body.as_ref().map_or(JSON, |(_, kind)| kind.clone());
        headers.insert(CONTENT_TYPE, content_type);
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.kind == ErrorKind::InvalidApiKey {
            // RFC 9110, 15.5.2: a 401 says how to do better.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.retry_after {
            insert_retry_after(headers, after.min(retry_after_max));
            if matches!(self.kind, ErrorKind::LimitRequests | ErrorKind::LimitTokens) {
                let millis = after.min(retry_after_max).as_micros().div_ceil(1000);
                let millis = u64::try_from(millis).unwrap_or(u64::MAX);
                headers.insert(RETRY_AFTER_MS, HeaderValue::from(millis));
            }
        }
        // Coming back as late as may be asked for would still be too early.
        let too_long = self.retry_after.is_some_and(|after| after > retry_after_max)
            && self.kind.row().code == "rate_limit_exceeded";
        if let Some(retry) = row.should_retry.or(too_long.then_some(false)) {
            let value = if retry { "true" } else { "false" };
            headers.insert(X_SHOULD_RETRY, HeaderValue::from_static(value));
        }
        response
    }
}

/// Whole seconds, rounded up, at least one: an SDK that waits 0 s hammers.
fn insert_retry_after(headers: &mut HeaderMap, after: Duration) {
    let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
}

const fn describe(kind: FailureKind, stage: Stage) -> &'static str {
    use FailureKind as F;
    match kind {
        F::ConnectFailed => "could not be reached",
        F::ConnectTimeout => "gave no connection in time",
        F::TlsFailed => "failed the TLS handshake",
        F::ConnectionLost => match stage {
            Stage::MidStream => "lost the connection in the middle of the answer",
            Stage::Connect | Stage::SendBody | Stage::AwaitHead | Stage::FirstEvent => {
                "lost the connection before it answered"
            }
        },
        F::BadResponse => "sent something that is not a valid answer",
        F::FirstEventTimeout => "gave no first event in time",
        F::IdleTimeout => "stalled in the middle of the answer",
        F::ResponseTimeout => "gave no complete answer in time",
        F::TotalTimeout => "did not finish within the request's total time",
        F::ServerError => "failed",
        F::Overloaded => "is overloaded",
        F::Unauthorized => "refused the gateway's credentials",
        F::ModelAbsent => "does not serve this model",
        F::ErrorEvent => "failed while it answered",
        F::Unfinished => "ended the answer before it was finished",
        F::ClientFault => "refused the request",
    }
}
