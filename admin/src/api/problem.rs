//! The one table from what went wrong to what callers of the admin API see: problem details as RFC 9457 has them.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

/// The media type of every error.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";
/// Where a reader finds the words about a code; the fragment is the code.
pub(crate) const TYPE_BASE: &str = "/admin/docs#";
/// Seconds after which a caller may come again, where the reason passes by itself.
const RETRY_SECONDS: u64 = 1;
/// Most flaws that one answer lists.
const ERRORS_MAX: usize = 100;

/// Every way in which a request can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    InvalidRequest,
    Unauthorized,
    Forbidden,
    HostRefused,
    OriginRefused,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    Exists,
    ReadOnly,
    Referenced,
    NoMasterKey,
    Conflict,
    InProgress,
    Stale,
    TooLarge,
    UnsupportedMediaType,
    Invalid,
    KeyReused,
    PreconditionRequired,
    TooManyRequests,
    Internal,
    Unreachable,
    Busy,
    StoreUnavailable,
    StoreFull,
}

/// The columns of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) status: StatusCode,
    /// The fragment of `type`.
    pub(crate) code: &'static str,
    pub(crate) title: &'static str,
}

impl Kind {
    /// All of them, in the order of the documents.
    pub(crate) const ALL: [Self; 26] = [
        Self::InvalidRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::HostRefused,
        Self::OriginRefused,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::Exists,
        Self::ReadOnly,
        Self::Referenced,
        Self::NoMasterKey,
        Self::Conflict,
        Self::InProgress,
        Self::Stale,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::Invalid,
        Self::KeyReused,
        Self::PreconditionRequired,
        Self::TooManyRequests,
        Self::Internal,
        Self::Unreachable,
        Self::Busy,
        Self::StoreUnavailable,
        Self::StoreFull,
    ];

    /// Its row. `docs/admin-errors.md` shows the same table.
    pub(crate) const fn row(self) -> Row {
        use StatusCode as S;
        let (status, code, title) = match self {
            Self::InvalidRequest => {
                (S::BAD_REQUEST, "invalid_request", "The request cannot be read")
            }
            Self::Unauthorized => (S::UNAUTHORIZED, "unauthorized", "A valid token is needed"),
            Self::Forbidden => (S::FORBIDDEN, "forbidden", "The token's role may not do this"),
            Self::HostRefused => (S::FORBIDDEN, "host_refused", "Not a name of this listener"),
            Self::OriginRefused => {
                (S::FORBIDDEN, "origin_refused", "Another site's page may not call this")
            }
            Self::NotFound => (S::NOT_FOUND, "not_found", "There is no such thing"),
            Self::MethodNotAllowed => {
                (S::METHOD_NOT_ALLOWED, "method_not_allowed", "The path takes other methods")
            }
            Self::RequestTimeout => {
                (S::REQUEST_TIMEOUT, "request_timeout", "The body came too slowly")
            }
            Self::Exists => (S::CONFLICT, "exists", "The name is taken"),
            Self::ReadOnly => {
                (S::CONFLICT, "read_only", "The object belongs to the configuration file")
            }
            Self::Referenced => (S::CONFLICT, "referenced", "Other objects refer to this one"),
            Self::NoMasterKey => (S::CONFLICT, "no_master_key", "Secrets cannot be sealed"),
            Self::Conflict => (S::CONFLICT, "conflict", "The state does not allow this"),
            Self::InProgress => (S::CONFLICT, "in_progress", "The same request is still under way"),
            Self::Stale => (S::PRECONDITION_FAILED, "stale", "The object has changed"),
            Self::TooLarge => (S::PAYLOAD_TOO_LARGE, "too_large", "The body is too large"),
            Self::UnsupportedMediaType => (
                S::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "The body has the wrong content type",
            ),
            Self::Invalid => {
                (S::UNPROCESSABLE_ENTITY, "invalid", "The content does not hold together")
            }
            Self::KeyReused => (
                S::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "The idempotency key was used for another request",
            ),
            Self::PreconditionRequired => {
                (S::PRECONDITION_REQUIRED, "precondition_required", "If-Match is needed")
            }
            Self::TooManyRequests => {
                (S::TOO_MANY_REQUESTS, "too_many_requests", "Too many at once")
            }
            Self::Internal => (S::INTERNAL_SERVER_ERROR, "internal", "A defect of forebay"),
            Self::Unreachable => (S::BAD_GATEWAY, "unreachable", "A data plane does not answer"),
            Self::Busy => (S::SERVICE_UNAVAILABLE, "busy", "The store is busy"),
            Self::StoreUnavailable => {
                (S::SERVICE_UNAVAILABLE, "store_unavailable", "The store cannot be read")
            }
            Self::StoreFull => {
                (S::INSUFFICIENT_STORAGE, "store_full", "The store cannot be written")
            }
        };
        Row { status, code, title }
    }

    /// What a caller should know of it.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::InvalidRequest => {
                "The query, a header or the path is wrong, or the body is no JSON."
            }
            Self::Unauthorized => {
                "No token, an unknown one, one that is disabled or one that has expired; the words are the same for all."
            }
            Self::Forbidden => {
                "`x-forebay-role` of an operation says which role it needs. No token makes or changes one above its own role."
            }
            Self::HostRefused => {
                "The listener answers to addresses, `localhost` and the names in `admin.hosts`; this keeps out names that were made to point here."
            }
            Self::OriginRefused => {
                "A browser sent this from a page of another origin. There is no CORS here."
            }
            Self::NotFound => "No such object, version, job or path.",
            Self::MethodNotAllowed => "`Allow` says which.",
            Self::RequestTimeout => "A body may take 30 s.",
            Self::Exists => "Another object of the kind has the name.",
            Self::ReadOnly => "The detail names file and line. Overrides can change some of it.",
            Self::Referenced => "The detail names them; change these first.",
            Self::NoMasterKey => {
                "Credentials are only ever kept sealed: set `store.master_key` or FOREBAY_MASTER_KEY."
            }
            Self::Conflict => "The detail says why.",
            Self::InProgress => "A request with this `Idempotency-Key` has not been answered yet.",
            Self::Stale => {
                "`If-Match` names another state; `ETag` of this answer is the one now. Read it again."
            }
            Self::TooLarge => "A body may have 1 MiB, a TOML text 16 MiB.",
            Self::UnsupportedMediaType => {
                "`application/json`; merge patches are `application/merge-patch+json`, configuration files `application/toml`."
            }
            Self::Invalid => {
                "`errors` lists everything that is wrong, with JSON pointers into the body. Nothing was changed."
            }
            Self::KeyReused => "Take a new `Idempotency-Key` for each thing to be done.",
            Self::PreconditionRequired => "Changes need the `ETag` of what they change, or `*`.",
            Self::TooManyRequests => "Too many requests at once, or too many wrong tokens.",
            Self::Internal => "The log has more under the `request_id`.",
            Self::Unreachable => {
                "What was asked for needs it. `GET /admin/state` shows which do answer."
            }
            Self::Busy => {
                "Too many requests wait for it, or another process holds it; the same may work a moment later."
            }
            Self::StoreUnavailable => {
                "The file is gone, damaged or of a newer build. The data planes serve on."
            }
            Self::StoreFull => {
                "The disk is full or read-only. Nothing was changed, and the data planes serve on."
            }
        }
    }

    /// The closest row for an answer that was made with nothing but a status.
    fn of_status(status: StatusCode) -> Self {
        Self::ALL
            .into_iter()
            .find(|kind| kind.row().status == status)
            .unwrap_or(if status.is_client_error() { Self::InvalidRequest } else { Self::Internal })
    }
}

/// One thing that is wrong with a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Flaw {
    /// Where, as a JSON pointer into the body (RFC 6901); empty for the whole.
    #[schema(example = "/timeouts/first_event")]
    pub(crate) pointer: String,
    /// What, in one word.
    #[schema(example = "invalid_value")]
    pub(crate) code: String,
    /// What, for people.
    pub(crate) detail: String,
}

/// Why a request failed. As an answer it becomes a document once the request's id is known (see [`render`]).
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    errors: Vec<Flaw>,
    etag: Option<String>,
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new(), etag: None }
    }

    /// A body whose parts are wrong.
    pub(crate) fn invalid(errors: Vec<Flaw>) -> Self {
        let detail = errors.first().map_or_else(String::new, |flaw| flaw.detail.clone());
        Self { kind: Kind::Invalid, detail, errors, etag: None }
    }

    /// A parameter of the query or the path that is wrong.
    pub(crate) fn parameter(name: &str, detail: impl Into<String>) -> Self {
        Self::new(Kind::InvalidRequest, format!("{name}: {}", detail.into()))
    }

    /// There is no such object.
    pub(crate) fn not_found(what: &str, id: &str) -> Self {
        Self::new(Kind::NotFound, format!("there is no {what} {id:?}"))
    }

    /// Tells which state the object is in now.
    pub(crate) fn with_etag(mut self, etag: impl Into<String>) -> Self {
        self.etag = Some(etag.into());
        self
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.kind.row().status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The document of an error (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// Which kind of problem; leads to its description.
    #[serde(rename = "type")]
    #[schema(format = "uri-reference", example = "/admin/docs#stale")]
    kind: String,
    /// The same for all problems of this type.
    #[schema(example = "The object has changed")]
    title: &'a str,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599, example = 412)]
    status: u16,
    /// What happened this time.
    detail: &'a str,
    /// The request; the log has the same id.
    #[schema(example = "b3a1f5c2d4e6978001122334455667788")]
    request_id: &'a str,
    /// Everything that is wrong with the body, at most 100 entries.
    #[serde(skip_serializing_if = "<[Flaw]>::is_empty")]
    #[schema(required = false)]
    errors: &'a [Flaw],
}

/// Gives every failed answer its document. One that says nothing (axum's own) gets the row of its status.
pub(crate) fn render(response: Response, request_id: &str) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    let problem = parts.extensions.remove::<Problem>().unwrap_or_else(|| {
        let kind = Kind::of_status(status);
        Problem::new(kind, kind.row().title)
    });
    let row = problem.kind.row();
    let shown = problem.errors.len().min(ERRORS_MAX);
    let document = ProblemBody {
        kind: format!("{TYPE_BASE}{}", row.code),
        title: row.title,
        status: row.status.as_u16(),
        detail: &problem.detail,
        request_id,
        errors: &problem.errors[..shown],
    };
    let body = serde_json::to_vec(&document).unwrap_or_default();
    let allow = parts.headers.remove(ALLOW);
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = row.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    if let Some(allow) = allow {
        headers.insert(ALLOW, allow);
    }
    match problem.kind {
        Kind::Unauthorized => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"forebay\""));
        }
        Kind::Busy | Kind::StoreUnavailable | Kind::TooManyRequests | Kind::InProgress => {
            headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
        }
        _ => {}
    }
    if let Some(etag) = problem.etag.and_then(|etag| HeaderValue::try_from(etag).ok()) {
        headers.insert(http::header::ETAG, etag);
    }
    response
}
