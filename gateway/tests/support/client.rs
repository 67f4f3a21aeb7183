//! A blocking HTTP/1.1 client over a plain socket: sends exactly what it is told, sees exactly what comes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Makes connections to one address.
#[derive(Clone, Copy)]
pub struct Client {
    addr: SocketAddr,
}

/// A complete answer, or what came of it.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// After removal of the HTTP framing.
    pub body: Vec<u8>,
    /// The framing said that the body was over; false = the connection just ended.
    pub complete: bool,
    /// Raw head bytes.
    pub head: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }

    /// `error.code` of an OpenAI envelope.
    pub fn error_code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The payloads of the stream's `data:` events, in order.
    pub fn events(&self) -> Vec<String> {
        events(&self.text())
    }

    /// The text of a stream's deltas or of a plain chat answer.
    pub fn content(&self) -> String {
        if self.text().starts_with('{') {
            let message = &self.json()["choices"][0]["message"]["content"];
            return message.as_str().unwrap_or_default().to_owned();
        }
        self.events()
            .iter()
            .filter_map(|event| serde_json::from_str::<Value>(event).ok())
            .filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
            .collect()
    }

    /// The first in-band error event.
    pub fn error_event(&self) -> Option<Value> {
        self.events()
            .iter()
            .filter_map(|event| serde_json::from_str::<Value>(event).ok())
            .find(|event| event["error"].is_object())
            .map(|event| event["error"].clone())
    }

    /// What an SDK would take for a whole answer: a clean end that no error event came before.
    pub fn looks_whole(&self) -> bool {
        self.complete && self.error_event().is_none()
    }
}

/// The payloads of `data:` lines.
pub fn events(text: &str) -> Vec<String> {
    text.split(['\n', '\r'])
        .filter_map(|line| line.strip_prefix("data:"))
        .map(|data| data.strip_prefix(' ').unwrap_or(data).to_owned())
        .collect()
}

impl Client {
    pub const fn new(addr: SocketAddr) -> Self {
        Self { addr }
    }

    pub fn connect(&self) -> Exchange {
        let socket = TcpStream::connect(self.addr).unwrap();
        socket.set_read_timeout(Some(super::PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Exchange { socket, read: Vec::new() }
    }

    pub fn get(&self, path: &str) -> Reply {
        self.raw(format!("GET {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n"))
    }

    pub fn request(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
        self.raw(request(method, path, &format!("connection: close\r\n{headers}"), body))
    }

    pub fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Reply {
        self.request("POST", path, "content-type: application/json\r\n", body.as_ref())
    }

    /// A chat request; `extra` is put into the JSON object after the messages.
    pub fn chat(&self, model: &str, extra: &str) -> Reply {
        self.post("/v1/chat/completions", chat_body(model, extra))
    }

    /// A streamed chat request, read to its end.
    pub fn chat_stream(&self, model: &str, extra: &str) -> Reply {
        self.chat(model, &format!(",\"stream\":true{extra}"))
    }

    /// Starts a chat request and leaves the answer to be read.
    pub fn open_chat(&self, model: &str, extra: &str) -> Exchange {
        let mut exchange = self.connect();
        let body = chat_body(model, extra);
        exchange.send(request(
            "POST",
            "/v1/chat/completions",
            "content-type: application/json\r\n",
            body.as_bytes(),
        ));
        exchange
    }

    /// Sends raw bytes and reads the answer to its end.
    pub fn raw(&self, bytes: impl AsRef<[u8]>) -> Reply {
        let mut exchange = self.connect();
        exchange.send(bytes);
        exchange.reply()
    }
}

/// The body of a chat request.
pub fn chat_body(model: &str, extra: &str) -> String {
    let model = serde_json::to_string(model).unwrap();
    format!("{{\"model\":{model},\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}]{extra}}}")
}

/// A request with its length.
pub fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "{method} {path} HTTP/1.1\r\nhost: gateway\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// One connection.
pub struct Exchange {
    pub socket: TcpStream,
    read: Vec<u8>,
}

impl Exchange {
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A peer that has already refused may have closed: what it said is still there to be read.
        let _ = self.socket.write_all(bytes.as_ref());
    }

    /// Reads until the raw bytes received contain `text`; panics when they end before.
    pub fn read_until(&mut self, text: &str) -> String {
        let begun = Instant::now();
        while memchr::memmem::find(&self.read, text.as_bytes()).is_none() {
            assert!(begun.elapsed() < super::PATIENCE, "no {text:?}");
            assert!(self.read_some(), "ended before {text:?}: {}", self.so_far());
        }
        self.so_far()
    }

    pub fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.read).into_owned()
    }

    /// One read; false at the end of the connection.
    pub fn read_some(&mut self) -> bool {
        let mut buffer = [0; 64 << 10];
        match self.socket.read(&mut buffer) {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                self.read.extend_from_slice(&buffer[..n]);
                true
            }
        }
    }

    /// True when the peer closes within `limit`.
    pub fn closes_within(&mut self, limit: Duration) -> bool {
        self.socket.set_read_timeout(Some(limit)).unwrap();
        let begun = Instant::now();
        let mut buffer = [0; 4096];
        while begun.elapsed() < limit {
            match self.socket.read(&mut buffer) {
                Ok(0) => return true,
                Ok(n) => self.read.extend_from_slice(&buffer[..n]),
                Err(error) => {
                    return !matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    );
                }
            }
        }
        false
    }

    /// Leaves at once.
    pub fn leave(self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Reads one whole answer; bytes beyond it stay for the next.
    pub fn reply(&mut self) -> Reply {
        let head_end = loop {
            if let Some(at) = memchr::memmem::find(&self.read, b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.read[..at]).into_owned();
                // Informational answers come before the real one.
                if head.starts_with("HTTP/1.1 1") {
                    self.read.drain(..at + 4);
                    continue;
                }
                break at;
            }
            assert!(self.read_some(), "no answer: {:?}", self.so_far());
        };
        let head = String::from_utf8_lossy(&self.read[..head_end]).into_owned();
        self.read.drain(..head_end + 4);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect();
        let mut reply = Reply { status, headers, body: Vec::new(), complete: false, head };
        self.body(&mut reply);
        reply
    }

    fn body(&mut self, reply: &mut Reply) {
        if matches!(reply.status, 204 | 304) {
            reply.complete = true;
        } else if reply.header("transfer-encoding").is_some_and(|v| v.contains("chunked")) {
            reply.complete = self.chunks(&mut reply.body);
        } else if let Some(length) = reply.header("content-length") {
            let length: usize = length.parse().unwrap();
            while self.read.len() < length && self.read_some() {}
            reply.complete = self.read.len() >= length;
            let n = length.min(self.read.len());
            reply.body.extend(self.read.drain(..n));
        } else {
            while self.read_some() {}
            reply.body.append(&mut self.read);
            reply.complete = true;
        }
    }

    /// Removes the chunked framing; false when it broke off.
    fn chunks(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            let Some(end) = memchr::memmem::find(&self.read, b"\r\n") else {
                if self.read_some() {
                    continue;
                }
                return false;
            };
            let size = String::from_utf8_lossy(&self.read[..end]).into_owned();
            let size = usize::from_str_radix(size.split(';').next().unwrap().trim(), 16).unwrap();
            while self.read.len() < end + 2 + size + 2 {
                if !self.read_some() {
                    let n = size.min(self.read.len().saturating_sub(end + 2));
                    body.extend_from_slice(&self.read[end + 2..end + 2 + n]);
                    return false;
                }
            }
            body.extend_from_slice(&self.read[end + 2..end + 2 + size]);
            self.read.drain(..end + 2 + size + 2);
            if size == 0 {
                return true;
            }
        }
    }
}
