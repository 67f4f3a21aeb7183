//! `Idempotency-Key`: what was asked for twice under one key is done once, and answered twice.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt;

use crate::api::caller::Caller;
use crate::api::extract::{BODY_MAX, read};
use crate::api::moment::now_ms;
use crate::api::problem::{Kind, Problem};
use crate::api::state::Api;
use crate::store::{AnswerKey, StoreError, StoredAnswer};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Longest key, in bytes.
const KEY_MAX: usize = 255;
/// What of an answer's head is kept.
const KEPT: [HeaderName; 3] = [CONTENT_TYPE, LOCATION, ETAG];

/// What is to be kept instead of an answer's body, which shows a secret this once.
#[derive(Debug, Clone)]
pub(crate) struct KeepInstead(pub(crate) Bytes);

/// The requests that are under way, by key; never more than requests may be.
#[derive(Clone, Default)]
pub(crate) struct UnderWay(Arc<Mutex<HashSet<[u8; 32]>>>);

struct Held<'a>(&'a UnderWay, [u8; 32]);

impl UnderWay {
    fn hold(&self, id: [u8; 32]) -> Option<Held<'_>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(id).then_some(Held(self, id))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// The layer around routes that honour the header. Only answers of success are kept: a refused request changed nothing and
/// may be tried again as it is.
pub(crate) async fn once(api: Api, request: Request, next: Next) -> Response {
    match answer(api, request, next).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn answer(api: Api, request: Request, next: Next) -> Result<Response, Problem> {
    let Some(key) = key_of(request.headers())? else { return Ok(next.run(request).await) };
    let caller =
        request.extensions().get::<Caller>().map_or_else(String::new, |caller| caller.id.clone());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(String::new, |path| path.as_str().to_owned());
    let path = request.uri().to_string();
    let (parts, body) = request.into_parts();
    let body = read(body, BODY_MAX).await?;
    let asked = sha256(&[path.as_bytes(), &body]);
    let under_way = api.under_way().clone();
    let held = under_way.hold(sha256(&[&key, caller.as_bytes(), route.as_bytes()]));
    let _held =
        held.ok_or_else(|| Problem::new(Kind::InProgress, "a request with this key is under way"))?;
    let place = AnswerKey { key, token: caller, route };
    let looked_up = place.clone();
    let known: Result<_, StoreError> =
        api.store().read(move |tx| tx.answer(&looked_up, now_ms())).await;
    let known = known?;
    if let Some(known) = known {
        if known.request != asked {
            return Err(Problem::new(Kind::KeyReused, "this key came with another request before"));
        }
        return Ok(replay(known));
    }
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    if !response.status().is_success() {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = body
        .collect()
        .await
        .map_err(|_| Problem::new(Kind::Internal, "the answer broke off"))?
        .to_bytes();
    let kept = parts
        .extensions
        .get::<KeepInstead>()
        .map_or_else(|| body.clone(), |instead| instead.0.clone());
    let kept = StoredAnswer {
        request: asked,
        status: parts.status.as_u16(),
        headers: KEPT
            .iter()
            .filter_map(|name| {
                Some((name.to_string(), parts.headers.get(name)?.to_str().ok()?.to_owned()))
            })
            .collect(),
        body: kept.to_vec(),
    };
    let stored: Result<(), StoreError> =
        api.store().write(move |tx| tx.add_answer(&place, &kept, now_ms())).await;
    if let Err(error) = stored {
        // What was asked for is done; to say otherwise would be wrong.
        tracing::warn!(%error, "an answer was not kept for repeated requests");
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn key_of(headers: &HeaderMap) -> Result<Option<[u8; 32]>, Problem> {
    let mut all = headers.get_all(&IDEMPOTENCY_KEY).iter();
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(key), None) if (1..=KEY_MAX).contains(&key.len()) => {
            Ok(Some(sha256(&[key.as_bytes()])))
        }
        _ => Err(Problem::parameter(
            "Idempotency-Key",
            format!("one header of 1 to {KEY_MAX} bytes"),
        )),
    }
}

fn replay(known: StoredAnswer) -> Response {
    let mut response = Response::new(Body::from(known.body));
    *response.status_mut() = StatusCode::from_u16(known.status).unwrap_or(StatusCode::OK);
    let headers = response.headers_mut();
    for (name, value) in known.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    response
}

/// The digest of parts that cannot run into each other.
fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut all = Vec::new();
    for part in parts {
        all.extend_from_slice(&(part.len() as u64).to_le_bytes());
        all.extend_from_slice(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, &all).as_ref());
    out
}
