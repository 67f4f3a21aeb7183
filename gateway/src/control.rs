//! Requests of our own to backends: probes and discovery. Over the same dialling and TLS as traffic, on fresh
//! connections, with bounds of their own; redirects are answers like any other.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use router::spec::Secret;

use crate::dial::{self, DialError};
use crate::plane::Link;
use crate::upstream::Wire;

/// Largest answer that is read to its end; a longer one is cut there, bytes.
pub(crate) const ANSWER_MAX: usize = 8 << 20;
const AGENT: HeaderValue = HeaderValue::from_static(concat!("forebay/", env!("CARGO_PKG_VERSION")));

/// An answer to a request of ours.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("{0}")]
    Request(#[from] http::Error),
}

/// One request to a backend, its answer whole, within `timeout`: `GET`, or `POST` where there is a JSON body.
pub(crate) async fn ask(
    link: &Link,
    path: &str,
    api_key: Option<&Secret>,
    body: Option<String>,
    timeout: Duration,
) -> Result<Reply, ControlError> {
    tokio::time::timeout(timeout, exchange(link, path, api_key, body))
        .await
        .unwrap_or(Err(ControlError::Timeout(timeout)))
}

fn request(
    link: &Link,
    path: &str,
    api_key: Option<&Secret>,
    body: Option<String>,
) -> Result<Request<Full<Bytes>>, http::Error> {
    let mut request = Request::builder()
        .method(if body.is_some() { Method::POST } else { Method::GET })
        .uri(link.path(path))
        .header(HOST, &link.host)
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close");
    if body.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    if let Some(mut value) =
        api_key.and_then(|key| HeaderValue::try_from(format!("Bearer {}", key.expose())).ok())
    {
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    request.body(Full::new(body.unwrap_or_default().into()))
}

async fn exchange(
    link: &Link,
    path: &str,
    api_key: Option<&Secret>,
    body: Option<String>,
) -> Result<Reply, ControlError> {
    let request = request(link, path, api_key, body)?;
    let stream = dial::dial(link.target()?, Arc::new(Wire::default())).await?;
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = AbortOnDrop(tokio::spawn(async move {
        let _ = driver.await;
    }));
    let response = sender.send_request(request).await?;
    let status = response.status();
    let mut body = response.into_body();
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            let room = ANSWER_MAX.saturating_sub(read.len());
            read.extend_from_slice(&data[..data.len().min(room)]);
            if read.len() >= ANSWER_MAX {
                break;
            }
        }
    }
    drop(driver);
    Ok(Reply { status, body: read.freeze() })
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
