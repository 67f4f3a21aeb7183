//! Stored answers: which requests get one, byte for byte, and which answers are never stored.

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use loadtest::{At, How, Part, Script, Upstream};
use support::streams::{EVENTS, chat_lines, exactly, one, stream};
use support::{Gateway, Reply, wait_until};

const COLD: &str = ",\"temperature\":0";
const STREAM: &str = ",\"stream\":true,\"temperature\":0";

fn cached() -> (Upstream, Gateway) {
    one("", "[cache]\ndefault = true\n")
}

/// What the cache says that it did.
fn cache(reply: &Reply) -> &str {
    reply.header("x-forebay-cache").unwrap_or("-")
}

fn ask(gateway: &Gateway, path: &str, body: &str) -> Reply {
    let reply = gateway.client().post(path, body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.complete);
    reply
}

#[test]
fn every_operation_is_answered_once() {
    let (upstream, gateway) = cached();
    let requests = [
        ("/v1/chat/completions", r#"{"model":"tiny","messages":[],"temperature":0}"#),
        ("/v1/chat/completions", r#"{"model":"tiny","messages":[],"temperature":0,"stream":true}"#),
        ("/v1/completions", r#"{"model":"tiny","prompt":"x","seed":7}"#),
        ("/v1/completions", r#"{"model":"tiny","prompt":"x","seed":7,"stream":true}"#),
        ("/v1/embeddings", r#"{"model":"tiny","input":"x"}"#),
    ];
    for (number, (path, body)) in requests.iter().enumerate() {
        let first = ask(&gateway, path, body);
        assert_eq!((cache(&first), first.header("age")), ("miss", None), "{body}");
        for again in [(*body).to_owned(), body.replace(',', " ,\n ")] {
            let second = ask(&gateway, path, &again);
            assert_eq!(cache(&second), "hit", "{again}");
            assert_eq!(second.body, first.body);
            assert_eq!(second.header("content-type"), first.header("content-type"));
            assert!(second.header("age").unwrap().parse::<u64>().unwrap() < 20);
            assert_eq!(second.header("x-forebay-model"), Some("tiny"));
            assert_eq!(second.header("x-forebay-region"), Some("eu"));
            assert_eq!(second.header("x-forebay-backend"), None);
            assert_eq!(second.header("x-forebay-attempts"), None);
            assert!(second.header("x-request-id").is_some());
        }
        assert_eq!(upstream.inferences().len(), number + 1, "{body}");
    }
    assert_eq!(gateway.metric("forebay_cache_hits_total{tier=\"memory\"}"), 10.0);
    assert_eq!(gateway.metric("forebay_cache_misses_total"), 5.0);
    assert_eq!(gateway.metric("forebay_cache_stores_total{tier=\"memory\"}"), 5.0);
    wait_until("the log lines", || chat_lines(&gateway).len() == 6);
    let hits: Vec<_> =
        chat_lines(&gateway).into_iter().filter(|line| line["cache"] == "hit").collect();
    assert_eq!(hits.len(), 4);
    assert!(hits.iter().all(|line| line["attempts"] == 0 && line["outcome"] == "ok"));
}

#[test]
fn a_stream_is_replayed_byte_for_byte() {
    let (upstream, gateway) = cached();
    let text = stream(EVENTS);
    upstream.script(exactly(&text));
    let first = gateway.client().chat_stream("tiny", COLD);
    upstream.script(Script::status(500, "{}"));
    let second = gateway.client().chat_stream("tiny", COLD);
    assert_eq!((cache(&first), cache(&second)), ("miss", "hit"));
    assert_eq!(first.text(), text);
    assert_eq!(second.text(), text);
    assert_eq!(second.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(second.header("cache-control"), Some("no-cache"));
    wait_until("the log lines", || chat_lines(&gateway).len() == 2);
    assert_eq!(chat_lines(&gateway)[1]["completion_tokens"], 2, "the usage too");
}

#[test]
fn what_would_be_answered_differently_is_not_stored() {
    let (upstream, gateway) = cached();
    for extra in
        ["", ",\"temperature\":1", ",\"temperature\":0,\"n\":2", ",\"seed\":1,\"tools\":[{}]"]
    {
        for stream in ["", ",\"stream\":true"] {
            upstream.clear();
            let extra = format!("{extra}{stream}");
            for _ in 0..2 {
                let reply = gateway.client().chat("tiny", &extra);
                assert_eq!((reply.status, cache(&reply)), (200, "bypass"), "{extra}");
            }
            assert_eq!(upstream.inferences().len(), 2, "{extra}");
        }
    }
    let series = "forebay_cache_bypass_total{reason=\"not_deterministic\"}";
    assert_eq!(gateway.metric(series), 16.0);
}

#[test]
fn a_model_that_is_not_cached_knows_no_cache() {
    let (upstream, gateway) = one("", "");
    for _ in 0..2 {
        assert_eq!(cache(&gateway.client().chat("tiny", COLD)), "-");
    }
    assert_eq!(upstream.inferences().len(), 2);
}

#[test]
fn always_means_always() {
    let (upstream, gateway) = one("", "[cache]\ndefault = true\nwhen = \"always\"\n");
    let first = gateway.client().chat("tiny", ",\"n\":2");
    let second = gateway.client().chat("tiny", ",\"n\":2");
    assert_eq!((cache(&first), cache(&second)), ("miss", "hit"));
    assert_eq!(upstream.inferences().len(), 1);
}

#[test]
fn failures_and_torn_answers_are_never_stored() {
    let (upstream, gateway) = cached();
    let plain = [
        Script::status(500, r#"{"error":{"message":"no"}}"#),
        Script::status(400, r#"{"error":{"message":"no"}}"#),
        Script::status(200, r#"{"error":{"message":"no"}}"#),
        Script::broken(At::Bytes(20), How::Reset),
        Script::broken(At::Bytes(20), How::Fin),
    ];
    let streams = [
        Script::broken(At::Events(5), How::Reset),
        Script::broken(At::Events(5), How::Fin),
        Script::broken(At::Events(5), How::error(500)),
        Script::default().without(Part::Done),
        Script::default().without(Part::Finish),
        Script { finish: Some("abort".to_owned()), ..Script::default() },
    ];
    let of = |extra| move |script| (script, extra);
    for (script, extra) in
        plain.into_iter().map(of(COLD)).chain(streams.into_iter().map(of(STREAM)))
    {
        upstream.clear();
        for _ in 0..2 {
            upstream.script(script.clone());
            let reply = gateway.client().chat("tiny", extra);
            assert_ne!(cache(&reply), "hit", "{script:?}");
        }
        assert!(upstream.inferences().len() >= 2, "{script:?}");
    }
    assert_eq!(gateway.metric("forebay_cache_stores_total{tier=\"memory\"}"), 0.0);
    upstream.script(Script::default());
    assert_eq!(cache(&gateway.client().chat("tiny", COLD)), "miss");
    assert_eq!(cache(&gateway.client().chat("tiny", COLD)), "hit");
}

#[test]
fn an_answer_above_its_limit_is_not_stored() {
    let (upstream, gateway) = one("", "[cache]\ndefault = true\nentry_max = \"1KiB\"\n");
    upstream.script(Script::words(1000, 0));
    for extra in [COLD, STREAM] {
        let first = gateway.client().chat("tiny", extra);
        let second = gateway.client().chat("tiny", extra);
        assert_eq!((cache(&first), cache(&second)), ("miss", "miss"));
        assert_eq!(first.content(), second.content());
    }
    assert_eq!(upstream.inferences().len(), 4);
    assert_eq!(gateway.metric("forebay_cache_unstored_total{reason=\"too_large\"}"), 4.0);
}
