//! Writes events as the script shapes them.

use crate::answer::chunk_usage;
use crate::dialect::{Count, Meta};
use crate::plan::Piece;
use crate::script::Script;

/// What comes before everything: a byte order mark, if the script has one.
pub(crate) fn opening(script: &Script) -> Vec<u8> {
    if script.sse.bom { "\u{feff}".as_bytes().to_vec() } else { Vec::new() }
}

/// A keep-alive comment as vLLM writes it.
pub(crate) fn comment(script: &Script) -> Vec<u8> {
    let eol = script.sse.eol.as_str();
    format!(": keep-alive{eol}{eol}").into_bytes()
}

/// One event.
pub(crate) fn event(
    meta: &Meta,
    script: &Script,
    piece: &Piece,
    count: Count,
    usage: impl Fn() -> String,
) -> Vec<u8> {
    let mut data = meta.chunk(piece, count);
    if !matches!(piece, Piece::Usage | Piece::Done) {
        if let Some(usage) = chunk_usage(script, usage) {
            extend(&mut data, &format!(r#","usage":{usage}"#));
        }
        if let (Some(pad), Piece::Word { index, .. }) = (script.pad, piece)
            && *index == script.start + pad.word
        {
            extend(&mut data, &format!(r#","pad":"{}""#, "x".repeat(pad.bytes)));
        }
    }
    let sse = &script.sse;
    let eol = sse.eol.as_str();
    let field = if sse.space { "data: " } else { "data:" };
    let mut out = String::with_capacity(data.len() + 32);
    if let Some(name) = &sse.event {
        out.push_str(&format!("event: {name}{eol}"));
    }
    // JSON may break behind a comma; the reader joins the lines by a line feed.
    match data.find(',').filter(|_| sse.two_lines) {
        Some(at) => {
            let (first, second) = data.split_at(at + 1);
            out.push_str(&format!("{field}{first}{eol}{field}{second}{eol}{eol}"));
        }
        None => {
            out.push_str(field);
            out.push_str(&data);
            out.push_str(eol);
            out.push_str(eol);
        }
    }
    out.into_bytes()
}

/// Adds a member to the end of a JSON object.
fn extend(object: &mut String, member: &str) {
    if object.ends_with('}') {
        object.truncate(object.len() - 1);
        object.push_str(member);
        object.push('}');
    }
}
