//! The response head is held for the first content event; after `head_hold` comments keep the client, and the search
//! for an answer goes on behind them.

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use loadtest::text::recitation;
use loadtest::{At, How, Script};
use support::streams::{chat_lines, one, two};
use support::{Gateway, Reply, wait_until};

const HOLD: &str = "head_hold = \"50ms\"\nkeep_alive = \"10ms\"\n";

fn chat(gateway: &Gateway) -> Reply {
    gateway.client().chat_stream("tiny", "")
}

/// Waits until the head and a comment are there, and nothing else is.
fn held(gateway: &Gateway) -> support::client::Exchange {
    let mut exchange = gateway.client().open_chat("tiny", ",\"stream\":true");
    let seen = exchange.read_until(": keep-alive");
    assert!(seen.starts_with("HTTP/1.1 200 ") && !seen.contains("data:"), "{seen}");
    exchange
}

#[test]
fn an_answer_within_the_hold_has_all_headers_and_no_comments() {
    let (upstream, gateway) = one("", "");
    upstream.script(Script { first_ms: 100, ..Script::default() });
    let reply = chat(&gateway);
    assert_eq!(reply.header("x-forebay-backend"), Some("first"));
    assert_eq!(reply.header("x-forebay-attempts"), Some("1"));
    assert_eq!(reply.header("cache-control"), Some("no-cache"));
    assert_eq!(reply.header("x-accel-buffering"), Some("no"));
    assert!(reply.header("x-request-id").is_some() && !reply.text().contains("keep-alive"));
}

#[test]
fn after_the_hold_the_head_does_not_name_a_backend() {
    let (upstream, gateway) = one(HOLD, "");
    upstream.script(Script { first_ms: 300, ..Script::default() });
    let reply = chat(&gateway);
    assert_eq!(reply.header("x-forebay-backend"), None);
    assert_eq!(reply.header("cache-control"), Some("no-cache"));
    assert!(reply.header("x-request-id").is_some() && reply.looks_whole());
    // The log knows it all the same.
    wait_until("the log line", || chat_lines(&gateway).len() == 1);
    let line = &chat_lines(&gateway)[0];
    assert_eq!((&line["backend"], &line["outcome"]), (&"first".into(), &"ok".into()));
}

#[test]
fn failover_goes_on_behind_the_comments() {
    // However the first one fails.
    let faults = [
        (At::Request, How::Reset),
        (At::Events(0), How::CleanEnd),
        (At::Events(1), How::Fin),
        (At::Events(1), How::error(500)),
    ];
    for (at, how) in faults {
        let (first, second, gateway) = two(HOLD, "");
        first.script(Script { head_ms: 200, first_ms: 200, ..Script::broken(at, how.clone()) });
        second.script(Script { first_ms: 100, ..Script::default() });
        let reply = held(&gateway).reply();
        let what = format!("{at:?} {how:?}: {}", reply.text());
        assert!(reply.looks_whole(), "{what}");
        assert_eq!(reply.content(), recitation(0, 20), "{what}");
        assert_eq!(reply.text().matches("\"role\"").count(), 1, "{what}");
        wait_until("the log line", || chat_lines(&gateway).len() == 1);
        let line = &chat_lines(&gateway)[0];
        assert_eq!((&line["backend"], &line["attempts"]), (&"second".into(), &2.into()), "{what}");
    }
}

#[test]
fn a_stalled_backend_is_left_while_the_head_is_out() {
    let (first, second, gateway) = two(HOLD, "[timeouts]\nfirst_event = \"200ms\"\n");
    first.script(Script::broken(At::Events(1), How::Hang));
    let reply = held(&gateway).reply();
    assert!(reply.looks_whole(), "{}", reply.text());
    assert_eq!(reply.content(), recitation(0, 20));
    assert!(first.wait_for(support::PATIENCE, |s| s.in_flight == 0));
    assert!(second.wait_for(support::PATIENCE, |s| s.finished == 1));
}

#[test]
fn the_last_failure_is_an_error_event() {
    let (first, second, gateway) = two(HOLD, "");
    let fault = Script { first_ms: 100, ..Script::broken(At::Events(0), How::Reset) };
    first.script(fault.clone());
    second.script(fault);
    let reply = chat(&gateway);
    assert!(reply.status == 200 && reply.complete, "{}", reply.text());
    let answer = reply.text().replace(": keep-alive\n\n", "");
    assert!(answer.starts_with("data: {\"error\"") && answer.ends_with("}\n\n"), "{answer}");
    assert_eq!(answer.matches("data:").count(), 1, "{answer}");
    assert_eq!(reply.error_event().unwrap()["code"], "upstream_connection_lost");
    wait_until("the log line", || chat_lines(&gateway).len() == 1);
    let line = &chat_lines(&gateway)[0];
    assert_eq!(
        (&line["outcome"], &line["attempts"]),
        (&"upstream_connection_lost".into(), &2.into())
    );
}

#[test]
fn a_refusal_behind_the_comments_keeps_its_words() {
    let (upstream, gateway) = one(HOLD, "");
    let refusal = r#"{"error":{"message":"too hot","type":"BadRequestError","param":"temperature","code":400}}"#;
    upstream.script(Script { head_ms: 200, ..Script::status(400, refusal) });
    let reply = chat(&gateway);
    let answer = reply.text().replace(": keep-alive\n\n", "");
    assert_eq!(answer, format!("data: {refusal}\n\n"));
    assert_eq!(upstream.stats().inference_requests, 1);
}

#[test]
fn a_plain_answer_is_not_held_by_head_hold() {
    let (upstream, gateway) = one("head_hold = \"20ms\"\nkeep_alive = \"5ms\"\n", "");
    upstream.script(Script { first_ms: 200, ..Script::default() });
    let reply = gateway.client().chat("tiny", "");
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    assert_eq!(reply.content(), recitation(0, 20));
    upstream.script(Script { head_ms: 200, ..Script::status(400, r#"{"error":"no"}"#) });
    assert_eq!(gateway.client().chat("tiny", "").status, 400);
}

#[test]
fn death_after_the_first_content_is_told_as_ever() {
    let (upstream, gateway) = one(HOLD, "");
    upstream.script(Script { first_ms: 200, ..Script::broken(At::Events(5), How::Fin) });
    let reply = held(&gateway).reply();
    assert_eq!(reply.content(), recitation(0, 4), "{}", reply.text());
    assert_eq!(reply.error_event().unwrap()["code"], "upstream_stream_broken");
}
