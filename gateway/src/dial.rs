//! Opening a byte stream to a backend: name resolution, TCP, TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use router::address::forbidden;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::io::Stream;
use crate::upstream::Wire;

/// When the next address of a name is tried beside one that does not answer (RFC 8305, 8).
const STAGGER: Duration = Duration::from_millis(250);
/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The address is not usable at all.
    #[error("{0}")]
    Address(String),
    /// The name could not be resolved.
    #[error("its name cannot be resolved: {0}")]
    Name(io::Error),
    /// TCP failed.
    #[error("{0}")]
    Failed(io::Error),
    /// The TLS handshake failed.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// Not within the connect deadline.
    #[error("no connection within the deadline")]
    Timeout,
}

impl DialError {
    /// What a client may know of it: no address, no words of the system's.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Name(_) => Some("its name cannot be resolved"),
            Self::Failed(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => Some("connection refused"),
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    Some("no route to it")
                }
                io::ErrorKind::TimedOut => Some("no answer"),
                _ => None,
            },
            Self::Address(_) => Some("its address is not usable"),
            Self::Tls(_) | Self::Timeout => None,
        }
    }
}

/// Where and how to connect.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// Connects; the caller bounds the time.
pub(crate) async fn dial(
    target: &Target,
    wire: Arc<Wire>,
) -> Result<Counted<Box<dyn Stream>>, DialError> {
    let tcp = connect(target).await?;
    tcp.set_nodelay(true).map_err(DialError::Failed)?;
    let inner: Box<dyn Stream> = match &target.tls {
        None => Box::new(tcp),
        Some((connector, name)) => {
            let tls = connector.connect(name.clone(), tcp).await.map_err(DialError::Tls)?;
            Box::new(tls)
        }
    };
    Ok(Counted { inner, wire })
}

async fn connect(target: &Target) -> Result<TcpStream, DialError> {
    if let Ok(ip) = target.host.parse::<IpAddr>() {
        let address = SocketAddr::new(ip, target.port);
        return TcpStream::connect(address).await.map_err(DialError::Failed);
    }
    let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
    let addresses = allowed(found.map_err(DialError::Name)?)?;
    let addresses = alternate(addresses.into_iter());
    first_of(addresses, TcpStream::connect).await.map_err(DialError::Failed)
}

/// What a name may lead to: whoever rules a name must not turn requests, and the credentials that go with them, to a cloud's
/// metadata service. An address that the configuration spells out is its own affair.
fn allowed(found: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, DialError> {
    let found: Vec<_> = found.collect();
    let allowed: Vec<_> = found.iter().copied().filter(|at| forbidden(at.ip()).is_none()).collect();
    match found.iter().find_map(|at| forbidden(at.ip())) {
        Some(forbidden) if allowed.is_empty() => {
            Err(DialError::Address(format!("its name leads to {}", forbidden.what)))
        }
        _ => Ok(allowed),
    }
}

/// At most [`ADDRESSES_MAX`] addresses, the families in turn, as the resolver's first one says (RFC 8305, 4).
fn alternate(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let found: Vec<_> = found.collect();
    let first_is_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (leading, other): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut other = other.into_iter();
    let mut turns = Vec::new();
    for address in leading {
        turns.push(address);
        turns.extend(other.next());
    }
    turns.extend(other);
    turns.truncate(ADDRESSES_MAX);
    turns
}

/// The first connection that comes about. The next address is tried when the one before has failed or is slow; those
/// before it go on meanwhile (RFC 8305, 5).
async fn first_of<T, F>(
    addresses: Vec<SocketAddr>,
    mut connect: impl FnMut(SocketAddr) -> F,
) -> io::Result<T>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    // Dropped, it ends the attempts that are still under way.
    let mut attempts = JoinSet::new();
    let mut addresses = addresses.into_iter();
    loop {
        let more = addresses.next();
        if let Some(address) = more {
            attempts.spawn(connect(address));
        }
        let ended = tokio::select! {
            ended = attempts.join_next() => ended,
            () = tokio::time::sleep(STAGGER), if more.is_some() => continue,
        };
        match ended {
            None if more.is_none() => return Err(last),
            None => {}
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(error))) => last = error,
            Some(Err(_)) => last = io::Error::other("the attempt met a defect"),
        }
    }
}

/// A stream that counts its bytes.
pub(crate) struct Counted<S> {
    inner: S,
    wire: Arc<Wire>,
}

impl<S: Stream> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        if read > 0 {
            self.wire.read.fetch_add(read as u64, Relaxed);
        }
        result
    }
}

impl<S: Stream> Counted<S> {
    fn note(&self, result: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(written)) = result {
            self.wire.written.fetch_add(*written as u64, Relaxed);
        }
    }
}

impl<S: Stream> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, data);
        self.note(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.note(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::{Instant, sleep};

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns() {
        let found = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let turns = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(alternate(found.into_iter()), turns);
        let many: Vec<SocketAddr> = (1..50).map(|n| ([10, 0, 0, n], 1).into()).collect();
        assert_eq!(alternate(many.clone().into_iter()), many[..ADDRESSES_MAX]);
        assert_eq!(alternate([].into_iter()), []);
    }

    #[test]
    fn a_name_does_not_lead_to_a_metadata_service() {
        let mixed =
            addresses(&["169.254.169.254:80", "[fe80::1]:80", "10.0.0.1:80", "127.0.0.1:80"]);
        assert_eq!(allowed(mixed.clone().into_iter()).unwrap(), mixed[2..]);
        let refused = allowed(mixed[..2].iter().copied()).unwrap_err();
        assert_eq!(refused.to_string(), "its name leads to a link-local address");
        assert!(allowed([].into_iter()).unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_costs_a_moment_and_a_refused_one_nothing() {
        let begun = Instant::now();
        let connect = |address: SocketAddr| async move {
            match address.port() {
                1 => pending().await,
                2 => return Err(io::ErrorKind::ConnectionRefused.into()),
                3 => sleep(Duration::from_secs(1)).await,
                _ => {}
            }
            Ok(address.port())
        };
        let list = |ports: &[u16]| ports.iter().map(|port| ([10, 0, 0, 1], *port).into()).collect();
        assert_eq!(first_of(list(&[2, 2, 4]), connect).await.unwrap(), 4);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(first_of(list(&[1, 2, 4]), connect).await.unwrap(), 4);
        assert_eq!(begun.elapsed(), STAGGER);
        // One that was slow may still be the first.
        assert_eq!(first_of(list(&[3, 1, 1]), connect).await.unwrap(), 3);
        assert_eq!(begun.elapsed(), STAGGER + Duration::from_secs(1));
        let refused = first_of(list(&[2, 2]), connect).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let nothing = first_of(list(&[]), connect).await.unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::NotFound);
    }
}
