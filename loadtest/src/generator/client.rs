//! The generator's own HTTP/1.1 client: keeps connections, hides nothing.

use std::net::SocketAddr;
use std::sync::Mutex;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::recorder::lock;

/// Longest response head, bytes.
const MAX_HEAD: usize = 256 * 1024;
/// Most idle connections that are kept.
const MAX_IDLE: usize = 1024;

/// The connection ended, or what came is not HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

#[derive(Debug)]
pub(crate) struct Client {
    addr: SocketAddr,
    idle: Mutex<Vec<Wire>>,
    keep_alive: bool,
}

/// One connection.
#[derive(Debug)]
struct Wire {
    stream: TcpStream,
    inbox: BytesMut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Chunked,
    Length(usize),
    Close,
    End,
}

/// An answer whose head has come.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    wire: Wire,
    body: Body,
    keep: bool,
}

impl Client {
    pub(crate) fn new(addr: SocketAddr, keep_alive: bool) -> Self {
        Self { addr, idle: Mutex::default(), keep_alive }
    }

    /// Sends a request and reads the head of its answer. A kept connection that dies before its first
    /// byte is replaced once, as every HTTP client does it.
    pub(crate) async fn send(&self, request: &[u8]) -> Result<Answer, Broken> {
        let kept = lock(&self.idle).pop();
        if let Some(wire) = kept
            && let Ok(answer) = self.on(wire, request).await
        {
            return Ok(answer);
        }
        let stream = TcpStream::connect(self.addr).await.map_err(|_| Broken)?;
        // Only a socket that is closed already refuses this.
        let _ = stream.set_nodelay(true);
        self.on(Wire { stream, inbox: BytesMut::new() }, request).await
    }

    async fn on(&self, mut wire: Wire, request: &[u8]) -> Result<Answer, Broken> {
        wire.stream.write_all(request).await.map_err(|_| Broken)?;
        loop {
            let head = wire.head().await?;
            let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or(Broken)?;
            if (100..200).contains(&status) {
                continue;
            }
            let value = |name: &str| field(&head, name).map(str::to_owned);
            let body = match (value("transfer-encoding"), value("content-length")) {
                _ if matches!(status, 204 | 304) => Body::End,
                (Some(_), _) => Body::Chunked,
                (None, Some(length)) => Body::Length(length.parse().map_err(|_| Broken)?),
                (None, None) => Body::Close,
            };
            let close = value("connection").is_some_and(|c| c.eq_ignore_ascii_case("close"));
            let keep = self.keep_alive && !close && body != Body::Close;
            return Ok(Answer { status, head, wire, body, keep });
        }
    }

    /// Keeps the connection of an answer that was read to its end.
    pub(crate) fn give_back(&self, answer: Answer) {
        let mut idle = lock(&self.idle);
        if answer.keep && answer.body == Body::End && idle.len() < MAX_IDLE {
            idle.push(answer.wire);
        }
    }
}

/// The value of a header.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (n, value) = line.split_once(':')?;
        n.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

impl Wire {
    async fn fill(&mut self) -> Result<(), Broken> {
        match self.stream.read_buf(&mut self.inbox).await {
            Ok(n) if n > 0 => Ok(()),
            _ => Err(Broken),
        }
    }

    async fn head(&mut self) -> Result<String, Broken> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.inbox, b"\r\n\r\n") {
                let head = self.inbox.split_to(at + 4);
                return Ok(String::from_utf8_lossy(&head).into_owned());
            }
            if self.inbox.len() > MAX_HEAD {
                return Err(Broken);
            }
            self.fill().await?;
        }
    }

    async fn line(&mut self) -> Result<Bytes, Broken> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.inbox, b"\r\n") {
                let line = self.inbox.split_to(at).freeze();
                self.inbox.advance(2);
                return Ok(line);
            }
            if self.inbox.len() > MAX_HEAD {
                return Err(Broken);
            }
            self.fill().await?;
        }
    }

    async fn some(&mut self, most: usize) -> Result<Bytes, Broken> {
        if self.inbox.is_empty() {
            self.fill().await?;
        }
        let n = most.min(self.inbox.len());
        Ok(self.inbox.split_to(n).freeze())
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    /// The next piece of the body; `None` at its end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, Broken> {
        match self.body {
            Body::End | Body::Length(0) => {
                self.body = Body::End;
                Ok(None)
            }
            Body::Length(left) => {
                let piece = self.wire.some(left).await?;
                self.body = Body::Length(left - piece.len());
                Ok(Some(piece))
            }
            Body::Close => Ok(self.wire.some(usize::MAX).await.ok()),
            Body::Chunked => self.chunk().await,
        }
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, Broken> {
        let line = self.wire.line().await?;
        let size = line.split(|b| *b == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(size).map_err(|_| Broken)?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(|_| Broken)?;
        if size == 0 {
            while !self.wire.line().await?.is_empty() {}
            self.body = Body::End;
            return Ok(None);
        }
        while self.wire.inbox.len() < size + 2 {
            self.wire.fill().await?;
        }
        let piece = self.wire.inbox.split_to(size).freeze();
        self.wire.inbox.advance(2);
        Ok(Some(piece))
    }
}
