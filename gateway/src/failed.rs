//! A failed attempt: what the router learns of it, and what the client would be told.

use std::time::Duration;

use adapters::{ErrorEvent, UpstreamError, Verdict};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::response::Parts;
use http::{HeaderValue, StatusCode};
use router::outcome::{Failure, FailureKind, Origin, Retry, Stage};

use crate::attempt::Aim;
use crate::dial::DialError;
use crate::error::{ErrorKind, Rejection};

/// One attempt's failure.
#[derive(Debug, Clone)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) rejection: Rejection,
    /// The prompt was too long for this model: a larger context may take it.
    pub(crate) context_length: bool,
    /// The backend says that it has no such model, which is more than not doing this operation.
    pub(crate) absent: bool,
    /// The connection was lost after the whole request was written, before any content of an answer: if the backend takes
    /// no new connection either, it has died with this request in its hands.
    pub(crate) death: bool,
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

impl Failed {
    /// A failure of the backend that it did not put into words.
    pub(crate) fn upstream(aim: &Aim, kind: FailureKind, stage: Stage) -> Self {
        // A plain answer that took too long has cost its time; doing it again elsewhere would double that.
        let retry = match kind {
            FailureKind::ResponseTimeout | FailureKind::TotalTimeout => Retry::Never,
            _ => Retry::OtherBackend,
        };
        let failure = Failure { origin: Origin::Upstream, stage, kind, retry, retry_after: None };
        let rejection = Rejection::upstream(kind, stage, &aim.backend);
        let death = kind == FailureKind::ConnectionLost
            && matches!(stage, Stage::AwaitHead | Stage::FirstEvent);
        Self { failure, rejection, context_length: false, absent: false, death }
    }

    pub(crate) fn dial(aim: &Aim, error: &DialError) -> Self {
        let kind = match error {
            DialError::Address(_) | DialError::Name(_) | DialError::Failed(_) => {
                FailureKind::ConnectFailed
            }
            DialError::Tls(_) => FailureKind::TlsFailed,
            DialError::Timeout => FailureKind::ConnectTimeout,
        };
        tracing::debug!(backend = aim.backend, %error, "no connection");
        let mut failed = Self::upstream(aim, kind, Stage::Connect);
        if let Some(reason) = error.reason() {
            failed.rejection.message = format!("{}: {reason}", failed.rejection.message);
        }
        failed
    }

    /// A defect of ours ended the attempt.
    pub(crate) fn defect() -> Self {
        let failure = Failure {
            origin: Origin::Gateway,
            stage: Stage::SendBody,
            kind: FailureKind::BadResponse,
            retry: Retry::Never,
            retry_after: None,
        };
        let rejection = Rejection::new(ErrorKind::Internal, "the gateway met a defect of its own");
        Self { failure, rejection, context_length: false, absent: false, death: false }
    }

    /// The backend answered with an error status.
    pub(crate) fn answer(
        aim: &Aim,
        verdict: Verdict,
        head: &Parts,
        body: &Bytes,
        retry_after_max: Duration,
    ) -> Self {
        let said = UpstreamError::read(body);
        let retry_after = head
            .headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| adapters::retry_after(value, retry_after_max));
        let content_type = head.headers.get(CONTENT_TYPE).cloned().unwrap_or(JSON);
        let passed = said.canonical.then(|| (body.clone(), content_type));
        Self::judged(aim, verdict, head.status, &said, passed, retry_after)
    }

    /// The backend's stream began with an error event, or its plain answer is one.
    pub(crate) fn event(aim: &Aim, verdict: Verdict, event: &ErrorEvent) -> Self {
        let status = event
            .status()
            .and_then(|status| StatusCode::from_u16(status).ok())
            .unwrap_or(StatusCode::BAD_GATEWAY);
        let passed = event.error.canonical.then(|| (Bytes::copy_from_slice(&event.data), JSON));
        Self::judged(aim, verdict, status, &event.error, passed, None)
    }

    fn judged(
        aim: &Aim,
        verdict: Verdict,
        status: StatusCode,
        said: &UpstreamError,
        passed: Option<(Bytes, HeaderValue)>,
        retry_after: Option<Duration>,
    ) -> Self {
        let (kind, origin, retry) = match verdict {
            Verdict::ClientFault | Verdict::ContextLength => {
                (FailureKind::ClientFault, Origin::Downstream, Retry::Never)
            }
            Verdict::NotServed => (FailureKind::ModelAbsent, Origin::Upstream, Retry::OtherBackend),
            Verdict::Failure(kind) => (kind, Origin::Upstream, Retry::OtherBackend),
            Verdict::Success => (FailureKind::BadResponse, Origin::Upstream, Retry::OtherBackend),
        };
        let stage = Stage::AwaitHead;
        let mut rejection = Rejection::upstream(kind, stage, &aim.backend);
        if kind == FailureKind::ClientFault {
            rejection.kind = ErrorKind::ClientFault;
        }
        if keeps_status(kind, status) {
            rejection.status = Some(status);
            rejection.body = passed;
        }
        if rejection.body.is_none() && !said.message.is_empty() && shows_words(kind) {
            rejection.message = said.message.clone();
        }
        rejection.retry_after = retry_after;
        let failure = Failure { origin, stage, kind, retry, retry_after };
        let context_length = verdict == Verdict::ContextLength;
        let absent = verdict == Verdict::Failure(FailureKind::ModelAbsent);
        Self { failure, rejection, context_length, absent, death: false }
    }
}

/// Whether the client sees the upstream's own status. Not where it speaks of the gateway's affairs (its credentials), of
/// another hop (424, 408), or is no status of an answer at all (3xx, odd 2xx).
fn keeps_status(kind: FailureKind, status: StatusCode) -> bool {
    match kind {
        FailureKind::ClientFault | FailureKind::Overloaded => status.as_u16() >= 400,
        FailureKind::ServerError | FailureKind::ErrorEvent => status.is_server_error(),
        FailureKind::ConnectFailed
        | FailureKind::ConnectTimeout
        | FailureKind::TlsFailed
        | FailureKind::ConnectionLost
        | FailureKind::BadResponse
        | FailureKind::FirstEventTimeout
        | FailureKind::IdleTimeout
        | FailureKind::ResponseTimeout
        | FailureKind::TotalTimeout
        | FailureKind::Unauthorized
        | FailureKind::ModelAbsent
        | FailureKind::Unfinished => false,
    }
}

/// Whether the upstream's words help the client; those about our credentials do not.
const fn shows_words(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::ClientFault
            | FailureKind::Overloaded
            | FailureKind::ServerError
            | FailureKind::ErrorEvent
    )
}
