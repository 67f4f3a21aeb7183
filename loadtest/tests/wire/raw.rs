//! A client that sees each byte and how the connection ends.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use loadtest::Upstream;

/// How long an answer may take before a test fails.
const DEADLINE: Duration = Duration::from_secs(10);

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its framing says that it is whole.
    Whole,
    /// FIN before that (or, without framing, FIN).
    Fin,
    /// RST.
    Reset,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Sizes of the HTTP chunks.
    pub(crate) chunks: Vec<usize>,
    pub(crate) ending: Ending,
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The `data` of each event (LF line ends).
    pub(crate) fn events(&self) -> Vec<String> {
        let text = self.text();
        text.split("\n\n").filter_map(|e| e.strip_prefix("data: ")).map(str::to_owned).collect()
    }

    /// The content of all chunks of one choice.
    pub(crate) fn content(&self, choice: u64) -> String {
        let events = self.events();
        let chunks = events.iter().filter_map(|e| serde_json::from_str(e).ok());
        let choices = chunks.filter_map(|c: serde_json::Value| {
            let c = c["choices"].get(0)?.clone();
            (c["index"] == choice)
                .then(|| c["delta"]["content"].as_str().or(c["text"].as_str()).map(str::to_owned))?
        });
        choices.collect()
    }
}

pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    inbox: Vec<u8>,
}

impl Raw {
    pub(crate) fn connect(upstream: &Upstream) -> Self {
        let stream = TcpStream::connect(upstream.addr()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { stream, inbox: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn post(&mut self, path: &str, body: &str) {
        let len = body.len();
        self.send(
            format!(
                "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len}\r\n\r\n{body}"
            )
            .as_bytes(),
        );
    }

    pub(crate) fn get(&mut self, path: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").as_bytes());
    }

    /// Reads more; `Some(ending)` at the end.
    fn fill(&mut self) -> Option<Ending> {
        let mut buffer = [0; 65536];
        match self.stream.read(&mut buffer) {
            Ok(0) => Some(Ending::Fin),
            Ok(n) => {
                self.inbox.extend_from_slice(&buffer[..n]);
                None
            }
            Err(e) if e.kind() == ErrorKind::ConnectionReset => Some(Ending::Reset),
            Err(e) => panic!("{e}, after {:?}", String::from_utf8_lossy(&self.inbox)),
        }
    }

    /// Reads one line; `Err` when the connection ends before.
    fn line(&mut self) -> Result<String, Ending> {
        loop {
            if let Some(at) = self.inbox.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.inbox.drain(..at + 2).take(at).collect();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if let Some(ending) = self.fill() {
                return Err(ending);
            }
        }
    }

    /// Moves up to `n` bytes into `body`.
    fn take(&mut self, n: usize, body: &mut Vec<u8>) -> Result<(), Ending> {
        let mut ended = None;
        while self.inbox.len() < n && ended.is_none() {
            ended = self.fill();
        }
        let got = n.min(self.inbox.len());
        body.extend(self.inbox.drain(..got));
        if got < n { Err(ended.unwrap()) } else { Ok(()) }
    }

    pub(crate) fn response(&mut self) -> Response {
        let mut head = String::new();
        let mut response = Response {
            head: String::new(),
            body: Vec::new(),
            chunks: Vec::new(),
            ending: Ending::Whole,
        };
        loop {
            match self.line() {
                Ok(line) if line.is_empty() => break,
                Ok(line) => head.push_str(&(line + "\r\n")),
                Err(ending) => {
                    response.head = head;
                    response.ending = ending;
                    return response;
                }
            }
        }
        response.head = head.clone();
        let value = |name: &str| {
            head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix(name).map(str::to_owned))
        };
        let read = if value("transfer-encoding:").is_some() {
            self.chunked(&mut response)
        } else if let Some(length) = value("content-length:") {
            self.take(length.trim().parse().unwrap(), &mut response.body)
        } else if matches!(response.status(), 100..=199 | 204 | 304) {
            Ok(())
        } else {
            self.take(usize::MAX, &mut response.body)
        };
        if let Err(ending) = read {
            response.ending = ending;
        }
        response
    }

    fn chunked(&mut self, response: &mut Response) -> Result<(), Ending> {
        loop {
            let line = self.line()?;
            let Ok(size) = usize::from_str_radix(&line, 16) else {
                response.body.extend_from_slice(line.as_bytes());
                return Err(self.fill().unwrap());
            };
            self.take(size, &mut response.body)?;
            assert_eq!(self.line()?, "");
            if size == 0 {
                return Ok(());
            }
            response.chunks.push(size);
        }
    }

    /// Whether nothing comes for a short while, and the connection stays open.
    pub(crate) fn is_silent(&mut self) -> bool {
        self.stream.set_read_timeout(Some(Duration::from_millis(60))).unwrap();
        let read = self.stream.read(&mut [0; 1]);
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        self.inbox.is_empty()
            && read.is_err_and(|e| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// How the connection ends; fails on more bytes.
    pub(crate) fn end(&mut self) -> Ending {
        let ending = self.fill();
        assert!(self.inbox.is_empty(), "more bytes: {:?}", self.inbox);
        ending.unwrap()
    }
}

pub(crate) const CHAT: &str = "/v1/chat/completions";

/// One chat request and its answer on a connection of its own.
pub(crate) fn chat(upstream: &Upstream, body: &str) -> (Response, Raw) {
    let mut raw = Raw::connect(upstream);
    raw.post(CHAT, body);
    (raw.response(), raw)
}

/// A request for a stream.
pub(crate) const STREAM: &str =
    r#"{"model":"tiny","messages":[{"role":"user","content":"Hello"}],"stream":true}"#;
/// A request for a plain answer.
pub(crate) const PLAIN: &str = r#"{"model":"tiny","messages":[{"role":"user","content":"Hello"}]}"#;
