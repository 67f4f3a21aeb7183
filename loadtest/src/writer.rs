//! Writes one response body: framing, cuts, and the break of a fault at an exact byte or event.

use std::time::Duration;

use crate::dialect::Meta;
use crate::http::{Gone, Link};
use crate::script::{At, Framing, How, Script, Writes};

/// What happens to the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The next request is read.
    Keep,
    /// FIN.
    Close,
    /// RST.
    Reset,
}

/// Why an answer ended before it was whole.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The client left.
    Gone,
    /// The script broke it.
    Broken(End),
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// Most keep-alive comments of [`How::Comments`].
const MAX_COMMENTS: usize = 10_000;

pub(crate) struct Writer<'a> {
    pub(crate) link: &'a mut Link,
    script: &'a Script,
    framing: Framing,
    /// The head while it is held back.
    held: Vec<u8>,
    /// Body bytes that go out in one write at the end.
    gathered: Option<Vec<u8>>,
    /// Body bytes written.
    written: usize,
    /// Which size of [`Writes::Bytes`] is next.
    cut: usize,
    pub(crate) events: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(link: &'a mut Link, script: &'a Script, framing: Framing) -> Self {
        let gather = script.writes == Writes::One;
        let gathered = gather.then(Vec::new);
        Self { link, script, framing, held: Vec::new(), gathered, written: 0, cut: 0, events: 0 }
    }

    /// Sends the head at once, or with the first body bytes.
    pub(crate) async fn head(&mut self, head: Vec<u8>, hold: bool) -> Result<(), Stop> {
        self.held = head;
        if hold && !self.breaks_at(At::Head) {
            return Ok(());
        }
        self.release().await?;
        if self.breaks_at(At::Head) {
            return self.break_off(None, &[]).await;
        }
        Ok(())
    }

    async fn release(&mut self) -> Result<(), Stop> {
        if !self.held.is_empty() {
            let head = std::mem::take(&mut self.held);
            self.link.send(&head).await?;
        }
        Ok(())
    }

    pub(crate) fn breaks_at(&self, at: At) -> bool {
        self.script.fault.as_ref().is_some_and(|f| f.at == at)
    }

    /// Writes body bytes as the script cuts them.
    pub(crate) async fn body(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        if let Some(all) = &mut self.gathered {
            all.extend_from_slice(bytes);
            return Ok(());
        }
        let Some(At::Bytes(limit)) = self.script.fault.as_ref().map(|f| f.at) else {
            return self.cuts(bytes).await;
        };
        let room = limit - self.written.min(limit);
        if bytes.len() <= room && !bytes.is_empty() {
            return self.cuts(bytes).await;
        }
        self.cuts(&bytes[..room]).await?;
        self.break_off(None, &[]).await
    }

    async fn cuts(&mut self, mut bytes: &[u8]) -> Result<(), Stop> {
        while !bytes.is_empty() {
            let len = match &self.script.writes {
                Writes::Events | Writes::One => bytes.len(),
                Writes::Bytes(sizes) if sizes.is_empty() => bytes.len(),
                Writes::Bytes(sizes) => {
                    let size = sizes[self.cut % sizes.len()].max(1);
                    self.cut += 1;
                    size.min(bytes.len())
                }
                Writes::Utf8 => utf8_cut(bytes),
            };
            let (now, later) = bytes.split_at(len);
            self.frame(now).await?;
            bytes = later;
            if !bytes.is_empty() && self.script.write_gap_ms > 0 {
                self.link.pause(Duration::from_millis(self.script.write_gap_ms)).await?;
            }
        }
        Ok(())
    }

    /// One write, framed.
    async fn frame(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let mut out = std::mem::take(&mut self.held);
        if self.framing == Framing::Chunked {
            out.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
            out.extend_from_slice(bytes);
            out.extend_from_slice(b"\r\n");
        } else {
            out.extend_from_slice(bytes);
        }
        self.link.send(&out).await?;
        self.written += bytes.len();
        Ok(())
    }

    /// Sends what was gathered.
    pub(crate) async fn flush(&mut self) -> Result<(), Stop> {
        if let Some(all) = self.gathered.take() {
            self.body(&all).await?;
        }
        self.release().await
    }

    /// Marks the end of the body.
    pub(crate) async fn finish(&mut self) -> Result<(), Stop> {
        self.flush().await?;
        if self.framing == Framing::Chunked {
            self.link.send(b"0\r\n\r\n").await?;
        }
        Ok(())
    }

    /// Sends what was gathered, whatever the fault says about it.
    async fn spill(&mut self) -> Result<(), Stop> {
        if let Some(all) = self.gathered.take() {
            self.cuts(&all).await?;
        }
        self.release().await
    }

    /// Where the body ends as if it were complete.
    async fn clean_end(&mut self) -> Result<(), Stop> {
        if self.framing == Framing::Chunked {
            self.link.send(b"0\r\n\r\n").await?;
        }
        // A body that is delimited otherwise cannot end early and keep the connection.
        let keep = self.framing == Framing::Chunked;
        Err(Stop::Broken(if keep { End::Keep } else { End::Close }))
    }

    /// Breaks the answer as the script says; `next` is the event that would have been next.
    pub(crate) async fn break_off(&mut self, meta: Option<&Meta>, next: &[u8]) -> Result<(), Stop> {
        let Some(fault) = &self.script.fault else { return Ok(()) };
        self.spill().await?;
        match &fault.how {
            How::Hang => {
                self.link.hang().await;
                return Err(Stop::Gone);
            }
            How::Comments(ms) => {
                let comment = format!(": keep-alive{0}{0}", self.script.sse.eol.as_str());
                for _ in 0..MAX_COMMENTS {
                    self.link.pause(Duration::from_millis(*ms)).await?;
                    self.frame(comment.as_bytes()).await?;
                }
            }
            How::Reset => return Err(Stop::Broken(End::Reset)),
            How::Fin | How::Die => {}
            How::CleanEnd => return self.clean_end().await,
            How::HalfEvent => self.frame(&next[..next.len() / 2]).await?,
            How::HalfEventCleanEnd => {
                self.frame(&next[..next.len() / 2]).await?;
                return self.clean_end().await;
            }
            How::BadChunk => self.link.send(b"zz\r\n").await?,
            How::ErrorEvent { code, message } => {
                let eol = self.script.sse.eol.as_str();
                let error = error_event(*code, message);
                let event = format!("data: {error}{eol}{eol}data: [DONE]{eol}{eol}");
                self.frame(event.as_bytes()).await?;
                return self.clean_end().await;
            }
            How::DeadRunner => {
                if let Some(meta) = meta {
                    let eol = self.script.sse.eol.as_str();
                    let event = format!("data: {}{eol}{eol}", meta.dead_runner());
                    self.frame(event.as_bytes()).await?;
                }
                return self.clean_end().await;
            }
        }
        Err(Stop::Broken(End::Close))
    }
}

/// vLLM's error event (CONTRACTS appendix A).
pub(crate) fn error_event(code: u16, message: &str) -> String {
    let class = match code {
        400 => "BadRequestError",
        503 => "ServiceUnavailableError",
        _ => "InternalServerError",
    };
    let message = crate::dialect::quote(message);
    format!(r#"{{"error":{{"message":{message},"type":"{class}","param":null,"code":{code}}}}}"#)
}

/// The length up to the next cut inside a multi-byte character: each of its bytes goes alone.
fn utf8_cut(bytes: &[u8]) -> usize {
    match bytes.iter().position(|b| *b >= 0x80) {
        None => bytes.len(),
        Some(at) => at + 1,
    }
}
