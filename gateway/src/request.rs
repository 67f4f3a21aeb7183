//! Reading a request: its body within bounds, and the few facts that routing needs.

use std::sync::Arc;
use std::time::Duration;

use adapters::peek::{self, Peek};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use router::spec::ServiceSpec;
use tokio::time::Instant;

use crate::error::{ErrorKind, Rejection};
use crate::plane::{Buffered, Plane};

/// Bodies above this are looked at and digested off the core's thread, bytes.
pub(crate) const INLINE_MAX: usize = 1 << 20;
/// Most that is reserved on the word of a Content-Length alone, bytes. Whoever has sent as much is believed the rest.
const RESERVE_MAX: usize = 1 << 20;
/// What is reserved for a body of unknown length at first, bytes.
const UNKNOWN_LENGTH_RESERVE: usize = 16 << 10;

/// A body that was read whole, and the share of the process's buffers that it holds.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    pub(crate) _share: Buffered,
}

/// Refuses a body whose end others may see elsewhere: chunks are the only coding, and are named once (RFC 9112, 6.1).
pub(crate) fn check_framing(headers: &HeaderMap) -> Result<(), Rejection> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let once =
        codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if once && codings.next().is_none() {
        return Ok(());
    }
    let message = "transfer-encoding has to be `chunked`, once, or absent";
    Err(Rejection::new(ErrorKind::InvalidRequest, message))
}

/// Refuses what cannot be JSON before its body is read.
pub(crate) fn check_head(headers: &HeaderMap) -> Result<(), Rejection> {
    let plain = |value: &&HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if let Some(encoding) = headers.get_all(CONTENT_ENCODING).iter().find(|value| !plain(value)) {
        let encoding = encoding.to_str().unwrap_or("?");
        return Err(Rejection::new(
            ErrorKind::UnsupportedMediaType,
            format!("content-encoding {encoding:?} is not supported: send the body as it is"),
        ));
    }
    if headers.get_all(CONTENT_TYPE).iter().all(is_json) {
        return Ok(());
    }
    Err(Rejection::new(ErrorKind::UnsupportedMediaType, "content-type has to be application/json"))
}

fn is_json(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return false };
    let essence = text.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// Reads the body within its size, rate and the process's buffers.
pub(crate) async fn read(
    plane: &Plane,
    service: &ServiceSpec,
    mut body: Incoming,
) -> Result<Held, Rejection> {
    let mut share = plane.buffer();
    let announced = body.size_hint().exact();
    if announced.unwrap_or(0) > service.max_body {
        return Err(too_large(service));
    }
    let begun = Instant::now();
    let mut collected = Collected::default();
    let mut total: u64 = 0;
    loop {
        // Each received KiB earns another second (at the default rate), after the first span for free.
        let earned = Duration::from_secs(total / service.body_rate_min.max(1));
        let deadline = begun + service.body_timeout + earned;
        let frame = match tokio::time::timeout_at(deadline, body.frame()).await {
            Err(_) => {
                return Err(Rejection::new(ErrorKind::RequestTimeout, "the body came too slowly"));
            }
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                let message = format!("the body broke off: {error}");
                return Err(Rejection::new(ErrorKind::InvalidRequest, message));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        total += data.len() as u64;
        if total > service.max_body {
            return Err(too_large(service));
        }
        if !share.grow(data.len() as u64, service.buffered_bytes) {
            return Err(Rejection::new(
                ErrorKind::BuffersFull,
                "the gateway holds as many request bytes as it may; try again",
            )
            .retry_after(Some(Duration::from_secs(1))));
        }
        collected.push(data, announced);
    }
    Ok(Held { bytes: collected.finish(), _share: share })
}

fn too_large(service: &ServiceSpec) -> Rejection {
    let message = format!("the body is larger than {} bytes", service.max_body);
    Rejection::new(ErrorKind::RequestTooLarge, message)
}

/// Keeps a body of one frame as it came, and copies only where there are several.
#[derive(Default)]
struct Collected {
    first: Option<Bytes>,
    rest: BytesMut,
}

impl Collected {
    fn push(&mut self, data: Bytes, announced: Option<u64>) {
        match self.first.take() {
            None if self.rest.is_empty() => self.first = Some(data),
            None => {
                self.make_room(data.len(), announced);
                self.rest.extend_from_slice(&data);
            }
            Some(first) => {
                self.make_room(first.len() + data.len(), announced);
                self.rest.extend_from_slice(&first);
                self.rest.extend_from_slice(&data);
            }
        }
    }

    /// Grows to the announced length in two steps: doubling a large body again and again would hold it twice.
    fn make_room(&mut self, more: usize, announced: Option<u64>) {
        let len = self.rest.len();
        if self.rest.capacity() - len >= more {
            return;
        }
        let room = match announced.and_then(|n| usize::try_from(n).ok()) {
            Some(all) if len < RESERVE_MAX => all.min(RESERVE_MAX).saturating_sub(len),
            Some(all) => all.saturating_sub(len),
            None => UNKNOWN_LENGTH_RESERVE,
        };
        self.rest.reserve(room.max(more));
    }

    fn finish(self) -> Bytes {
        self.first.unwrap_or_else(|| self.rest.freeze())
    }
}

/// Looks at a body; a large one on a thread of its own, so that the core's other streams go on.
///
/// `look` turns the borrowed facts into what the caller keeps.
pub(crate) async fn peeked<T: Send + 'static>(
    body: &Arc<Held>,
    depth_max: u32,
    look: impl FnOnce(&[u8], &Peek<'_>) -> T + Send + 'static,
) -> Result<T, Rejection> {
    let run = move |held: &Held| match peek::peek(&held.bytes, depth_max) {
        Ok(peek) => Ok(look(&held.bytes, &peek)),
        Err(error) => {
            Err(Rejection::new(ErrorKind::InvalidRequest, error.message).param(error.param))
        }
    };
    if body.bytes.len() <= INLINE_MAX {
        return run(body);
    }
    let body = Arc::clone(body);
    tokio::task::spawn_blocking(move || run(&body))
        .await
        .unwrap_or_else(|_| Err(Rejection::new(ErrorKind::Internal, "the body could not be read")))
}
