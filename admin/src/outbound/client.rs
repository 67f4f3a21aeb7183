//! One request, its answer within bounds. No redirects, no proxies, no cookies, no second resolution.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT,
};
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use router::spec::Secret;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::resolve::{ADDRESSES_MAX, Resolve, System};
use super::target::{Located, Target};
use super::{OutboundError, tls};
use router::address::forbidden;

/// From the first packet to the last byte of an answer, and for the resolution of a name.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// Longest answer that is read, bytes.
pub const ANSWER_MAX: usize = 1 << 20;
const AGENT: HeaderValue = HeaderValue::from_static(concat!("forebay/", env!("CARGO_PKG_VERSION")));

/// A question.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Below the target's prefix.
    pub path: &'a str,
    /// Sent as `Authorization: Bearer`.
    pub api_key: Option<&'a Secret>,
    /// JSON to `POST`; `GET` without.
    pub body: Option<&'a str>,
}

impl<'a> Ask<'a> {
    /// A `GET`.
    #[must_use]
    pub const fn get(path: &'a str, api_key: Option<&'a Secret>) -> Self {
        Self { path, api_key, body: None }
    }
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Its status; a redirect is an answer like any other.
    pub status: u16,
    /// Its body.
    pub body: Bytes,
    /// From the first packet to the last byte.
    pub elapsed: Duration,
}

/// An answer that is read piece by piece.
#[derive(Debug)]
pub struct Streaming {
    /// Its status.
    pub status: u16,
    body: Incoming,
    read: usize,
    _driver: AbortOnDrop,
}

impl Streaming {
    /// The next bytes; `None` at the end. The caller bounds the time.
    ///
    /// # Errors
    /// [`OutboundError::TooLong`] beyond [`ANSWER_MAX`], [`OutboundError::Broken`] when the connection is lost.
    pub async fn next(&mut self) -> Result<Option<Bytes>, OutboundError> {
        while let Some(frame) = self.body.frame().await {
            let Ok(data) = frame.map_err(|_| OutboundError::Broken)?.into_data() else { continue };
            self.read = self.read.saturating_add(data.len());
            if self.read > ANSWER_MAX {
                return Err(OutboundError::TooLong);
            }
            return Ok(Some(data));
        }
        Ok(None)
    }
}

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Outbound {
    resolver: Arc<dyn Resolve>,
    deadline: Duration,
}

impl Default for Outbound {
    fn default() -> Self {
        Self::new(Arc::new(System), DEADLINE)
    }
}

impl Outbound {
    /// With another resolver or deadline.
    #[must_use]
    pub fn new(resolver: Arc<dyn Resolve>, deadline: Duration) -> Self {
        Self { resolver, deadline }
    }

    /// Resolves a target and checks every address of it. What comes back is pinned to these addresses.
    ///
    /// # Errors
    /// [`OutboundError::Dns`], [`OutboundError::Timeout`], or [`OutboundError::Forbidden`] when one address of it is.
    pub async fn locate(&self, target: Target) -> Result<Located, OutboundError> {
        let addresses = match target.literal() {
            Some(address) => vec![address],
            None => self.look_up(&target).await?,
        };
        match addresses.iter().find_map(|address| forbidden(address.ip())) {
            Some(found) => Err(OutboundError::Forbidden(found)),
            None => Ok(Located { target, addresses }),
        }
    }

    async fn look_up(&self, target: &Target) -> Result<Vec<SocketAddr>, OutboundError> {
        let asked = self.resolver.resolve(&target.host, target.port);
        let found = tokio::time::timeout(self.deadline, asked)
            .await
            .map_err(|_| OutboundError::Timeout(self.deadline))?
            .map_err(|error| OutboundError::Dns(error.kind().to_string()))?;
        match found.len() {
            0 => Err(OutboundError::Dns("none was found".to_owned())),
            1..=ADDRESSES_MAX => Ok(found),
            _ => Err(OutboundError::Dns(format!("it has more than {ADDRESSES_MAX}"))),
        }
    }

    /// Asks, and reads the answer whole.
    ///
    /// # Errors
    /// All of [`OutboundError`] but those of the URL and the resolution.
    pub async fn ask(&self, at: &Located, ask: Ask<'_>) -> Result<Reply, OutboundError> {
        let begun = Instant::now();
        let whole = async {
            let mut answer = send(at, ask).await?;
            let mut body = BytesMut::new();
            while let Some(data) = answer.next().await? {
                body.extend_from_slice(&data);
            }
            Ok((answer.status, body.freeze()))
        };
        let (status, body) = tokio::time::timeout(self.deadline, whole)
            .await
            .unwrap_or(Err(OutboundError::Timeout(self.deadline)))?;
        Ok(Reply { status, body, elapsed: begun.elapsed() })
    }

    /// Asks, and gives the answer to be read piece by piece. The connection and the head have `deadline`.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn open(
        &self,
        at: &Located,
        ask: Ask<'_>,
        deadline: Duration,
    ) -> Result<Streaming, OutboundError> {
        tokio::time::timeout(deadline, send(at, ask))
            .await
            .unwrap_or(Err(OutboundError::Timeout(deadline)))
    }
}

async fn send(at: &Located, ask: Ask<'_>) -> Result<Streaming, OutboundError> {
    let request = request(&at.target, ask)?;
    let stream = connect(at).await?;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, driver) = handshake.map_err(|_| OutboundError::Broken)?;
    let driver = AbortOnDrop(tokio::spawn(async move {
        let _ = driver.await;
    }));
    let response = sender.send_request(request).await.map_err(|_| OutboundError::Broken)?;
    let status = response.status().as_u16();
    Ok(Streaming { status, body: response.into_body(), read: 0, _driver: driver })
}

fn request(target: &Target, ask: Ask<'_>) -> Result<Request<Full<Bytes>>, OutboundError> {
    let mut request = Request::builder()
        .method(if ask.body.is_some() { Method::POST } else { Method::GET })
        .uri(format!("{}{}", target.prefix, ask.path))
        .header(HOST, &target.authority)
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, "*/*")
        .header(ACCEPT_ENCODING, "identity")
        .header(CONNECTION, "close");
    if ask.body.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    if let Some(key) = ask.api_key {
        let value = HeaderValue::try_from(format!("Bearer {}", key.expose()));
        let mut value =
            value.map_err(|_| OutboundError::Url("api_key fits no header".to_owned()))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    let body = Bytes::from(ask.body.unwrap_or_default().to_owned());
    request.body(Full::new(body)).map_err(|_| OutboundError::Url("its path".to_owned()))
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn connect(at: &Located) -> Result<Box<dyn Stream>, OutboundError> {
    let tcp = dial(&at.addresses).await?;
    if !at.target.https {
        return Ok(Box::new(tcp));
    }
    let failed = |reason: &dyn std::fmt::Display| OutboundError::Tls(reason.to_string());
    let connector = tls::connector(at.target.ca_pem.as_deref())?;
    let name = ServerName::try_from(at.target.host.clone()).map_err(|error| failed(&error))?;
    let tls = connector.connect(name, tcp).await.map_err(|error| failed(&error))?;
    Ok(Box::new(tls))
}

async fn dial(addresses: &[SocketAddr]) -> Result<TcpStream, OutboundError> {
    let mut last = OutboundError::Dns("none was found".to_owned());
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(tcp) => return Ok(tcp),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                last = OutboundError::Refused;
            }
            Err(error) => last = OutboundError::Unreachable(error.kind().to_string()),
        }
    }
    Err(last)
}

#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
