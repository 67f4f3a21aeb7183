//! A stored object as the text of a TOML table, and the way back from a place in that text to a place in the object.

use std::fmt::Write as _;
use std::ops::Range;

use serde_json::{Map, Value};

use super::credentials::{VARIABLE, reference};
use super::object::Body;
use crate::store::ObjectKind;

/// The text of one object, and where its parts are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rendered {
    pub(super) text: String,
    /// Bytes of the text and the RFC 6901 pointer to what stands there; a part comes before what it contains.
    parts: Vec<(Range<usize>, String)>,
}

impl Rendered {
    /// The innermost part of the object that holds a range of the text.
    pub(super) fn pointer(&self, span: &Range<usize>) -> &str {
        let holds = |part: &&(Range<usize>, String)| {
            part.0.start <= span.start && span.end.max(span.start) <= part.0.end
        };
        // The narrowest of those that hold it comes last.
        self.parts.iter().rev().find(holds).map_or("", |(_, pointer)| pointer)
    }
}

/// Renders an object. Strings come out as they went in: nothing in them is expanded. References to sealed credentials become
/// variables that only the registry answers, and only where a credential belongs: what looks like one anywhere else is an object
/// like any other, or the credential would come out with the field. Members that are null are left out.
pub(super) fn render(kind: ObjectKind, body: &Body) -> Rendered {
    let mut out = Rendered { text: format!("[[{}]]\n", kind.as_str()), parts: Vec::new() };
    for (key, value) in body.iter().filter(|(_, value)| !value.is_null()) {
        let start = out.text.len();
        let pointer = member("", key);
        let part = out.parts.len();
        out.parts.push((start..start, pointer.clone()));
        push_text(&mut out.text, key);
        out.text.push_str(" = ");
        push(&mut out, kind, value, &pointer);
        out.parts[part].0.end = out.text.len();
        out.text.push('\n');
    }
    out
}

/// The pointer to a member.
pub(super) fn member(parent: &str, key: &str) -> String {
    format!("{parent}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// Whether the config reads the member at a pointer as a credential.
fn is_credential(kind: ObjectKind, pointer: &str) -> bool {
    let way: Vec<&str> = pointer.split('/').skip(1).collect();
    match kind {
        ObjectKind::Backend => way == ["api_key"],
        ObjectKind::Model => matches!(way[..], ["deployments", _, "api_key"]),
        ObjectKind::Key => way == ["secret"] || way == ["secret_sha256"],
        ObjectKind::Head | ObjectKind::Region => false,
    }
}

fn push(out: &mut Rendered, kind: ObjectKind, value: &Value, pointer: &str) {
    match value {
        // TOML has no null; config says that an object cannot be one, which is as near as it gets.
        Value::Null => out.text.push_str("{}"),
        Value::Bool(v) => {
            let _ = write!(out.text, "{v}");
        }
        Value::Number(v) => push_number(&mut out.text, v),
        Value::String(v) => push_text(&mut out.text, &v.replace("${", "$${")),
        Value::Array(items) => {
            out.text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.text.push_str(", ");
                }
                part(out, kind, item, &format!("{pointer}/{index}"));
            }
            out.text.push(']');
        }
        Value::Object(map) => match reference(value).filter(|_| is_credential(kind, pointer)) {
            Some(id) => push_text(&mut out.text, &format!("${{{VARIABLE}{id}}}")),
            None => push_table(out, kind, map, pointer),
        },
    }
}

fn push_table(out: &mut Rendered, kind: ObjectKind, map: &Map<String, Value>, pointer: &str) {
    out.text.push_str("{ ");
    let mut first = true;
    for (key, value) in map.iter().filter(|(_, value)| !value.is_null()) {
        if !std::mem::take(&mut first) {
            out.text.push_str(", ");
        }
        let start = out.text.len();
        let pointer = member(pointer, key);
        let part = out.parts.len();
        out.parts.push((start..start, pointer.clone()));
        push_text(&mut out.text, key);
        out.text.push_str(" = ");
        push(out, kind, value, &pointer);
        out.parts[part].0.end = out.text.len();
    }
    out.text.push_str(" }");
}

fn part(out: &mut Rendered, kind: ObjectKind, value: &Value, pointer: &str) {
    let start = out.text.len();
    let index = out.parts.len();
    out.parts.push((start..start, pointer.to_owned()));
    push(out, kind, value, pointer);
    out.parts[index].0.end = out.text.len();
}

fn push_number(out: &mut String, number: &serde_json::Number) {
    // A float keeps its point or exponent, so that it stays one; whole numbers beyond TOML's 64 bits are refused by config.
    let _ = match number.as_f64().filter(|_| number.is_f64()) {
        Some(float) => write!(out, "{float:?}"),
        None => write!(out, "{number}"),
    };
}

/// A basic string: quotes, backslashes and every control character escaped (TOML 1.0, "String").
pub(super) fn push_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests;
