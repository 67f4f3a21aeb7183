//! Entity tags: the condition of writes, and reads that spare what the caller has.

use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;

use crate::api::problem::{Kind, Problem};
use crate::registry::IfMatch;

/// The `If-Match` of a write; there is no write without one.
pub(crate) struct Condition(pub(crate) IfMatch);

impl<S: Send + Sync> FromRequestParts<S> for Condition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let needed = || {
            Problem::new(
                Kind::PreconditionRequired,
                "send `If-Match` with the object's ETag, or `*`",
            )
        };
        let header = joined(&parts.headers, &IF_MATCH).ok_or_else(needed)?;
        Ok(Self(IfMatch::parse(&header)))
    }
}

/// All lines of a header as one list (RFC 9110, 5.3).
fn joined(headers: &HeaderMap, name: &http::HeaderName) -> Option<String> {
    let lines: Vec<&str> =
        headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).collect();
    (!lines.is_empty()).then(|| lines.join(","))
}

/// The layer around reads: gives an answer without a tag that of its body, and 304 to those who have it.
pub(crate) async fn conditional(request: Request, next: Next) -> Response {
    let known = joined(request.headers(), &IF_NONE_MATCH);
    let response = next.run(request).await;
    if response.status() != StatusCode::OK {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(body) = body.collect().await else {
        return Problem::new(Kind::Internal, "the answer broke off").into_response();
    };
    let body = body.to_bytes();
    let tag = parts.headers.get(ETAG).cloned().unwrap_or_else(|| {
        let tag = format!("\"{}\"", &blake3::hash(&body).to_hex()[..24]);
        HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\""))
    });
    parts.headers.insert(ETAG, tag.clone());
    if known.is_some_and(|known| tag.to_str().is_ok_and(|tag| is_among(tag, &known))) {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        response.headers_mut().insert(ETAG, tag);
        return response;
    }
    Response::from_parts(parts, Body::from(body))
}

/// `If-None-Match` compares weakly (RFC 9110, 13.1.2).
fn is_among(tag: &str, known: &str) -> bool {
    let same = |one: &str| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag;
    known.split(',').map(str::trim).any(same)
}

#[cfg(test)]
mod tests {
    use super::is_among;

    #[test]
    fn tags_are_compared_weakly() {
        assert!(is_among("\"a\"", "\"b\", W/\"a\""));
        assert!(is_among("\"a\"", "*"));
        assert!(!is_among("\"a\"", "\"ab\", a"));
    }
}
