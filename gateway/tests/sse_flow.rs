//! What streams carry, how fast, and in what content type: traps 22 to 27, 29 and 31.

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use loadtest::text::{recitation, word};
use loadtest::{At, How, Part, Script, ToolCall, Usage};
use serde_json::Value;
use support::streams::{EVENTS, chat_lines, exactly, one, stream};
use support::{Gateway, Reply, wait_until};

fn chat(gateway: &Gateway) -> Reply {
    gateway.client().chat_stream("tiny", "")
}

/// The line of the only chat so far.
fn line(gateway: &Gateway) -> Value {
    wait_until("the log line", || !chat_lines(gateway).is_empty());
    chat_lines(gateway)[0].clone()
}

#[test]
fn trap_22_a_slow_reader_slows_the_upstream_and_is_not_cut() {
    const EACH: usize = 60_000;
    let (upstream, gateway) = one("", "[timeouts]\nidle = \"100ms\"\n");
    chat(&gateway);
    let memory = gateway.peak_rss();
    let filler = "y".repeat(1000);
    let event = format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{filler}"}}}}]}}"#);
    let events = std::iter::repeat_n(&*event, EACH).chain([EVENTS[3], EVENTS[5]]);
    let body = stream(events);
    upstream.clear();
    upstream.script(exactly(&body));
    let mut exchange = gateway.client().open_chat("tiny", ",\"stream\":true");
    // The upstream comes to a stand, for longer than a server might be silent.
    let (mut before, mut still) = (0, 0);
    wait_until("the upstream to be held back", || {
        let sent = upstream.stats().bytes_out;
        still = if sent == before && sent > 0 { still + 1 } else { 0 };
        before = sent;
        still >= 60
    });
    assert!(before < body.len() as u64 / 2, "{before} of {} bytes", body.len());
    let grown = gateway.peak_rss() - memory;
    assert!(grown < 8 << 20, "{grown} bytes");
    let reply = exchange.reply();
    assert!(reply.complete && reply.body == body.as_bytes(), "{} bytes", reply.body.len());
    wait_until("the log line", || chat_lines(&gateway).len() == 2);
    assert_eq!(chat_lines(&gateway)[1]["outcome"], "ok");
}

#[test]
fn trap_23_only_first_event_bounds_the_silence_before_it() {
    // Everything else would end it long before.
    let timeouts = "[timeouts]\nidle = \"50ms\"\nresponse = \"50ms\"\nconnect = \"50ms\"\n";
    let (upstream, gateway) = one("", timeouts);
    upstream.script(Script { first_ms: 500, ..Script::default() });
    let reply = chat(&gateway);
    assert!(reply.looks_whole() && !reply.text().contains("keep-alive"), "{}", reply.text());
    assert_eq!(reply.content(), recitation(0, 20));
}

#[test]
fn trap_23_keep_alives_come_after_the_head_only() {
    let (upstream, gateway) = one("head_hold = \"100ms\"\nkeep_alive = \"10ms\"\n", "");
    upstream.script(Script { first_ms: 400, ..Script::default() });
    let reply = chat(&gateway);
    assert!(reply.text().starts_with(": keep-alive\n\n: keep-alive\n\n"), "{}", reply.text());
    assert!(reply.looks_whole());
    assert_eq!(reply.content(), recitation(0, 20));
    assert_eq!(reply.header("content-type"), Some("text/event-stream; charset=utf-8"));
    // Once the answer runs, its own events say that it does.
    let answer = reply.text().split_once("data: ").unwrap().1.to_owned();
    assert!(!answer.contains("keep-alive"), "{answer}");
}

#[test]
fn trap_23_first_event_ends_the_silence_with_504() {
    let (upstream, gateway) = one("", "[timeouts]\nfirst_event = \"100ms\"\n");
    for at in [At::Request, At::Head, At::Events(1)] {
        upstream.script(Script::broken(at, How::Hang));
        let reply = chat(&gateway);
        assert_eq!((reply.status, &*reply.error_code()), (504, "upstream_timeout"), "{at:?}");
        assert_eq!(reply.header("x-should-retry"), Some("false"));
        assert!(upstream.wait_for(support::PATIENCE, |s| s.in_flight == 0));
    }
    // Comments are no progress.
    upstream.script(Script::broken(At::Events(1), How::Comments(10)));
    assert_eq!(chat(&gateway).status, 504);
}

#[test]
fn trap_24_a_plain_answer_to_a_stream_request() {
    let (upstream, gateway) = one("", "");
    upstream.script(Script { plain: true, ..Script::default().header("x-odd", "1") });
    let reply = chat(&gateway);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("x-forebay-backend"), Some("first"));
    assert_eq!(reply.json()["object"], "chat.completion");
    assert_eq!(reply.content(), recitation(0, 20));
    assert_eq!(line(&gateway)["outcome"], "ok");
}

#[test]
fn trap_25_spellings_of_the_content_type() {
    let (upstream, gateway) = one("", "");
    for kind in [
        "text/event-stream",
        "text/event-stream; charset=utf-8",
        "Text/Event-Stream;Charset=UTF-8",
        "TEXT/EVENT-STREAM ; foo=\"bar\"",
    ] {
        upstream.script(Script {
            content_type: Some(kind.to_owned()),
            ..Script::broken(At::Events(5), How::Fin)
        });
        let reply = chat(&gateway);
        assert_eq!(reply.header("content-type"), Some(kind));
        assert_eq!(reply.error_event().unwrap()["code"], "upstream_stream_broken", "{kind}");
    }
}

#[test]
fn trap_26_a_usage_chunk_without_choices_passes() {
    let (upstream, gateway) = one("", "");
    // As asked for; as forced by the server; as the only thing before the end.
    let bodies = [
        stream(EVENTS),
        stream([EVENTS[4], EVENTS[0], EVENTS[1], EVENTS[3], EVENTS[5]]),
        stream([EVENTS[0], EVENTS[4], EVENTS[5]]),
    ];
    for (n, body) in bodies.into_iter().enumerate() {
        upstream.script(exactly(&body));
        let extra = ",\"stream_options\":{\"include_usage\":true}";
        let reply = gateway.client().chat_stream("tiny", extra);
        assert!(reply.complete && reply.body == body.as_bytes(), "{}", reply.text());
        wait_until("the log line", || chat_lines(&gateway).len() > n);
        let line = &chat_lines(&gateway)[n];
        assert_eq!((&line["outcome"], &line["prompt_tokens"]), (&"ok".into(), &11.into()));
    }
    // Who did not ask gets none.
    upstream.script(Script::default());
    let reply = chat(&gateway);
    assert!(reply.looks_whole() && !reply.text().contains("usage"), "{}", reply.text());
}

#[test]
fn trap_27_the_last_usage_wins() {
    for usage in [Usage::EveryChunk, Usage::Null] {
        let (upstream, gateway) = one("", "");
        upstream.script(Script { usage, ..Script::words(7, 0) });
        let reply =
            gateway.client().chat_stream("tiny", ",\"stream_options\":{\"include_usage\":true}");
        assert!(reply.looks_whole());
        assert!(reply.text().matches("\"usage\"").count() > 7, "{}", reply.text());
        assert_eq!(line(&gateway)["completion_tokens"], 7, "{usage:?}");
    }
    // A null that comes last takes nothing back.
    let (upstream, gateway) = one("", "");
    let null = r#"{"choices":[],"usage":null}"#;
    upstream.script(exactly(stream([EVENTS[1], EVENTS[4], EVENTS[3], null, EVENTS[5]])));
    chat(&gateway);
    assert_eq!(line(&gateway)["completion_tokens"], 2);
}

#[test]
fn trap_29_tool_calls_pass_as_they_are() {
    let (upstream, gateway) = one("", "");
    let delta = |delta: &str| {
        format!(r#"{{"choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#)
    };
    let deltas = [
        r#"{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_0","type":"function","function":{"name":"f","arguments":""}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"finish_reason\":"}}]}"#,
        r#"{"tool_calls":[{"index":1,"id":"call_1","type":"function","function":{"name":null,"arguments":"{}"}}]}"#,
        r#"{"tool_calls":[{"index":0,"id":null,"function":{"name":null,"arguments":"\"error\"}"}}]}"#,
        "{}",
    ]
    .map(delta);
    let finish = EVENTS[3].replace("stop", "tool_calls");
    let events = deltas.iter().map(String::as_str).chain([&*finish, EVENTS[5]]);
    let body = stream(events);
    upstream.script(exactly(&body));
    let reply = chat(&gateway);
    assert!(reply.complete && reply.body == body.as_bytes(), "{}", reply.text());

    // A fragment is content: the client sees it while the server goes on.
    let tool_call = Some(ToolCall { name: "look_up".into(), arguments: "{\"a\":1}".into() });
    upstream.script(Script { tool_call, ..Script::broken(At::Events(2), How::Hang) });
    let mut exchange = gateway.client().open_chat("tiny", ",\"stream\":true");
    exchange.read_until("look_up");
}

#[test]
fn trap_31_reasoning_is_content() {
    let (upstream, gateway) = one("", "");
    upstream.script(Script { reasoning: 10, ..Script::broken(At::Events(2), How::Hang) });
    let mut exchange = gateway.client().open_chat("tiny", ",\"stream\":true");
    exchange.read_until(&word(0));
    exchange.leave();

    for key in ["reasoning", "reasoning_content"] {
        let body = stream(EVENTS).replace("\"content\":\"Gr", &format!("\"{key}\":\"Gr"));
        let script = exactly(&body);
        upstream.script(script.clone());
        let reply = chat(&gateway);
        assert!(reply.complete && reply.body == body.as_bytes(), "{}", reply.text());
        // It goes out before anything else is known.
        let first = body.find("Gr").unwrap();
        let end = first + body[first..].find("\n\n").unwrap() + 2;
        upstream.script(script.fault(At::Bytes(end), How::Hang));
        gateway.client().open_chat("tiny", ",\"stream\":true").read_until("Gr");
    }
}

#[test]
fn trap_31_a_role_alone_is_not() {
    let (upstream, gateway) = one("", "[timeouts]\nfirst_event = \"100ms\"\n");
    upstream.script(Script::broken(At::Events(1), How::Hang));
    assert_eq!(chat(&gateway).status, 504);
    // Without a role chunk the first word is the first event.
    upstream.script(Script::broken(At::Events(1), How::Hang).without(Part::Role));
    gateway.client().open_chat("tiny", ",\"stream\":true").read_until(&word(0));
}
