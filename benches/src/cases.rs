//! What is counted. The names are those of the budget file.

use std::hint::black_box;

use adapters::{Rewrite, Scanner, StreamDialect, canonical, encode, inspect, peek};
use bytes::Bytes;
use router::Operation;
use router::spec::Kind;

use crate::inputs;
use crate::requests::{charges, hits, misses};
use crate::world::plans;

/// JSON depth that the gateway allows by default.
const DEPTH_MAX: u32 = 128;
/// What the model is called at the server.
const UPSTREAM_MODEL: &str = "mistralai/Mistral-7B-Instruct-v0.3";

/// A case: its name, and what does it so often.
pub(crate) type Case = (&'static str, fn(u64));

pub(crate) const CASES: [Case; 17] = [
    ("peek_small", |times| peeks(&inputs::small_chat(), times)),
    ("peek_8k", |times| peeks(&inputs::chat(8 << 10), times)),
    ("peek_1m", |times| peeks(&inputs::chat(1 << 20), times)),
    ("encode_same_name", |times| encodes(Kind::Vllm, "mistral-7b", times)),
    ("encode_rename", |times| encodes(Kind::Vllm, UPSTREAM_MODEL, times)),
    ("encode_ollama", |times| encodes(Kind::Ollama, "mistral:7b", times)),
    ("scan_event", |times| scans(inputs::TOKEN_EVENT, times)),
    ("scan_32_events_at_once", |times| scans(&inputs::TOKEN_EVENT.repeat(32), times)),
    ("scan_event_in_two_parts", scans_halves),
    ("scan_stream_head_and_end", scans_ends),
    ("inspect_answer", inspects),
    ("cache_name_small", |times| names(&inputs::small_chat(), times)),
    ("cache_name_8k", |times| names(&inputs::chat(8 << 10), times)),
    ("cache_hit", hits),
    ("cache_miss", misses),
    ("limits_check", charges),
    ("plan_in_a_large_world", plans),
];

fn peeks(body: &Bytes, times: u64) {
    for _ in 0..times {
        let _ = black_box(peek(black_box(body), DEPTH_MAX));
    }
}

/// What the name of a stored answer costs: the body in its canonical form, digested, and whether it may be stored.
fn names(body: &Bytes, times: u64) {
    for _ in 0..times {
        let mut hasher = blake3::Hasher::new_keyed(black_box(&[7; 32]));
        let Some(canonical) = canonical(black_box(body), DEPTH_MAX) else { return };
        black_box(canonical.is_deterministic(Operation::ChatCompletions));
        canonical.feed(&mut |piece| {
            hasher.update(piece);
        });
        black_box(hasher.finalize());
    }
}

fn encodes(kind: Kind, upstream_model: &str, times: u64) {
    let body = inputs::small_chat();
    let Ok(peek) = peek(&body, DEPTH_MAX) else { return };
    for _ in 0..times {
        let upstream_model = black_box(upstream_model);
        black_box(encode(kind, black_box(&body), &peek, upstream_model, Rewrite::default()));
    }
}

/// A scanner that has seen the first content.
fn started() -> Scanner {
    let mut scanner = Scanner::new(StreamDialect::Chat, 1);
    scanner.push(inputs::ROLE_EVENT);
    scanner.push(inputs::TOKEN_EVENT);
    scanner
}

fn scans(chunk: &[u8], times: u64) {
    let mut scanner = started();
    for _ in 0..times {
        black_box(scanner.push(black_box(chunk)));
    }
}

/// Each event is cut in its middle, so that it is copied aside.
fn scans_halves(times: u64) {
    let (head, tail) = inputs::TOKEN_EVENT.split_at(inputs::TOKEN_EVENT.len() / 2);
    let mut scanner = started();
    for _ in 0..times {
        black_box(scanner.push(black_box(head)));
        black_box(scanner.push(black_box(tail)));
    }
}

/// What a stream costs beside its plain events: a scanner, the events that are parsed, the verdict.
fn scans_ends(times: u64) {
    for _ in 0..times {
        let mut scanner = started();
        scanner.push(black_box(inputs::FINISH_EVENT));
        scanner.push(black_box(b"data: [DONE]\n\n"));
        black_box(scanner.finish());
    }
}

fn inspects(times: u64) {
    for _ in 0..times {
        black_box(inspect(black_box(inputs::ANSWER)));
    }
}
