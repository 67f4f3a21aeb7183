//! Event streams reach the client byte for byte: traps 1 to 11.

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use loadtest::text::{recitation, word};
use loadtest::{At, How, Script, Sse, Upstream, Writes};
use support::streams::{EVENTS, chat_lines, exactly, one, stream, two};
use support::{Gateway, Reply, wait_until};

/// Streams one chat through the gateway.
fn chat(gateway: &Gateway) -> Reply {
    gateway.client().chat_stream("tiny", "")
}

/// The upstream's bytes, however cut, come out as they are and are metered.
fn assert_untouched(upstream: &Upstream, gateway: &Gateway, body: &str, writes: &[Writes]) {
    let before = chat_lines(gateway).len();
    for cut in writes {
        upstream.script(Script { writes: cut.clone(), ..exactly(body) });
        let reply = chat(gateway);
        assert_eq!((reply.status, reply.complete), (200, true), "{cut:?}");
        // The blank line behind [DONE] is complete with its CR: nobody waits for the LF of a later write.
        let whole = body.strip_suffix('\n').filter(|_| reply.text().ends_with('\r'));
        let whole = whole.unwrap_or(body);
        assert!(reply.body == whole.as_bytes(), "{cut:?}\nsent {body:?}\ngot  {:?}", reply.text());
    }
    wait_until("all log lines", || chat_lines(gateway).len() == before + writes.len());
    for (line, cut) in chat_lines(gateway).iter().skip(before).zip(writes) {
        let metered = (&line["outcome"], &line["prompt_tokens"], &line["completion_tokens"]);
        assert_eq!(metered, (&"ok".into(), &11.into(), &2.into()), "{cut:?}: {line}");
    }
}

/// A stream with other line ends.
fn with_ends(end: &str) -> String {
    EVENTS.iter().map(|event| format!("data: {event}{end}{end}")).collect()
}

#[test]
fn trap_01_single_byte_writes() {
    let (upstream, gateway) = one("", "");
    assert_untouched(&upstream, &gateway, &stream(EVENTS), &[Writes::Bytes(vec![1])]);

    // Each event is there before the upstream goes on to the next.
    for (events, last) in [(2, 0), (3, 1), (7, 5)] {
        upstream.script(Script {
            writes: Writes::Bytes(vec![1]),
            ..Script::broken(At::Events(events), How::Hang)
        });
        let mut exchange = gateway.client().open_chat("tiny", ",\"stream\":true");
        let seen = exchange.read_until(&word(last));
        assert!(!seen.contains(&word(last + 1)), "{seen}");
        exchange.leave();
    }
}

#[test]
fn trap_02_characters_cut_at_every_byte() {
    let (upstream, gateway) = one("", "");
    let mut writes: Vec<_> = [2, 3, 5, 7].map(|size| Writes::Bytes(vec![size])).into();
    writes.push(Writes::Utf8);
    assert_untouched(&upstream, &gateway, &stream(EVENTS), &writes);
}

#[test]
fn trap_03_terminators_cut_apart() {
    let (upstream, gateway) = one("", "");
    for end in ["\n", "\r\n", "\r"] {
        let body = with_ends(end);
        let terminator = end.repeat(2);
        // Two writes, cut at each place in and around each terminator.
        let writes: Vec<_> = body
            .match_indices(&terminator)
            .flat_map(|(at, _)| at..=(at + terminator.len()).min(body.len() - 1))
            .map(|at| Writes::Bytes(vec![at, body.len()]))
            .collect();
        assert_untouched(&upstream, &gateway, &body, &writes);
    }
}

#[test]
fn trap_04_other_line_ends() {
    let (upstream, gateway) = one("", "");
    let writes = [Writes::Events, Writes::Bytes(vec![1]), Writes::Bytes(vec![64])];
    for end in ["\r\n", "\r"] {
        assert_untouched(&upstream, &gateway, &with_ends(end), &writes);
    }
}

#[test]
fn trap_05_data_fields_in_other_forms() {
    let (upstream, gateway) = one("", "");
    let writes = [Writes::Events, Writes::Bytes(vec![1])];
    assert_untouched(&upstream, &gateway, &stream(EVENTS).replace("data: ", "data:"), &writes);
    let lines = stream(EVENTS).replace(",\"choices\"", "\ndata:,\"choices\"");
    assert_untouched(&upstream, &gateway, &lines, &writes);
    let fields = stream(EVENTS).replace("data: ", "id: 7\nevent: message\nunknown\ndata:  ");
    assert_untouched(&upstream, &gateway, &fields, &writes);
}

#[test]
fn trap_06_comments_pass_and_are_no_tokens() {
    let (upstream, gateway) = one("", "");
    let mut body = String::from(": keep-alive\n\n:\n\n");
    for event in EVENTS {
        body.push_str(&format!(": a\ndata: {event}\n: b\n\n: c\r\n\r\n"));
    }
    // What comes after [DONE] is nobody's any more.
    body.truncate(body.find("[DONE]").unwrap() + "[DONE]\n: b\n\n".len());
    assert_untouched(&upstream, &gateway, &body, &[Writes::Events, Writes::Bytes(vec![1])]);
}

#[test]
fn trap_06_comments_do_not_commit_an_answer() {
    for how in [How::Reset, How::Fin, How::CleanEnd] {
        let (first, second, gateway) = two("", "");
        first.script(Script {
            sse: Sse { comments_before: 3, ..Sse::default() },
            ..Script::broken(At::Events(0), how.clone())
        });
        let reply = chat(&gateway);
        assert_eq!(reply.header("x-forebay-backend"), Some("second"), "{how:?}");
        assert!(reply.looks_whole(), "{how:?}: {}", reply.text());
        assert_eq!(reply.content(), recitation(0, 20));
        assert!(!reply.text().contains("keep-alive"), "{how:?}: {}", reply.text());
        assert!(second.wait_for(support::PATIENCE, |s| s.finished == 1));
    }
}

#[test]
fn trap_06_comments_are_no_progress() {
    let (upstream, gateway) = one("", "[timeouts]\nidle = \"200ms\"\n");
    upstream.script(Script::broken(At::Events(6), How::Comments(20)));
    let reply = chat(&gateway);
    assert_eq!(reply.content(), recitation(0, 5));
    let error = reply.error_event().unwrap();
    assert_eq!(error["code"], "upstream_stream_broken");
    assert!(error["message"].as_str().unwrap().contains("stalled"), "{error}");
    assert!(upstream.wait_for(support::PATIENCE, |s| s.in_flight == 0 && s.cancelled == 1));
}

#[test]
fn trap_07_keep_alives_come_between_events_only() {
    let (upstream, gateway) = one("head_hold = \"20ms\"\nkeep_alive = \"5ms\"\n", "");
    // An event takes many keep-alive periods to arrive.
    let body = stream(EVENTS);
    upstream.script(Script { writes: Writes::Bytes(vec![50]), write_gap_ms: 15, ..exactly(&body) });
    let reply = chat(&gateway);
    let answer = reply.text().replace(": keep-alive\n\n", "");
    assert_eq!(answer, body);
    assert!(reply.text().starts_with(": keep-alive\n\n"), "{}", reply.text());
    for block in reply.text().split_terminator("\n\n") {
        assert!(block == ": keep-alive" || EVENTS.contains(&&block["data: ".len()..]), "{block}");
    }
}

#[test]
fn trap_08_a_huge_event_passes_in_bounded_memory() {
    const SIZE: usize = 20 << 20;
    let (upstream, gateway) = one("", "");
    chat(&gateway);
    wait_until("the log line", || chat_lines(&gateway).len() == 1);
    let before = gateway.peak_rss();
    let audio = "A".repeat(SIZE);
    let event =
        format!(r#"{{"choices":[{{"index":0,"delta":{{"audio":{{"data":"{audio}"}}}}}}]}}"#);
    let body = stream([EVENTS[0], EVENTS[1], &event, EVENTS[3], EVENTS[4], EVENTS[5]]);
    let script = Script { writes: Writes::Bytes(vec![64 << 10]), ..exactly(&body) };
    upstream.script(script.clone());
    let reply = chat(&gateway);
    assert!(reply.complete && reply.body == body.as_bytes(), "{} bytes", reply.body.len());
    let grown = gateway.peak_rss() - before;
    assert!(grown < 8 << 20, "{grown} bytes for an event of {SIZE}");
    // Metering may give up on that event, not on the rest.
    wait_until("the log lines", || chat_lines(&gateway).len() == 2);
    assert_eq!(chat_lines(&gateway)[1]["completion_tokens"], 2);

    // A death inside it cannot be told in band: the client must not take it for an end.
    upstream.script(script.fault(At::Bytes(SIZE / 2), How::Fin));
    let reply = chat(&gateway);
    assert!(!reply.complete && reply.error_event().is_none());
    assert!(reply.body == body.as_bytes()[..reply.body.len()], "{} bytes", reply.body.len());
}

#[test]
fn trap_09_a_flood_starves_nobody() {
    let (upstream, gateway) = one("", "");
    upstream.script_next(1, Script::words(40, 5));
    let mut paced = gateway.client().open_chat("tiny", ",\"stream\":true");
    paced.read_until(&word(0));

    let tiny = r#"{"choices":[{"index":0,"delta":{"content":"x"}}]}"#;
    let events = std::iter::once(EVENTS[0])
        .chain(std::iter::repeat_n(tiny, 50_000))
        .chain([EVENTS[3], EVENTS[5]]);
    let body = stream(events);
    upstream.script(Script { writes: Writes::One, ..exactly(&body) });
    // Two floods, one for each core, that nobody reads yet.
    let floods = [(); 2].map(|()| gateway.client().open_chat("tiny", ",\"stream\":true"));
    let reply = paced.reply();
    assert!(reply.looks_whole());
    assert_eq!(reply.content(), recitation(0, 40));
    for mut flood in floods {
        let reply = flood.reply();
        assert!(reply.complete && reply.body == body.as_bytes(), "{} bytes", reply.body.len());
    }
}

#[test]
fn trap_10_names_and_order_of_events_stay() {
    let (upstream, gateway) = one("", "");
    let names = ["response.created", "delta", "délta", "delta", "done"];
    let body: String = EVENTS[..5]
        .iter()
        .zip(names)
        .map(|(event, name)| format!("event: {name}\ndata: {event}\n\n"))
        .collect();
    // It is complete without [DONE], and none is added.
    assert_untouched(&upstream, &gateway, &body, &[Writes::Events, Writes::Bytes(vec![3])]);
}

#[test]
fn trap_11_own_events_hold_nothing_that_breaks_clients() {
    let (upstream, gateway) = one("head_hold = \"20ms\"\nkeep_alive = \"5ms\"\n", "");
    // The head and comments of our own, no content, an error of our own.
    upstream.script(Script { head_ms: 200, ..Script::broken(At::Events(0), How::CleanEnd) });
    let held = chat(&gateway);
    // Events of the upstream and then an error of our own.
    upstream.script(Script::broken(At::Events(5), How::Fin));
    let broken = chat(&gateway);
    for reply in [held, broken] {
        let text = reply.text();
        assert!(reply.complete && text.ends_with("\n\n"), "{text}");
        assert!(reply.error_event().is_some(), "{text}");
        for line in text.lines().filter(|line| !line.is_empty()) {
            let data = line.strip_prefix("data: ");
            let valid = data.map(|data| serde_json::from_str::<serde_json::Value>(data).is_ok());
            assert!(valid.unwrap_or(line == ": keep-alive"), "{line}");
        }
        assert!(!text.contains("\n\n\n") && !text.contains('\u{feff}'), "{text}");
    }
}
