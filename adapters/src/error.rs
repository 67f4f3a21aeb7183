//! Error bodies: every shape that upstreams send in, one envelope out.

use std::borrow::Cow;

use bytes::Bytes;
use memchr::memmem;
use serde_json::Value;
use serde_json::value::RawValue;

/// Longest message kept of an upstream's error, in bytes.
pub const MESSAGE_MAX_BYTES: usize = 2048;
/// Longest error body that is read; callers need not buffer more of one.
pub const BODY_MAX_BYTES: usize = 64 << 10;
/// Longest `type`, `param` or `code` kept, in bytes.
const WORD_MAX_BYTES: usize = 256;

/// An upstream's error, whatever its shape was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpstreamError {
    /// What it said, at most [`MESSAGE_MAX_BYTES`]; empty when it said nothing.
    pub message: String,
    /// `type`.
    pub kind: Option<String>,
    /// `param`.
    pub param: Option<String>,
    /// `code`, numbers as text.
    pub code: Option<String>,
    /// The body is OpenAI's envelope already: pass it byte for byte, also where its message is longer than the one
    /// kept here.
    pub canonical: bool,
}

impl UpstreamError {
    /// Reads an error body of any shape: `{"error":{..}}`, `{"error":"text"}`, TEI's `{message,code,type}` and
    /// `{error,error_type}`, `{"detail":..}`, HTML, plain text, nothing. A body over [`BODY_MAX_BYTES`] is taken
    /// as text.
    #[must_use]
    pub fn read(body: &[u8]) -> Self {
        if body.len() <= BODY_MAX_BYTES
            && let Ok(value) = serde_json::from_slice::<Value>(body)
        {
            return Self::from_json(&value);
        }
        let body = &body[..body.len().min(BODY_MAX_BYTES)];
        Self { message: plain(body), ..Self::default() }
    }

    fn from_json(value: &Value) -> Self {
        match value {
            Value::Object(object) => match object.get("error") {
                Some(error @ Value::Object(_)) => Self::from_object(error, true),
                Some(Value::String(text)) => Self {
                    message: cap(text, MESSAGE_MAX_BYTES),
                    kind: word(object.get("error_type")),
                    ..Self::default()
                },
                _ => match object.get("detail") {
                    Some(detail) => Self { message: text(detail), ..Self::default() },
                    None => Self::from_object(value, false),
                },
            },
            other => Self { message: text(other), ..Self::default() },
        }
    }

    fn from_object(error: &Value, enveloped: bool) -> Self {
        let message = error.get("message");
        let message_text = match message {
            Some(message) => text(message),
            None if error.as_object().is_some_and(serde_json::Map::is_empty) => String::new(),
            None => text(error),
        };
        let string_or_null =
            |key| matches!(error.get(key), None | Some(Value::Null | Value::String(_)));
        let canonical = enveloped
            && message.is_some_and(Value::is_string)
            && string_or_null("type")
            && string_or_null("param")
            && (string_or_null("code") || error.get("code").is_some_and(Value::is_i64));
        Self {
            message: message_text,
            kind: word(error.get("type")),
            param: word(error.get("param")),
            code: word(error.get("code")),
            canonical,
        }
    }

    /// The HTTP status that the error names itself: `code` as an integer of 400 to 599, or its text.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        let status = self.code.as_deref()?.parse().ok()?;
        (400..600).contains(&status).then_some(status)
    }
}

/// A JSON value as text: strings as they are, null as nothing, the rest as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => cap(text, MESSAGE_MAX_BYTES),
        Value::Null => String::new(),
        other => cap(&other.to_string(), MESSAGE_MAX_BYTES),
    }
}

fn word(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(cap(text, WORD_MAX_BYTES)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// At most `max` bytes, cut between characters.
fn cap(text: &str, max: usize) -> String {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// A body that is not JSON: an HTML page's title, else the text itself.
fn plain(body: &[u8]) -> String {
    let body = body.trim_ascii();
    if body.first() == Some(&b'<')
        && let Some(start) = memmem::find(body, b"<title>").map(|at| at + "<title>".len())
        && let Some(len) = memmem::find(&body[start..], b"</title>")
    {
        return lossy(&body[start..start + len]);
    }
    lossy(body)
}

fn lossy(bytes: &[u8]) -> String {
    // Cut before decoding: a replacement character is up to three times as long as what it replaces.
    let bytes = &bytes[..bytes.len().min(MESSAGE_MAX_BYTES)];
    let text = match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => {
            // Only the cut itself broke a character.
            String::from_utf8_lossy(&bytes[..error.valid_up_to()])
        }
        _ => String::from_utf8_lossy(bytes),
    };
    cap(text.trim(), MESSAGE_MAX_BYTES)
}

/// Whether the value of an `error` key means an error. The SDKs test for truth, so null, false, 0, `""` and empty
/// containers are none.
pub(crate) fn is_error(json: &str) -> bool {
    !matches!(json, "null" | "false" | "0" | "\"\"" | "{}" | "[]")
}

/// [`is_error`] for a raw value.
pub(crate) fn is_error_value(value: Option<&RawValue>) -> bool {
    value.is_some_and(|value| is_error(value.get()))
}

/// OpenAI's error envelope, all four keys always there (`openapi.yaml`, `ErrorResponse`).
#[must_use]
pub fn envelope(message: &str, kind: &str, param: Option<&str>, code: Option<&str>) -> Bytes {
    #[derive(serde::Serialize)]
    struct Envelope<'a> {
        error: Body<'a>,
    }
    #[derive(serde::Serialize)]
    struct Body<'a> {
        message: &'a str,
        r#type: &'a str,
        param: Option<&'a str>,
        code: Option<&'a str>,
    }
    let envelope = Envelope { error: Body { message, r#type: kind, param, code } };
    // Strings and options of strings always serialise.
    serde_json::to_vec(&envelope).unwrap_or_default().into()
}

/// An envelope as one server-sent event. Line ends inside it become several `data:` lines, as the format asks.
#[must_use]
pub fn event(envelope: &[u8]) -> Bytes {
    let lines: Cow<'_, [u8]> = if memchr::memchr2(b'\n', b'\r', envelope).is_some() {
        let mut lines = Vec::with_capacity(envelope.len() + 32);
        for line in envelope.split(|byte| matches!(byte, b'\n' | b'\r')) {
            if !lines.is_empty() {
                lines.extend_from_slice(b"\ndata: ");
            }
            lines.extend_from_slice(line);
        }
        Cow::Owned(lines)
    } else {
        Cow::Borrowed(envelope)
    };
    [b"data: ", lines.as_ref(), b"\n\n"].concat().into()
}

#[cfg(test)]
mod tests;
