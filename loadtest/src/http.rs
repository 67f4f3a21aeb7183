//! HTTP/1.1 by hand: the upstream must place each byte and close each socket exactly when told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::ReadHalf;
use tokio::sync::watch;

use crate::recorder::find;

/// Longest request head that is read, bytes.
const MAX_HEAD: usize = 1024 * 1024;
/// Longest request body that is read, bytes.
const MAX_BODY: usize = 256 * 1024 * 1024;
/// How many bytes are taken from a client that sends ahead while it is being answered.
const MAX_AHEAD: usize = 64 * 1024;

/// The client has closed or reset the connection.
#[derive(Debug)]
pub(crate) struct Gone;

/// Why no request could be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The client has left.
    Gone,
    /// What came is no request as this server reads it.
    Malformed(&'static str),
}

impl From<Gone> for ReadError {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// A parsed request head.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) raw: Bytes,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) minor: u8,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The target without its query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub(crate) fn wants_close(&self) -> bool {
        self.minor == 0
            || self.header("connection").is_some_and(|v| v.to_ascii_lowercase().contains("close"))
    }

    fn parse(raw: Bytes) -> Result<Self, ReadError> {
        let text = String::from_utf8_lossy(&raw);
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let mut first = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (first.next(), first.next(), first.next(), first.next())
        else {
            return Err(ReadError::Malformed("request line"));
        };
        let minor = match version {
            "HTTP/1.1" => 1,
            "HTTP/1.0" => 0,
            _ => return Err(ReadError::Malformed("version")),
        };
        let (method, target) = (method.to_owned(), target.to_owned());
        let mut headers = Vec::new();
        for line in lines {
            let Some((name, value)) = line.split_once(':') else {
                return Err(ReadError::Malformed("header line"));
            };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Ok(Self { raw, method, target, minor, headers })
    }
}

/// One accepted connection.
pub(crate) struct Link {
    pub(crate) stream: TcpStream,
    inbox: BytesMut,
    frozen: watch::Receiver<bool>,
    bytes_out: Arc<AtomicU64>,
}

impl Link {
    /// A connection that adds what it sends to `bytes_out`.
    pub(crate) fn new(
        stream: TcpStream,
        frozen: watch::Receiver<bool>,
        bytes_out: Arc<AtomicU64>,
    ) -> Self {
        Self { stream, inbox: BytesMut::new(), frozen, bytes_out }
    }

    /// Stands still while the server is frozen.
    pub(crate) async fn thaw(&mut self) {
        // An error means that the server is being dropped; the task goes with it.
        let _ = self.frozen.wait_for(|frozen| !frozen).await;
    }

    async fn fill(&mut self) -> Result<(), Gone> {
        self.thaw().await;
        match self.stream.read_buf(&mut self.inbox).await {
            Ok(n) if n > 0 => Ok(()),
            _ => Err(Gone),
        }
    }

    /// Waits for the first byte of a request.
    pub(crate) async fn wait_first(&mut self) -> Result<(), Gone> {
        while self.inbox.is_empty() {
            self.fill().await?;
        }
        Ok(())
    }

    /// Reads a request head.
    pub(crate) async fn head(&mut self) -> Result<Head, ReadError> {
        let mut seen = 0;
        loop {
            if let Some(at) = memchr::memmem::find(&self.inbox[seen..], b"\r\n\r\n") {
                let raw = self.inbox.split_to(seen + at + 4).freeze();
                self.thaw().await;
                return Head::parse(raw);
            }
            if self.inbox.len() > MAX_HEAD {
                return Err(ReadError::Malformed("head too long"));
            }
            seen = self.inbox.len().saturating_sub(3);
            self.fill().await?;
        }
    }

    /// Reads the body that belongs to a head, framing removed.
    pub(crate) async fn body(&mut self, head: &Head) -> Result<Bytes, ReadError> {
        if let Some(coding) = head.header("transfer-encoding") {
            if !coding.eq_ignore_ascii_case("chunked") {
                return Err(ReadError::Malformed("transfer coding"));
            }
            return self.chunked().await;
        }
        let Some(length) = head.header("content-length") else { return Ok(Bytes::new()) };
        let Ok(length) = length.parse::<usize>() else {
            return Err(ReadError::Malformed("content length"));
        };
        self.take(length).await
    }

    async fn take(&mut self, length: usize) -> Result<Bytes, ReadError> {
        if length > MAX_BODY {
            return Err(ReadError::Malformed("body too long"));
        }
        while self.inbox.len() < length {
            self.fill().await?;
        }
        Ok(self.inbox.split_to(length).freeze())
    }

    async fn line(&mut self) -> Result<Bytes, ReadError> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.inbox, b"\r\n") {
                let line = self.inbox.split_to(at).freeze();
                self.inbox.advance(2);
                return Ok(line);
            }
            if self.inbox.len() > MAX_HEAD {
                return Err(ReadError::Malformed("line too long"));
            }
            self.fill().await?;
        }
    }

    async fn chunked(&mut self) -> Result<Bytes, ReadError> {
        let mut body = BytesMut::new();
        loop {
            let line = self.line().await?;
            let size = line.split(|&b| b == b';').next().unwrap_or_default();
            let size = std::str::from_utf8(size).unwrap_or_default().trim();
            let Ok(size) = usize::from_str_radix(size, 16) else {
                return Err(ReadError::Malformed("chunk size"));
            };
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(body.freeze());
            }
            body.extend_from_slice(&self.take(size).await?);
            if !self.line().await?.is_empty() {
                return Err(ReadError::Malformed("chunk end"));
            }
            if body.len() > MAX_BODY {
                return Err(ReadError::Malformed("body too long"));
            }
        }
    }

    /// Writes all bytes, or learns that the client has left.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        let mut sent = 0;
        while sent < bytes.len() {
            self.thaw().await;
            let (mut read, mut write) = self.stream.split();
            let wrote = tokio::select! {
                biased;
                wrote = write.write(&bytes[sent..]) => wrote.map_err(|_| Gone),
                () = left(&mut read, &mut self.inbox) => Err(Gone),
            }?;
            self.bytes_out.fetch_add(wrote as u64, Ordering::Relaxed);
            sent += wrote;
        }
        Ok(())
    }

    /// Waits, or learns that the client has left.
    pub(crate) async fn pause(&mut self, duration: Duration) -> Result<(), Gone> {
        if duration.is_zero() {
            return Ok(());
        }
        self.until(tokio::time::sleep(duration)).await
    }

    /// Waits for something, or learns that the client has left.
    pub(crate) async fn until<T>(&mut self, event: impl Future<Output = T>) -> Result<T, Gone> {
        let got = {
            let (mut read, _write) = self.stream.split();
            tokio::select! {
                got = event => Ok(got),
                () = left(&mut read, &mut self.inbox) => Err(Gone),
            }
        };
        self.thaw().await;
        got
    }

    /// Waits until the client leaves.
    pub(crate) async fn hang(&mut self) -> Gone {
        match self.until(std::future::pending::<()>()).await {
            Ok(()) | Err(Gone) => Gone,
        }
    }
}

/// Resolves when the client has closed or reset; what it sends ahead is kept.
async fn left(read: &mut ReadHalf<'_>, inbox: &mut BytesMut) {
    loop {
        if inbox.len() >= MAX_AHEAD {
            std::future::pending::<()>().await;
        }
        match read.read_buf(inbox).await {
            Ok(n) if n > 0 => {}
            _ => return,
        }
    }
}

/// The reason phrase of a status.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        424 => "Failed Dependency",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}
