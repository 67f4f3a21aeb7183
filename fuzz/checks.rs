//! What must hold for any input; shared by the fuzz targets and by the replay of their corpora.

use adapters::sse::{Scanner, StreamDialect, StreamEnd};
use adapters::{Rewrite, Usage};
use bytes::Bytes;
use router::Operation;
use router::spec::Kind;
use serde::de::IgnoredAny;

/// The nesting that bodies may have here.
const DEPTH_MAX: u32 = 128;

/// What is accepted is JSON, and a new model name changes the name and nothing else.
pub fn peek(body: &[u8]) {
    let Ok(peek) = adapters::peek(body, DEPTH_MAX) else { return };
    let text = std::str::from_utf8(body).expect("accepted bodies are UTF-8");
    serde_json::from_str::<IgnoredAny>(text).expect("accepted bodies are JSON");
    let name = "new \"name\"\\\u{e9}";
    let shared = Bytes::copy_from_slice(body);
    let renamed = adapters::encode(Kind::Vllm, &shared, &peek, name, Rewrite::default()).concat();
    let (start, end) = (peek.model_span.start, peek.model_span.end);
    assert_eq!(renamed[..start], body[..start]);
    assert_eq!(renamed[renamed.len() - (body.len() - end)..], body[end..]);
    let again = adapters::peek(&renamed, DEPTH_MAX).expect("a renamed body is as good");
    assert_eq!(again.model, name);
    assert_eq!((again.stream, again.n, &again.user), (peek.stream, peek.n, &peek.user));
    let same = adapters::encode(Kind::Vllm, &shared, &peek, &peek.model, Rewrite::default());
    assert_eq!(same.concat(), shared);
    let ollama = adapters::encode(Kind::Ollama, &shared, &peek, name, Rewrite::default());
    assert_eq!(ollama.len(), ollama.concat().len());
    adapters::peek(&ollama.concat(), DEPTH_MAX).expect("so is one for Ollama");
}

/// All that a scanner says of a stream.
#[derive(Debug, PartialEq)]
struct Story {
    events: u32,
    boundary: usize,
    first_content: bool,
    error: Option<adapters::ErrorEvent>,
    end: StreamEnd,
    usage: Option<Usage>,
    dead_runner: bool,
}

fn story(stream: &[u8], size: usize, dialect: StreamDialect, choices: u32) -> Story {
    let mut scanner = Scanner::new(dialect, choices);
    let (mut events, mut boundary, mut at, mut error) = (0, 0, 0, None);
    let (mut first_content, mut done) = (false, false);
    for chunk in stream.chunks(size) {
        let scan = scanner.push(chunk);
        if let Some(offset) = scan.boundary {
            assert!(offset <= chunk.len());
            boundary = at + offset;
        }
        at += chunk.len();
        assert_eq!(scanner.carry_len(), at - boundary);
        assert!(scan.first_content >= first_content && scan.done >= done, "these never go back");
        (first_content, done) = (scan.first_content, scan.done);
        events += scan.events;
        assert!(error.is_none() || scan.error.is_none(), "only the first error is told");
        error = error.or(scan.error.map(|error| *error));
    }
    Story {
        events,
        boundary,
        first_content,
        error,
        end: scanner.finish(),
        usage: scanner.usage(),
        dead_runner: scanner.dead_runner(),
    }
}

/// However a stream is cut up, it tells the same story.
pub fn sse(stream: &[u8]) {
    for (dialect, choices) in [(StreamDialect::Chat, 1), (StreamDialect::Completions, 2)] {
        let whole = story(stream, stream.len().max(1), dialect, choices);
        for size in [1, 2, 3, 7, 64] {
            assert_eq!(story(stream, size, dialect, choices), whole, "in chunks of {size}");
        }
    }
}

/// Any error body gives a short message, and any message an envelope that says it.
pub fn error_body(body: &[u8]) {
    let error = adapters::UpstreamError::read(body);
    assert!(error.message.len() <= adapters::error::MESSAGE_MAX_BYTES);
    if error.canonical {
        let value: serde_json::Value = serde_json::from_slice(body).expect("canonical is JSON");
        let whole = value["error"]["message"].as_str().expect("a message");
        assert!(whole.starts_with(&error.message));
    }
    let envelope = adapters::envelope(&error.message, "t", error.param.as_deref(), Some("c"));
    let value: serde_json::Value = serde_json::from_slice(&envelope).expect("an envelope is JSON");
    assert_eq!(value["error"]["message"], error.message.as_str());
    for kind in Kind::ALL {
        for status in [0, 200, 301, 400, 401, 403, 404, 422, 429, 500, 501, 503, 999] {
            let _verdict = adapters::classify(kind, Operation::ChatCompletions, status, body);
        }
    }
    let _answer = adapters::inspect(body);
}

/// Any list gives valid names, and what we list of them reads back the same.
pub fn models(body: &[u8]) {
    use adapters::models::{ListedModel, list, ollama_loaded, ollama_tags, openai_list, version};
    let _loaded = ollama_loaded(body);
    let _version = version(body);
    for listing in [openai_list(body), ollama_tags(body)].into_iter().flatten() {
        let ours = list(listing.models.iter().map(|model| ListedModel {
            id: model.name.as_str(),
            created: model.created.unwrap_or(0),
            owned_by: model.owned_by.as_deref(),
            parent: model.parent.as_deref(),
            max_model_len: model.context_length,
        }));
        let names = |listing: &adapters::models::Listing| -> Vec<String> {
            listing.models.iter().map(|model| model.name.as_str().to_owned()).collect()
        };
        let again = openai_list(&ours).expect("our own list is one");
        assert_eq!((names(&again), again.skipped), (names(&listing), 0));
    }
}

/// Any page gives numbers that can be computed with.
pub fn metrics_text(page: &[u8]) {
    let signals = adapters::metrics_text::parse(page);
    for count in [signals.running, signals.waiting].into_iter().flatten() {
        assert!(count >= 0.0, "{count}");
    }
    assert!(signals.kv_cache.is_none_or(|share| (0.0..=1.0).contains(&share)));
}
