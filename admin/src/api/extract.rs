//! What handlers read of a request, with a problem for everything that cannot be read.

use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::json::Object;
use crate::api::problem::{Flaw, Kind, Problem};

/// Largest body, but for imports.
pub(crate) const BODY_MAX: usize = 1 << 20;
/// Longest wait for a whole body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The query, by names that are known.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(Problem::new(Kind::InvalidRequest, rejection.body_text())),
        }
    }
}

/// The `{id}` of the path: an object's id or its name.
pub(crate) struct Id(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<Path<String>, PathRejection> =
            Path::from_request_parts(parts, state).await;
        match path {
            Ok(Path(id)) => Ok(Self(id)),
            Err(rejection) => Err(Problem::new(Kind::InvalidRequest, rejection.body_text())),
        }
    }
}

/// A body of `application/json`.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        expect_type(&parts.headers, "application/json")?;
        // An object, and no name twice: serde alone would take a list for a struct.
        let Object(map) = json(&read(body, BODY_MAX).await?)?;
        let mut value = Value::Object(map);
        make_whole(&mut value);
        typed(value).map(Self)
    }
}

/// Whole numbers are integers however they are written (JSON Schema): `15.0` is 15.
fn make_whole(value: &mut Value) {
    match value {
        Value::Number(number) => {
            #[expect(clippy::cast_possible_truncation, reason = "whole, and within 53 bits")]
            let whole = number
                .as_f64()
                .filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15)
                .map(|float| float as i64);
            if let Some(whole) = whole {
                *number = whole.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(make_whole),
        Value::Object(map) => map.values_mut().for_each(make_whole),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// What a value says, typed.
fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let pointer = pointer(error.path());
        let detail = error.into_inner().to_string();
        Problem::invalid(vec![Flaw { pointer, code: "invalid_value".to_owned(), detail }])
    })
}

/// Parses a body; serde_json itself refuses what is nested deeper than 128.
pub(crate) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let pointer = pointer(error.path());
        let inner = error.into_inner();
        let detail = inner.to_string();
        if inner.is_data() {
            Problem::invalid(vec![Flaw { pointer, code: "invalid_value".to_owned(), detail }])
        } else {
            Problem::new(Kind::InvalidRequest, detail)
        }
    })?;
    reader.end().map_err(|error| Problem::new(Kind::InvalidRequest, error.to_string()))?;
    Ok(value)
}

/// Where serde was, as a JSON pointer.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut out = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => out.push_str(&format!("/{index}")),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                out.push('/');
                out.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Unknown => {}
        }
    }
    out
}

/// Refuses bodies of another type; pages of other sites can send forms and plain text without being asked.
pub(crate) fn expect_type(headers: &HeaderMap, media: &str) -> Result<(), Problem> {
    let mut all = headers.get_all(CONTENT_TYPE).iter();
    let given = match (all.next(), all.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    };
    let given = given.map(|value| value.split(';').next().unwrap_or_default().trim());
    if given.is_some_and(|given| given.eq_ignore_ascii_case(media)) {
        return Ok(());
    }
    Err(Problem::new(Kind::UnsupportedMediaType, format!("send `Content-Type: {media}`")))
}

/// Reads a whole body within its bounds.
pub(crate) async fn read(body: Body, most: usize) -> Result<Bytes, Problem> {
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, most).collect()).await;
    match collected {
        Err(_) => Err(Problem::new(Kind::RequestTimeout, "the body took longer than 30 s")),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Problem::new(Kind::TooLarge, format!("a body may have {most} bytes")))
        }
        Ok(Err(_)) => Err(Problem::new(Kind::InvalidRequest, "the body broke off")),
    }
}
