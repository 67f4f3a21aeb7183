//! Answers one inference request as the script says.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::ask::{Ask, Route};
use crate::connection::Exchange;
use crate::dialect::{self, Meta};
use crate::head::HeadText;
use crate::plan::{Piece, Speech};
use crate::profile::Kind;
use crate::recorder::lock;
use crate::script::{After, At, Fixed, Framing, How, Script, Usage};
use crate::writer::{End, Stop, Writer};
use crate::{embed, sse};

/// Seconds since 1970, for `created`.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

impl Exchange<'_> {
    /// Answers; says what happens to the connection, or why the answer is not whole.
    pub(crate) async fn infer(&mut self, route: Route, body: &Bytes) -> Result<End, Stop> {
        let ask = Ask::parse(self.shared.kind, route, body);
        match ask.as_ref().ok().and_then(Ask::script) {
            Some(Ok(script)) => self.script = script.into(),
            Some(Err(message)) => return self.refuse(400, &format!("fake: {message}"), None).await,
            None => {
                let model = ask.as_ref().ok().and_then(|a| a.model.as_deref());
                if let Some(script) = model.and_then(|m| self.shared.model_script(m)) {
                    self.script = script;
                }
            }
        }
        self.broken_at(At::Request).await?;
        if let Some(marker) = &self.script.poison
            && memchr::memmem::find(body, marker.as_bytes()).is_some()
        {
            self.shared.die();
            return Err(Stop::Broken(End::Reset));
        }
        if let Some(raw) = self.script.raw.clone() {
            self.link.send(&raw.bytes()).await?;
            return Ok(End::Close);
        }
        let ask = match ask {
            Ok(ask) => ask,
            Err(message) => return self.refuse(400, &message, None).await,
        };
        if let Some(fixed) = self.script.answer.clone() {
            self.link.pause(Duration::from_millis(self.script.head_ms)).await?;
            return self.fixed(&fixed).await;
        }
        if let Some((status, message, param)) = self.objection(&ask) {
            return self.refuse(status, &message, param).await;
        }
        self.generate(&ask).await
    }

    /// Why the server would refuse this request.
    fn objection(&self, ask: &Ask) -> Option<(u16, String, Option<&'static str>)> {
        let kind = self.shared.kind;
        let vitals = lock(&self.shared.vitals);
        if let Some(model) = &ask.model
            && !vitals.serves(kind, model)
        {
            return Some(match kind {
                Kind::Ollama => (404, format!("model '{model}' not found"), None),
                _ => {
                    let known = vitals.models.join(", ");
                    let message =
                        format!("The model `{model}` does not exist. Valid aliases: {known}.");
                    (404, message, Some("model"))
                }
            });
        }
        let (got, max) = (ask.prompt_tokens as u64, vitals.max_model_len);
        if got < max || kind == Kind::Ollama {
            return None;
        }
        if kind == Kind::LlamaServer {
            let message = format!(
                "request ({got} tokens) exceeds the available context size ({max} tokens), try increasing it"
            );
            return Some((400, message, None));
        }
        let message = format!(
            "This model's maximum context length is {max} tokens. However, your prompt contains at least {got} input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value={got})"
        );
        Some((400, message, Some("input_tokens")))
    }

    pub(crate) async fn refuse(
        &mut self,
        status: u16,
        message: &str,
        param: Option<&str>,
    ) -> Result<End, Stop> {
        let body = dialect::error(self.shared.kind, status, message, param);
        self.fixed(&Fixed::json(status, body)).await
    }

    async fn generate(&mut self, ask: &Ask) -> Result<End, Stop> {
        let kind = self.shared.kind;
        let script = self.script.clone();
        let meta = self.meta(ask);
        let streams = ask.stream && !script.plain && ask_speaks(ask.route);
        let _using = if kind == Kind::Ollama {
            let model = crate::profile::tagged(ask.model.as_deref().unwrap_or_default());
            let model = model.to_ascii_lowercase();
            Some(self.shared.load(self.link, &model, script.load_ms).await?)
        } else {
            None
        };
        self.link.pause(Duration::from_millis(script.head_ms)).await?;
        for status in &script.interim {
            let interim = HeadText::new("HTTP/1.1", *status).finish();
            self.link.send(&interim).await?;
        }
        let shared = self.shared;
        if shared.is_full(script.slots, script.queue) {
            return self.busy().await;
        }
        if streams {
            return self.stream(ask, &meta, &script).await;
        }
        let _slot = shared.slot(self.link, script.slots).await?;
        let silence = script.first_ms + script.gap_ms * script.words as u64;
        let silence = if ask_speaks(ask.route) { silence } else { script.first_ms };
        self.link.pause(Duration::from_millis(silence)).await?;
        let vitals_model = meta.model.clone();
        let body = match ask.route {
            Route::Chat | Route::Completions => {
                Speech::new(kind, &script, ask).document(&meta, &script, ask)
            }
            Route::Embeddings => embed::embeddings(kind, &vitals_model, ask),
            Route::Rerank => embed::rerank(kind, &vitals_model, ask),
            Route::Tokenize => embed::tokens(ask),
        };
        self.document(body).await
    }

    /// Sends a whole answer. A fault that names an event breaks it in its middle; one that speaks in
    /// events becomes the error status that the server sends in its place.
    async fn document(&mut self, body: String) -> Result<End, Stop> {
        let framing = self.script.framing.unwrap_or(Framing::Length);
        let half = At::Bytes(body.len() / 2);
        let fault = self.script.fault.clone();
        let fixed = Fixed { framing, ..Fixed::json(200, body) };
        let Some(fault) = fault.filter(|f| matches!(f.at, At::Events(_) | At::Finish | At::Done))
        else {
            return self.fixed(&fixed).await;
        };
        match fault.how {
            How::ErrorEvent { code, message } => self.refuse(code, &message, None).await,
            How::DeadRunner => {
                let message = "an error was encountered while running the model: unexpected EOF";
                self.refuse(500, message, None).await
            }
            how => {
                // Half a document cannot end cleanly or by half an event: it is cut.
                let how = match how {
                    How::CleanEnd | How::HalfEvent | How::HalfEventCleanEnd => How::Fin,
                    how => how,
                };
                self.script = (*self.script).clone().fault(half, how).into();
                self.fixed(&fixed).await
            }
        }
    }

    async fn busy(&mut self) -> Result<End, Stop> {
        let message = match self.shared.kind {
            Kind::Tei => {
                let body = r#"{"message":"Model is overloaded","code":429,"type":"Overloaded"}"#;
                return self.fixed(&Fixed::json(429, body)).await;
            }
            Kind::Ollama => "server busy, please try again.  maximum pending requests exceeded",
            _ => {
                "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."
            }
        };
        self.refuse(503, message, None).await
    }

    fn meta(&self, ask: &Ask) -> Meta {
        let kind = self.shared.kind;
        let served = lock(&self.shared.vitals).models.first().cloned().unwrap_or_default();
        let asked = ask.model.clone();
        let model = if kind == Kind::LlamaServer { served } else { asked.unwrap_or(served) };
        let prefix = if ask.route == Route::Completions { "cmpl" } else { "chatcmpl" };
        let safe = |id: &&str| id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        let id = match self.head.header("x-request-id").filter(safe) {
            Some(id) if kind == Kind::Vllm => format!("{prefix}-{id}"),
            _ => format!("{prefix}-{}{:03}", self.connection, self.sequence % 1000),
        };
        Meta {
            kind,
            route: ask.route,
            id,
            created: unix_seconds(),
            model: dialect::quote(&model),
            suffix: self.script.suffix.clone(),
            tool: self.script.tool_call.as_ref().map(|t| (t.name.clone(), t.arguments.clone())),
        }
    }

    async fn stream(&mut self, ask: &Ask, meta: &Meta, script: &Script) -> Result<End, Stop> {
        let kind = self.shared.kind;
        let framing = match script.framing {
            Some(framing) => framing,
            None if self.head.minor == 0 => Framing::Close,
            None => Framing::Chunked,
        };
        let after = self.after(true);
        let early = kind == Kind::Vllm && framing != Framing::Length;
        let shared = self.shared;
        let head = self.stream_head(framing, after);
        let mut writer = Writer::new(self.link, script, framing);
        if early {
            writer.head(head.clone(), false).await?;
        }
        let _slot = shared.slot(writer.link, script.slots).await?;
        let speech = Speech::new(kind, script, ask);
        let pieces = speech.pieces(kind, script, ask);
        let count = speech.count(script, ask);
        let render = |piece: &Piece| sse::event(meta, script, piece, count, || meta.usage(count));
        if framing == Framing::Length {
            let mut body = sse::opening(script);
            for piece in &pieces {
                body.extend_from_slice(&render(piece));
            }
            writer.link.pause(Duration::from_millis(script.first_ms)).await?;
            let fixed = Fixed::default();
            let head = self.document_head(&fixed, "text/event-stream", body.len(), after);
            let mut writer = Writer::new(self.link, script, framing);
            writer.head(head, true).await?;
            writer.body(&body).await?;
            writer.flush().await?;
            return Ok(self.close_or_keep(after, framing));
        }
        if !early {
            let hold = matches!(kind, Kind::Ollama | Kind::LlamaServer);
            // A held head must not hold back the comments before the first event.
            writer.head(head, hold && script.sse.comments_before == 0).await?;
        }
        let count = |n| shared.recorder.count(|s| s.events_out += n as u64);
        events(&mut writer, script, meta, &pieces, render, count).await?;
        Ok(self.close_or_keep(after, framing))
    }

    /// Sends a fixed answer.
    pub(crate) async fn fixed(&mut self, fixed: &Fixed) -> Result<End, Stop> {
        let body = fixed.body.bytes();
        let script = self.script.clone();
        let bare = fixed.status < 200 || matches!(fixed.status, 204 | 304);
        let mut after = self.after(false);
        if self.shared.kind == Kind::LlamaServer && fixed.status >= 400 {
            after = After::Close;
        }
        let framing = fixed.framing;
        let json = "application/json";
        let head = self.document_head(fixed, json, body.len(), after);
        let head_only = bare || self.head.method == "HEAD";
        let mut writer = Writer::new(self.link, &script, framing);
        writer.head(head, !head_only).await?;
        if !head_only {
            writer.body(&body).await?;
            writer.finish().await?;
        }
        Ok(self.close_or_keep(after, framing))
    }

    /// Breaks at a stage before the answer.
    pub(crate) async fn broken_at(&mut self, at: At) -> Result<(), Stop> {
        let Some(fault) = self.script.fault.as_ref().filter(|f| f.at == at) else { return Ok(()) };
        match fault.how {
            How::Hang | How::Comments(_) => {
                self.link.hang().await;
                Err(Stop::Gone)
            }
            How::Reset => Err(Stop::Broken(End::Reset)),
            _ => Err(Stop::Broken(End::Close)),
        }
    }
}

/// Whether the route generates text.
fn ask_speaks(route: Route) -> bool {
    matches!(route, Route::Chat | Route::Completions)
}

/// Sends the events, with the pauses and the fault of the script.
async fn events(
    writer: &mut Writer<'_>,
    script: &Script,
    meta: &Meta,
    pieces: &[Piece],
    render: impl Fn(&Piece) -> Vec<u8>,
    count: impl Fn(usize),
) -> Result<(), Stop> {
    let opening = sse::opening(script);
    if !opening.is_empty() {
        writer.body(&opening).await?;
    }
    for _ in 0..script.sse.comments_before {
        writer.body(&sse::comment(script)).await?;
        writer.link.pause(Duration::from_millis(script.sse.comment_gap_ms)).await?;
    }
    writer.link.pause(Duration::from_millis(script.first_ms)).await?;
    let mut glued = Vec::new();
    let mut sent = 0;
    for (i, piece) in pieces.iter().enumerate() {
        let event = render(piece);
        let due = writer.breaks_at(At::Events(writer.events))
            || (piece.finishes() && writer.breaks_at(At::Finish))
            || (*piece == Piece::Done && writer.breaks_at(At::Done));
        if due {
            if !glued.is_empty() {
                writer.body(&glued).await?;
            }
            return writer.break_off(Some(meta), &event).await;
        }
        let is_content = !matches!(piece, Piece::Usage | Piece::Done);
        if i > 0 && is_content && glued.is_empty() {
            writer.link.pause(Duration::from_millis(script.gap_ms)).await?;
        }
        glued.extend_from_slice(&event);
        writer.events += 1;
        if pieces.get(i + 1).is_some_and(|next| glues(meta.kind, piece, next)) {
            continue;
        }
        writer.body(&glued).await?;
        count(writer.events - sent);
        sent = writer.events;
        glued.clear();
        for _ in 0..script.sse.comments_between {
            writer.body(&sse::comment(script)).await?;
        }
    }
    for _ in 0..script.sse.comments_after {
        writer.body(&sse::comment(script)).await?;
    }
    if writer.breaks_at(At::Events(writer.events)) {
        return writer.break_off(Some(meta), b"").await;
    }
    writer.flush().await?;
    if script.linger_ms > 0 {
        // Whoever leaves now has the whole answer.
        let _ = writer.link.pause(Duration::from_millis(script.linger_ms)).await;
    }
    let _ = writer.finish().await;
    Ok(())
}

/// Whether the server writes two events as one HTTP chunk: llama-server its role chunk and the first
/// token, Ollama its last chunk and `[DONE]`.
fn glues(kind: Kind, piece: &Piece, next: &Piece) -> bool {
    match kind {
        Kind::LlamaServer => {
            matches!((piece, next), (Piece::Role { .. }, Piece::Role { .. } | Piece::Word { .. }))
        }
        Kind::Ollama => *next == Piece::Done,
        Kind::Vllm | Kind::Tei | Kind::Plain => false,
    }
}

/// Whether usage is written on ordinary chunks, and as what.
pub(crate) fn chunk_usage(script: &Script, usage: impl Fn() -> String) -> Option<String> {
    match script.usage {
        Usage::EveryChunk => Some(usage()),
        Usage::Null => Some("null".to_owned()),
        Usage::Asked | Usage::Always | Usage::Never => None,
    }
}
