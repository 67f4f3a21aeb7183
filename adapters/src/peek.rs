//! What routing needs to know of a request body, in one pass that borrows everything.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use crate::json::{Flaw, Reader, What, unquote};

/// What the gateway reads in a body. Spans are byte offsets into the body; whatever they point at stays as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peek<'b> {
    /// The top-level `model`, decoded.
    pub model: Cow<'b, str>,
    /// The JSON string of `model`, quotes included.
    pub model_span: Range<usize>,
    /// `stream` is the literal `true`.
    pub stream: bool,
    /// The value of `stream_options`, whatever its type.
    pub stream_options: Option<Range<usize>>,
    /// `stream_options.include_usage`, where it is a boolean.
    pub include_usage: Option<bool>,
    /// The value of `stream_options.include_usage`, whatever its type.
    pub include_usage_span: Option<Range<usize>>,
    /// The value of `max_tokens`, whatever its type.
    pub max_tokens: Option<Range<usize>>,
    /// The value of `max_completion_tokens`, whatever its type.
    pub max_completion_tokens: Option<Range<usize>>,
    /// `n`; 1 where it is absent or not a positive integer.
    pub n: u32,
    /// How many prompts a `/v1/completions` body holds; 1 where `prompt` is not an array of prompts.
    pub prompts: u32,
    /// `user`, where it is a string.
    pub user: Option<Cow<'b, str>>,
    /// The value of `messages`, else of `prompt`, else of `input`: what affinity is computed from.
    pub prompt: Option<Range<usize>>,
    /// The value of `tools`.
    pub tools: Option<Range<usize>>,
    /// Just after the last member: where `,"key":value` can be added.
    pub insert_at: usize,
}

impl Peek<'_> {
    /// How many choices a complete answer has: `n` for each prompt.
    #[must_use]
    pub const fn choices(&self) -> u32 {
        self.n.saturating_mul(self.prompts)
    }
}

/// Why a body is refused; always the client's fault, status 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PeekError {
    /// For the client.
    pub message: String,
    /// The parameter at fault, where it is one.
    pub param: Option<&'static str>,
}

fn refuse<T>(param: Option<&'static str>, message: impl fmt::Display) -> Result<T, PeekError> {
    Err(PeekError { message: message.to_string(), param })
}

/// The last of each top-level member that matters (upstreams take the last of doubled keys), as value spans.
#[derive(Default)]
struct Found {
    model: Option<Range<usize>>,
    stream: Option<Range<usize>>,
    /// A second or differently spelled `model` or `stream`.
    twice: Option<&'static str>,
    stream_options: Option<Range<usize>>,
    max_tokens: Option<Range<usize>>,
    max_completion_tokens: Option<Range<usize>>,
    n: Option<Range<usize>>,
    user: Option<Range<usize>>,
    messages: Option<Range<usize>>,
    prompt: Option<Range<usize>>,
    input: Option<Range<usize>>,
    tools: Option<Range<usize>>,
    last: usize,
}

impl Found {
    fn see(&mut self, key: &str, value: Range<usize>) {
        self.last = value.end;
        let slot = match key {
            "model" => return Self::once(&mut self.model, &mut self.twice, "model", value),
            "stream" => return Self::once(&mut self.stream, &mut self.twice, "stream", value),
            "stream_options" => &mut self.stream_options,
            "max_tokens" => &mut self.max_tokens,
            "max_completion_tokens" => &mut self.max_completion_tokens,
            "n" => &mut self.n,
            "user" => &mut self.user,
            "messages" => &mut self.messages,
            "prompt" => &mut self.prompt,
            "input" => &mut self.input,
            "tools" => &mut self.tools,
            _ => {
                if folds_to(key, "model") {
                    self.twice.get_or_insert("model");
                } else if folds_to(key, "stream") {
                    self.twice.get_or_insert("stream");
                }
                return;
            }
        };
        *slot = Some(value);
    }

    fn once(
        slot: &mut Option<Range<usize>>,
        twice: &mut Option<&'static str>,
        key: &'static str,
        value: Range<usize>,
    ) {
        if slot.replace(value).is_some() {
            twice.get_or_insert(key);
        }
    }
}

/// Whether a reader that ignores case takes `key` for `name` (ASCII). Go's `encoding/json`, which Ollama uses,
/// also folds U+017F to `s` and U+212A to `k`.
fn folds_to(key: &str, name: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        _ => c.to_ascii_lowercase(),
    };
    key.chars().map(fold).eq(name.chars())
}

/// Reads what routing needs in one pass.
///
/// # Errors
/// The body is not one JSON object in UTF-8 (a byte order mark is refused, as Ollama does), nests deeper than
/// `depth_max` levels, has no usable `model`, or spells `model` or `stream` twice or in another case, so that
/// two readers could see two values.
pub fn peek(body: &[u8], depth_max: u32) -> Result<Peek<'_>, PeekError> {
    if body.is_empty() {
        return refuse(None, "the request has no body; a JSON object is expected");
    }
    let text = match std::str::from_utf8(body) {
        Ok(text) if text.starts_with('\u{feff}') => {
            return refuse(None, "the body starts with a byte order mark; send plain UTF-8");
        }
        Ok(text) => text,
        Err(error) => {
            return refuse(
                None,
                format_args!(
                    "the body is not UTF-8: invalid byte at offset {}",
                    error.valid_up_to()
                ),
            );
        }
    };
    let found = walk(text, depth_max)?;
    if let Some(key) = found.twice {
        let param = (key == "model").then_some("model");
        return refuse(
            param,
            format_args!("`{key}` must be given at most once, and in lower case"),
        );
    }
    let (model, model_span) = model(text, found.model.clone())?;
    let (include_usage, include_usage_span) = include_usage(text, found.stream_options.as_ref());
    Ok(Peek {
        model,
        model_span,
        stream: found.stream.is_some_and(|span| &text[span] == "true"),
        stream_options: found.stream_options,
        include_usage,
        include_usage_span,
        max_tokens: found.max_tokens,
        max_completion_tokens: found.max_completion_tokens,
        n: found.n.and_then(|span| text[span].parse().ok()).filter(|n| *n > 0).unwrap_or(1),
        prompts: found.prompt.as_ref().map_or(1, |span| prompts(text, span)),
        user: found.user.and_then(|span| unquote(&text[span])),
        prompt: found.messages.or(found.prompt).or(found.input),
        tools: found.tools,
        insert_at: found.last,
    })
}

fn walk(text: &str, depth_max: u32) -> Result<Found, PeekError> {
    let mut found = Found::default();
    // The object itself is one level.
    let mut reader = Reader::new(text, 0, depth_max.saturating_sub(1));
    reader.space();
    let object = reader.peek() == Some(b'{');
    let read = if object {
        reader.members(|key, value| {
            if let Some(key) = unquote(&text[key]) {
                found.see(&key, value);
            } else {
                found.last = value.end;
            }
        })
    } else {
        reader.value().map(drop)
    };
    match read.and_then(|()| reader.end()) {
        Ok(()) if object => Ok(found),
        Ok(()) => refuse(None, "the body must be a JSON object"),
        Err(Flaw { what: What::Depth, .. }) => {
            refuse(None, format_args!("the body nests deeper than {depth_max} levels"))
        }
        Err(Flaw { at, what: What::Syntax }) if at >= text.len() => refuse(
            None,
            format_args!("the body is not valid JSON: it ends too early, at offset {at}"),
        ),
        Err(Flaw { at, what: What::Syntax }) => {
            refuse(None, format_args!("the body is not valid JSON: unexpected byte at offset {at}"))
        }
    }
}

type Model<'b> = (Cow<'b, str>, Range<usize>);

fn model(text: &str, span: Option<Range<usize>>) -> Result<Model<'_>, PeekError> {
    let param = Some("model");
    let Some(span) = span else {
        return refuse(param, "you must provide a `model`");
    };
    let raw = &text[span.clone()];
    match unquote(raw) {
        Some(model) if model.is_empty() => refuse(param, "`model` must not be empty"),
        Some(model) => Ok((model, span)),
        None => refuse(param, "`model` must be a string"),
    }
}

type IncludeUsage = (Option<bool>, Option<Range<usize>>);

fn include_usage(text: &str, options: Option<&Range<usize>>) -> IncludeUsage {
    let Some(options) = options else { return (None, None) };
    let mut span = None;
    let mut reader = Reader::new(text, options.start, u32::MAX);
    let walked = reader.members(|key, value| {
        if unquote(&text[key]).as_deref() == Some("include_usage") {
            span = Some(value);
        }
    });
    match (walked, span) {
        (Ok(()), Some(span)) => {
            let value = match &text[span.clone()] {
                "true" => Some(true),
                "false" => Some(false),
                _ => None,
            };
            (value, Some(span))
        }
        _ => (None, None),
    }
}

/// An array of strings or of token arrays is several prompts; a string or an array of tokens is one.
fn prompts(text: &str, span: &Range<usize>) -> u32 {
    let inner = text[span.clone()].strip_prefix('[').map(str::trim_start);
    if !inner.is_some_and(|inner| inner.starts_with(['"', '['])) {
        return 1;
    }
    let mut count = 0_u32;
    let walked = Reader::new(text, span.start, u32::MAX).elements(|_| {
        count = count.saturating_add(1);
    });
    if walked.is_ok() { count.max(1) } else { 1 }
}

#[cfg(test)]
mod tests;
