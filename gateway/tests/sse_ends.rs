//! How streams end, and what the client is told when they do not: traps 12 to 17, 20, 21, 28 and 30.

#![expect(clippy::unwrap_used, reason = "tests")]
#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::collections::HashSet;

use loadtest::text::{Verdict, recitation, verify};
use loadtest::{At, How, Pad, Part, Profile, Script, Upstream, Writes};
use serde_json::Value;
use support::streams::{EVENTS, LENIENT, chat_lines, exactly, one, stream, two};
use support::{Gateway, Reply, backend, wait_until};

const BROKEN: &str = "upstream_stream_broken";

fn chat(gateway: &Gateway) -> Reply {
    gateway.client().chat_stream("tiny", "")
}

/// The outcome of the `n`-th chat by the log.
fn outcome(gateway: &Gateway, n: usize) -> String {
    wait_until("the log line", || chat_lines(gateway).len() > n);
    chat_lines(gateway)[n]["outcome"].as_str().unwrap().to_owned()
}

/// Nothing but whole events, the last one an error; before it the recitation as far as it came.
fn assert_broken_cleanly(reply: &Reply, what: &str) {
    let text = reply.text();
    assert!(reply.status == 200 && text.ends_with("\n\n"), "{what}: {text}");
    let events = reply.events();
    let (last, before) = events.split_last().unwrap();
    for event in before {
        let event: Value = serde_json::from_str(event).unwrap();
        assert!(event["choices"].is_array(), "{what}: {text}");
    }
    let error: Value = serde_json::from_str(last).unwrap();
    assert_eq!(error["error"]["code"], BROKEN, "{what}: {text}");
    assert!(error["error"]["message"].is_string() && error["error"]["type"] == "server_error");
    assert!(matches!(verify(0, &reply.content()), Verdict::Exact(1..)), "{what}: {text}");
}

#[test]
fn trap_12_no_done_after_the_finish_chunk() {
    let (upstream, gateway) = one("", "");
    let body = stream(EVENTS.into_iter().take(5));
    for end in [None, Some(How::CleanEnd), Some(How::Fin), Some(How::Reset)] {
        let script = exactly(&body);
        // Every choice has said why it ended; a lost `[DONE]` is no loss.
        upstream.script(match end {
            None => script,
            Some(how) => script.fault(At::Bytes(body.len()), how),
        });
        let reply = chat(&gateway);
        assert!(reply.complete && reply.body == body.as_bytes(), "{}", reply.text());
    }
    for n in 0..4 {
        assert_eq!(outcome(&gateway, n), "ok");
    }
    assert_eq!(gateway.metric("forebay_streams_broken_total"), 0.0);
}

#[test]
fn trap_13_a_clean_end_without_finish_is_a_failure() {
    let (upstream, gateway) = one("", "");
    let ends = [
        Script::default().without(Part::Finish).without(Part::Done),
        Script::broken(At::Events(5), How::CleanEnd),
        Script::broken(At::Finish, How::CleanEnd),
        Script::broken(At::Finish, How::DeadRunner),
    ];
    let count = ends.len();
    for (n, script) in ends.into_iter().enumerate() {
        upstream.script(script.clone());
        assert_broken_cleanly(&chat(&gateway), &format!("{script:?}"));
        assert_eq!(outcome(&gateway, n), BROKEN);
    }
    assert_eq!(gateway.metric("forebay_streams_broken_total"), count as f64);
}

#[test]
fn trap_13_a_dead_ollama_runner() {
    let upstream = Upstream::start(Profile::ollama(&["tiny"])).unwrap();
    let gateway = Gateway::start(&format!("{}{LENIENT}", backend("first", "ollama", &upstream)));
    gateway.wait_for_model("tiny");
    upstream.script(Script::broken(At::Events(5), How::DeadRunner));
    let reply = chat(&gateway);
    assert_broken_cleanly(&reply, "ollama");
    assert_eq!(reply.content(), recitation(0, 5));
    assert_eq!(outcome(&gateway, 0), BROKEN);
}

#[test]
fn trap_14_a_cut_body_ends_in_an_error_event() {
    let (upstream, gateway) = one("", "");
    let hows = [
        How::Fin,
        How::Reset,
        How::BadChunk,
        How::HalfEvent,
        How::HalfEventCleanEnd,
        How::Comments(0),
    ];
    let mut n = 0;
    for how in hows {
        for at in [At::Events(2), At::Events(9), At::Finish] {
            upstream.script(Script::broken(at, how.clone()));
            let reply = chat(&gateway);
            assert_broken_cleanly(&reply, &format!("{how:?} {at:?}"));
            assert_eq!(outcome(&gateway, n), BROKEN);
            n += 1;
        }
    }
    // Nobody tries again once the client has seen a part.
    assert_eq!(upstream.stats().inference_requests, n as u64);
}

#[test]
fn trap_14_cut_at_every_byte_of_an_event() {
    let (upstream, gateway) = one("", "");
    let body = stream(EVENTS);
    let start = stream(EVENTS.into_iter().take(2)).len();
    let end = stream(EVENTS.into_iter().take(3)).len();
    for at in start..=end {
        for how in [How::Fin, How::CleanEnd] {
            upstream.script(exactly(&body).fault(At::Bytes(at), how));
            let reply = chat(&gateway);
            // The event is there with its last LF, or not at all.
            let whole = if at == end { end } else { start };
            let (events, error) = reply.body.split_at(whole);
            assert_eq!(events, &body.as_bytes()[..whole], "cut at {at}");
            assert!(error.starts_with(b"data: {\"error\""), "cut at {at}: {}", reply.text());
        }
    }
}

#[test]
fn trap_14_what_cannot_be_told_in_band_breaks_the_connection() {
    let (upstream, gateway) = one("", "");
    for how in [How::Fin, How::Reset, How::CleanEnd] {
        upstream.script(Script {
            pad: Some(Pad { word: 3, bytes: 200 << 10 }),
            ..Script::broken(At::Bytes(150 << 10), how)
        });
        let reply = chat(&gateway);
        assert!(!reply.complete && reply.error_event().is_none(), "{}", reply.text());
    }
    // A plain answer that the client has seen a part of.
    upstream.script(Script::words(100_000, 0).fault(At::Bytes(300 << 10), How::Fin));
    let reply = gateway.client().chat("tiny", "");
    assert!(reply.status == 200 && !reply.complete, "{} bytes", reply.body.len());
}

#[test]
fn trap_15_a_death_before_the_first_content_moves_on() {
    let faults = [
        (At::Accept, How::Reset),
        (At::RequestHead, How::Fin),
        (At::Request, How::Reset),
        (At::Head, How::Fin),
        (At::Events(0), How::CleanEnd),
        (At::Events(0), How::HalfEvent),
        (At::Events(1), How::Reset),
        (At::Events(1), How::BadChunk),
    ];
    for (at, how) in faults {
        let (first, second, gateway) = two("", "");
        first.script(Script::broken(at, how.clone()));
        let reply = chat(&gateway);
        let what = format!("{at:?} {how:?}: {}", reply.text());
        assert_eq!(reply.header("x-forebay-backend"), Some("second"), "{what}");
        assert_eq!(reply.header("x-forebay-attempts"), Some("2"), "{what}");
        assert!(reply.looks_whole() && reply.events().last().unwrap() == "[DONE]", "{what}");
        assert_eq!(reply.content(), recitation(0, 20), "{what}");
        assert_eq!(reply.text().matches("\"role\"").count(), 1, "{what}");
        assert_eq!(second.stats().inference_requests, 1);
    }
}

#[test]
fn trap_16_an_error_as_first_event_moves_on() {
    // Also after the role chunk.
    for at in [0, 1] {
        let (first, second, gateway) = two("", "");
        first.script(Script::broken(At::Events(at), How::error(500)));
        let reply = chat(&gateway);
        assert_eq!(reply.header("x-forebay-backend"), Some("second"), "{}", reply.text());
        assert!(reply.looks_whole());
        assert_eq!(reply.content(), recitation(0, 20));
        assert!(second.wait_for(support::PATIENCE, |s| s.finished == 1));
        assert_eq!(first.stats().inference_requests, 1);
    }
}

#[test]
fn trap_16_the_last_error_event_gives_its_status() {
    let (upstream, gateway) = one("", "");
    for code in [500, 503] {
        upstream.script(Script::broken(At::Events(0), How::error(code)));
        let reply = chat(&gateway);
        assert_eq!((reply.status, reply.header("content-type")), (code, Some("application/json")));
        assert_eq!(reply.json()["error"]["message"], "Internal server error");
        assert_eq!(reply.json()["error"]["code"], code);
    }
}

#[test]
fn trap_16_with_the_head_out_the_event_is_passed_on() {
    let (upstream, gateway) = one("head_hold = \"20ms\"\n", "");
    for code in [400, 500] {
        upstream
            .script(Script { first_ms: 200, ..Script::broken(At::Events(0), How::error(code)) });
        let reply = chat(&gateway);
        assert!(reply.status == 200 && reply.complete, "{}", reply.text());
        let error = reply.error_event().unwrap();
        assert_eq!(error["message"], "Internal server error", "{}", reply.text());
        assert_eq!(error["code"], code);
    }
}

#[test]
fn trap_17_an_error_event_after_tokens_passes_as_it_is() {
    let (first, second, gateway) = two("", "");
    let error = r#"{"error":{"message":"Internal server error","type":"InternalServerError","param":null,"code":500}}"#;
    let body = stream([EVENTS[0], EVENTS[1], error, "[DONE]"]);
    for writes in [Writes::Events, Writes::Bytes(vec![1])] {
        first.script(Script { writes, ..exactly(&body) });
        second.script(exactly(&body));
        let reply = chat(&gateway);
        assert!(reply.complete && reply.body == body.as_bytes(), "{}", reply.text());
        assert_eq!(reply.header("x-forebay-attempts"), Some("1"));
    }
    for n in 0..2 {
        assert_eq!(outcome(&gateway, n), BROKEN);
    }
    assert_eq!(gateway.metric("forebay_streams_broken_total"), 2.0);
    assert_eq!(first.stats().inference_requests + second.stats().inference_requests, 2);
}

#[test]
fn trap_20_leaving_after_done_is_success() {
    let (upstream, gateway) = one("", "");
    for n in 0..6 {
        let mut exchange = gateway.client().open_chat("tiny", ",\"stream\":true");
        exchange.read_until("data: [DONE]\n\n");
        exchange.leave();
        assert_eq!(outcome(&gateway, n), "ok");
        assert!(upstream.wait_for(support::PATIENCE, |s| s.finished == n as u64 + 1));
    }
    assert_eq!(gateway.metric("forebay_client_left_total"), 0.0);
    let inferences = upstream.inferences();
    let connections: HashSet<u64> = inferences.iter().map(|sent| sent.connection).collect();
    // At most one for each of the two cores.
    assert!(inferences.len() == 6 && connections.len() <= 2, "{connections:?}");
    assert_eq!(upstream.stats().cancelled, 0);
}

#[test]
fn trap_21_the_answer_ends_with_done() {
    let (upstream, gateway) = one("", "");
    // Longer than the client waits for anything.
    upstream.script(Script { linger_ms: 600_000, ..Script::default() });
    let reply = chat(&gateway);
    assert!(reply.looks_whole() && reply.events().last().unwrap() == "[DONE]");
    assert_eq!(outcome(&gateway, 0), "ok");
    // Its connection is not used for another request.
    upstream.script(Script::default());
    assert!(chat(&gateway).looks_whole());
}

#[test]
fn trap_28_complete_when_all_choices_are() {
    let (upstream, gateway) = one("", "");
    let chunk = |index: u32, delta: &str, finish: &str| {
        format!(r#"{{"choices":[{{"index":{index},"delta":{delta},"finish_reason":{finish}}}]}}"#)
    };
    let a = r#"{"content":"a"}"#;
    let mut events = vec![
        chunk(1, a, "null"),
        chunk(0, a, "null"),
        chunk(0, "{}", "\"stop\""),
        chunk(1, a, "null"),
        chunk(1, a, "\"length\""),
    ];
    let whole = stream(events.iter().map(String::as_str));
    upstream.script(exactly(&whole));
    let reply = gateway.client().chat_stream("tiny", ",\"n\":2");
    assert!(reply.complete && reply.body == whole.as_bytes(), "{}", reply.text());
    assert_eq!(outcome(&gateway, 0), "ok");

    // Three were asked for; then the other one of two.
    let reply = gateway.client().chat_stream("tiny", ",\"n\":3");
    assert_eq!(reply.error_event().unwrap()["code"], BROKEN);
    events.pop();
    upstream.script(exactly(stream(events.iter().map(String::as_str))));
    let reply = gateway.client().chat_stream("tiny", ",\"n\":2");
    assert_eq!(reply.error_event().unwrap()["code"], BROKEN);
}

#[test]
fn trap_30_unknown_finish_reasons_pass_and_abort_is_a_failure() {
    let (upstream, gateway) = one("", "");
    for reason in ["repetition", "content_filter", "load", "stop_sequence"] {
        let body = stream(EVENTS).replace("\"stop\"", &format!("{reason:?}"));
        upstream.script(exactly(&body));
        let reply = chat(&gateway);
        assert!(reply.complete && reply.body == body.as_bytes(), "{}", reply.text());
    }
    let body = stream(EVENTS).replace("\"stop\"", "\"abort\"");
    for writes in [Writes::Events, Writes::One, Writes::Bytes(vec![1])] {
        upstream.script(Script { writes, ..exactly(&body) });
        let reply = chat(&gateway);
        let until = stream(EVENTS.into_iter().take(4)).replace("\"stop\"", "\"abort\"");
        assert!(reply.text().starts_with(&until), "{}", reply.text());
        // The error comes right behind it: an SDK stops reading at [DONE].
        assert_eq!(reply.error_event().unwrap()["code"], BROKEN);
        assert_eq!(reply.events().len(), 5, "{}", reply.text());
    }
    wait_until("the log lines", || chat_lines(&gateway).len() == 7);
    let lines = chat_lines(&gateway);
    assert_eq!(lines.iter().filter(|line| line["outcome"] == BROKEN).count(), 3);
}

#[test]
fn trap_30_a_plain_answer_that_was_aborted_moves_on() {
    let (first, _second, gateway) = two("", "");
    first.script(Script { finish: Some("abort".to_owned()), ..Script::default() });
    for _ in 0..2 {
        let reply = gateway.client().chat("tiny", "");
        assert_eq!(reply.status, 200);
        assert_eq!(reply.json()["choices"][0]["finish_reason"], "stop");
    }
    assert!(first.stats().inference_requests > 0);
}

#[test]
fn trap_30_an_abort_before_any_content_moves_on() {
    let (first, second, gateway) = two("", "");
    let body = stream([EVENTS[0], EVENTS[3], "[DONE]"]).replace("\"stop\"", "\"abort\"");
    for writes in [Writes::Events, Writes::One, Writes::Bytes(vec![1])] {
        first.script(Script { writes, ..exactly(&body) });
        let reply = chat(&gateway);
        assert_eq!(reply.header("x-forebay-backend"), Some("second"), "{}", reply.text());
        assert!(reply.looks_whole() && !reply.text().contains("abort"), "{}", reply.text());
    }
    assert_eq!(second.stats().inference_requests, 3);
}
