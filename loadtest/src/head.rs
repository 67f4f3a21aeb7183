//! Response heads: what each kind of server puts there, and what the script adds.

use crate::connection::Exchange;
use crate::http::reason;
use crate::profile::Kind;
use crate::script::{After, Fixed, Framing};
use crate::writer::End;

/// A head under construction.
pub(crate) struct HeadText(Vec<u8>);

impl HeadText {
    pub(crate) fn new(version: &str, status: u16) -> Self {
        Self(format!("{version} {status} {}\r\n", reason(status)).into_bytes())
    }

    pub(crate) fn add(&mut self, name: &str, value: &[u8]) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value);
        self.0.extend_from_slice(b"\r\n");
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"\r\n");
        self.0
    }
}

/// Headers that this kind of server puts on every answer.
fn habits(kind: Kind, head: &mut HeadText) {
    match kind {
        Kind::Vllm => head.add("server", b"uvicorn"),
        Kind::LlamaServer => {
            head.add("Server", b"llama.cpp");
            head.add("Access-Control-Allow-Origin", b"");
        }
        Kind::Ollama | Kind::Tei | Kind::Plain => {}
    }
}

impl Exchange<'_> {
    pub(crate) fn stream_head(&self, framing: Framing, after: After) -> Vec<u8> {
        let version = if framing == Framing::Close { "HTTP/1.0" } else { "HTTP/1.1" };
        let kind = self.shared.kind;
        let mut head = HeadText::new(version, 200);
        habits(kind, &mut head);
        let content_type = match kind {
            Kind::Vllm | Kind::Plain => "text/event-stream; charset=utf-8",
            _ => "text/event-stream",
        };
        let content_type = self.script.content_type.as_deref().unwrap_or(content_type);
        head.add("content-type", content_type.as_bytes());
        if framing == Framing::Chunked {
            head.add("transfer-encoding", b"chunked");
        }
        if after == After::Close {
            head.add("connection", b"close");
        }
        for (name, value) in &self.script.headers {
            head.add(name, &value.bytes());
        }
        head.finish()
    }

    /// The head of an answer that is no stream of events.
    pub(crate) fn document_head(
        &self,
        fixed: &Fixed,
        content_type: &str,
        length: usize,
        after: After,
    ) -> Vec<u8> {
        let version = if fixed.framing == Framing::Close { "HTTP/1.0" } else { "HTTP/1.1" };
        let mut head = HeadText::new(version, fixed.status);
        habits(self.shared.kind, &mut head);
        if !fixed.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("content-type")) {
            let content_type = self.script.content_type.as_deref().unwrap_or(content_type);
            head.add("content-type", content_type.as_bytes());
        }
        let has_body = fixed.status >= 200 && !matches!(fixed.status, 204 | 304);
        match fixed.framing {
            Framing::Length if has_body => {
                head.add("content-length", length.to_string().as_bytes());
            }
            Framing::Chunked if has_body => head.add("transfer-encoding", b"chunked"),
            Framing::Length | Framing::Chunked | Framing::Close => {}
        }
        if after == After::Close {
            head.add("connection", b"close");
        }
        for (name, value) in fixed.headers.iter().chain(&self.script.headers) {
            head.add(name, &value.bytes());
        }
        head.finish()
    }

    /// What happens to the connection after a whole answer.
    pub(crate) fn after(&self, stream: bool) -> After {
        if self.head.wants_close() {
            return After::Close;
        }
        self.script.after.unwrap_or(match self.shared.kind {
            Kind::LlamaServer if stream => After::SilentClose,
            _ => After::Keep,
        })
    }

    pub(crate) fn close_or_keep(&self, after: After, framing: Framing) -> End {
        let keep = after == After::Keep && framing != Framing::Close && !self.head.wants_close();
        if keep { End::Keep } else { End::Close }
    }
}
