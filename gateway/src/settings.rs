//! What the process is told about its listeners, cores and shutdown. What a request reads is in the snapshot instead.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The public listener and what hangs on a connection to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenSettings {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Certificate chain and private key (PEM); `None` = clear text.
    pub tls: Option<TlsSettings>,
    /// Most connections at once; beyond it accepting pauses.
    pub connections_max: u32,
    /// Largest request head, bytes.
    pub head_max: usize,
    /// Most request headers.
    pub headers_max: usize,
    /// First byte, TLS handshake and complete request head each within this.
    pub header_timeout: Duration,
    /// An idle keep-alive connection is closed after this.
    pub idle_timeout: Duration,
    /// A client's write without progress.
    pub write_timeout: Duration,
    /// Most concurrent streams of one HTTP/2 connection.
    pub h2_streams_max: u32,
}

/// Files of the public listener's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM certificate chain.
    pub cert: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
}

impl Default for ListenSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            tls: None,
            connections_max: 10_000,
            head_max: 32 << 10,
            headers_max: 100,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(60),
            h2_streams_max: 100,
        }
    }
}

/// How a shutdown proceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainSettings {
    /// Not ready any more, but still accepting.
    pub grace: Duration,
    /// Running answers may finish within this; then error events.
    pub timeout: Duration,
}

impl Default for DrainSettings {
    fn default() -> Self {
        Self { grace: Duration::from_secs(5), timeout: Duration::from_secs(120) }
    }
}

/// Everything that the data plane is started with, beside its snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// The public listener.
    pub public: ListenSettings,
    /// Threads that serve; `None` = one per CPU.
    pub threads: Option<u16>,
    /// Shutdown.
    pub drain: DrainSettings,
}
