use proptest::prelude::*;

use super::*;

macro_rules! stream {
    ($name:literal) => {
        include_bytes!(concat!("../../../fuzz/corpus/sse/", $name, ".sse"))
    };
}

const HELLO: &str =
    r#"data: {"model":"m","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}"#;
const ROLE: &str = r#"data: {"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
const STOP: &str =
    r#"data: {"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;

fn chat(choices: u32) -> Scanner {
    Scanner::new(StreamDialect::Chat, choices)
}

fn run(stream: &[u8], dialect: StreamDialect, choices: u32) -> (Scanner, Scan, StreamEnd) {
    let mut scanner = Scanner::new(dialect, choices);
    let scan = scanner.push(stream);
    let end = scanner.finish();
    (scanner, scan, end)
}

fn tokens(usage: Option<Usage>) -> Option<(u64, u64, u64)> {
    usage.map(|usage| (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens))
}

#[test]
fn real_streams() {
    use StreamDialect::{Chat, Completions};
    use StreamEnd::{Complete, Failed, Unfinished};
    type Row =
        (&'static str, &'static [u8], StreamDialect, u32, StreamEnd, u32, Option<(u64, u64, u64)>);
    let rows: &[Row] = &[
        ("vllm", stream!("vllm-chat-usage"), Chat, 1, Complete, 8, Some((18, 6, 24))),
        ("vllm n=2", stream!("vllm-chat-n2"), Chat, 2, Complete, 0, None),
        (
            "vllm on each",
            stream!("vllm-chat-continuous-usage"),
            Chat,
            1,
            Complete,
            0,
            Some((18, 4, 22)),
        ),
        (
            "vllm prompts",
            stream!("vllm-completions-two-prompts"),
            Completions,
            2,
            Complete,
            0,
            None,
        ),
        ("vllm logprobs", stream!("vllm-chat-logprobs"), Chat, 1, Complete, 0, None),
        ("vllm dies", stream!("vllm-engine-death-midstream"), Chat, 1, Failed, 3, None),
        ("vllm dies, queued", stream!("vllm-engine-death-queued"), Chat, 1, Failed, 1, None),
        ("llama-server", stream!("llamacpp-chat-usage"), Chat, 1, Complete, 0, None),
        ("llama-server n=2", stream!("llamacpp-chat-n2"), Chat, 2, Complete, 0, None),
        ("llama-server thinks", stream!("llamacpp-reasoning"), Chat, 1, Complete, 0, None),
        ("ollama", stream!("ollama-chat-usage"), Chat, 1, Complete, 5, Some((18, 3, 21))),
        ("ollama dies", stream!("ollama-dead-runner"), Chat, 1, Unfinished, 2, None),
        (
            "ollama dies",
            stream!("ollama-completions-dead-runner"),
            Completions,
            1,
            Unfinished,
            1,
            None,
        ),
        ("cut", stream!("cut-in-an-event"), Chat, 1, Unfinished, 1, None),
        ("tools", stream!("tool-call"), Chat, 1, Complete, 5, None),
    ];
    for (name, stream, dialect, choices, end, events, usage) in rows.iter().copied() {
        let (scanner, scan, ended) = run(stream, dialect, choices);
        assert_eq!(ended, end, "{name}");
        assert_eq!(scan.first_content, name != "vllm dies, queued", "{name}");
        if events > 0 {
            assert_eq!(scan.events, events, "{name}");
        }
        if usage.is_some() {
            assert_eq!(tokens(scanner.usage()), usage, "{name}");
        }
        assert_eq!(scanner.dead_runner(), name == "ollama dies", "{name}");
    }
}

#[test]
fn what_is_content() {
    for (delta, content) in [
        (r#"{"role":"assistant"}"#, false),
        (r#"{"role":"assistant","content":""}"#, false),
        (r#"{"role":"assistant","content":null,"refusal":null}"#, false),
        (r"{}", false),
        (r#"{"content":"x"}"#, true),
        (r#"{"content":" "}"#, true),
        (r#"{"reasoning":"x","content":""}"#, true),
        (r#"{"reasoning_content":"x"}"#, true),
        (r#"{"tool_calls":[]}"#, true),
        (r#"{"novel":{}}"#, true),
        (r#"{"content":"\ud800"}"#, true),
        ("[]", true),
        ("null", true),
    ] {
        let event = format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":null}}]}}\n\n"
        );
        let scan = chat(1).push(event.as_bytes());
        assert_eq!((scan.first_content, scan.events), (content, 1), "{delta}");
    }
    for (event, content, progress) in [
        (": ping", false, 0),
        ("event: x", false, 0),
        ("id: 1\nretry: 5", false, 0),
        (r#"data: {"choices":[],"usage":{"prompt_tokens":1}}"#, false, 0),
        (r#"data: {"choices":null,"usage":{"total_tokens":1}}"#, false, 0),
        (r#"data: {"usage":{"total_tokens":1}}"#, false, 0),
        (r#"data: {"usage":null}"#, true, 1),
        (r#"data: {"choices":[]}"#, false, 1),
        (r#"data: {"choices":[{"index":0,"delta":{"content":""},"finish_reason":""}]}"#, false, 1),
        (r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#, true, 1),
        (r#"data: {"choices":[{"index":0}]}"#, true, 1),
        (r#"data: {"type":"response.created"}"#, true, 1),
        ("data: hello", true, 1),
        ("data", true, 1),
        ("data: [DONE]", false, 1),
    ] {
        let scan = chat(1).push(format!("{event}\n\n").as_bytes());
        assert_eq!((scan.first_content, scan.events), (content, progress), "{event}");
    }
    let scan = Scanner::new(StreamDialect::Completions, 1)
        .push(b"data: {\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":null}],\"usage\":{}}\n\n");
    assert_eq!((scan.first_content, scan.events), (false, 1));
}

#[test]
fn boundaries_lie_after_whole_events() {
    for (chunk, boundary, left) in [
        ("data: a\n\ndata: b", Some(9), 7),
        ("data: a\n", None, 8),
        (": x\n\n", Some(5), 0),
        ("data: a\r\n\r\n", Some(11), 0),
        ("data: a\r\rdata", Some(9), 4),
        ("data: a\n\r\nx", Some(10), 1),
        ("\n\n\n", Some(3), 0),
        ("data: a\n\n\ndata: b\n\n", Some(19), 0),
    ] {
        let mut scanner = chat(1);
        assert_eq!(scanner.push(chunk.as_bytes()).boundary, boundary, "{chunk:?}");
        assert_eq!(scanner.carry_len(), left, "{chunk:?}");
    }
    let mut scanner = chat(1);
    assert_eq!(scanner.push(b"data: a\r\n\r").boundary, Some(10));
    assert_eq!(scanner.push(b"\ndata: b").boundary, Some(1));
    assert_eq!(scanner.push(b"b\r").boundary, None);
    assert_eq!(scanner.push(b"\n\n").boundary, Some(2));
    assert_eq!(scanner.push(b"").boundary, None);
    assert_eq!(scanner.carry_len(), 0);
}

#[test]
fn line_ends_and_fields() {
    for name in [
        &stream!("comments-crlf-bom")[..],
        stream!("cr-only"),
        stream!("split-data-lines"),
        stream!("null-error-no-done"),
    ] {
        let (scanner, scan, end) = run(name, StreamDialect::Chat, 1);
        assert_eq!(end, StreamEnd::Complete);
        assert!(scanner.finished() && scan.first_content && scan.error.is_none());
        assert_eq!(scan.boundary, Some(name.len()));
    }
    let (scanner, ..) = run(stream!("split-data-lines"), StreamDialect::Chat, 1);
    assert_eq!(tokens(scanner.usage()), Some((1, 2, 3)));
}

#[test]
fn a_key_inside_a_string_ends_nothing() {
    let text = format!(
        "{HELLO}\n\n{}\n\n",
        r#"data: {"choices":[{"index":0,"delta":{"content":"\"finish_reason\":\"stop\",\"error\":1,\"usage\":{}"},"finish_reason":null}]}"#
    );
    let (scanner, scan, end) = run(text.as_bytes(), StreamDialect::Chat, 1);
    assert_eq!((scan.events, scan.error, end), (2, None, StreamEnd::Unfinished));
    assert_eq!(scanner.usage(), None);
}

#[test]
fn keys_may_have_white_space() {
    let stop = r#"data: { "choices" : [ { "index" : 0 , "delta" : {} , "finish_reason" : "stop" } ] , "usage" : { "total_tokens" : 7 } }"#;
    let (scanner, _, end) =
        run(format!("{HELLO}\n\n{stop}\n\n").as_bytes(), StreamDialect::Chat, 1);
    assert_eq!(end, StreamEnd::Complete);
    assert_eq!(tokens(scanner.usage()), Some((0, 0, 7)));
}

#[test]
fn odd_spellings_of_the_end() {
    for (choice, end) in [
        (r#""delta":{},"finish_reason":"stop""#, StreamEnd::Complete),
        (r#""index":null,"delta":{},"finish_reason":"stop""#, StreamEnd::Complete),
        (r#""index":"0","delta":{},"finish_reason":"stop""#, StreamEnd::Complete),
        (r#""index":0,"finish_reason":"error_of_a_new_kind""#, StreamEnd::Complete),
        (r#""index":0,"delta":{"content":"\ud800"},"finish_reason":"stop""#, StreamEnd::Complete),
        (r#""index":0,"delta":{},"finish_reason":"""#, StreamEnd::Unfinished),
        (r#""index":0,"delta":{},"finish_reason":null"#, StreamEnd::Unfinished),
    ] {
        let stream = format!("{HELLO}\n\ndata: {{\"choices\":[{{{choice}}}]}}\n\n");
        assert_eq!(run(stream.as_bytes(), StreamDialect::Chat, 1).2, end, "{choice}");
    }
}

#[test]
fn every_choice_must_end() {
    let mut scanner = chat(2);
    scanner.push(format!("{HELLO}\n\n{STOP}\n\n{STOP}\n\n").as_bytes());
    assert!(!scanner.finished());
    assert_eq!(scanner.finish(), StreamEnd::Unfinished);
    scanner.push(STOP.replace("\"index\":0", "\"index\":1").as_bytes());
    scanner.push(b"\n\n");
    assert_eq!(scanner.finish(), StreamEnd::Complete);

    let mut scanner = chat(130);
    for index in 0..130 {
        assert!(!scanner.finished());
        scanner.push(STOP.replace("\"index\":0", &format!("\"index\":{index}")).as_bytes());
        scanner.push(b"\n\n");
    }
    assert!(scanner.finished());
}

#[test]
fn done_completes_whatever_was_asked() {
    let (scanner, scan, end) =
        run(format!("{HELLO}\n\n{STOP}\n\ndata: [DONE]\n\n").as_bytes(), StreamDialect::Chat, 4);
    assert!(scan.done && scanner.saw_done() && !scanner.finished());
    assert_eq!(end, StreamEnd::Complete);
    // Without its blank line too; but half a finish chunk is none.
    assert_eq!(
        run(format!("{HELLO}\n\ndata: [DONE]").as_bytes(), StreamDialect::Chat, 1).2,
        StreamEnd::Complete
    );
    assert_eq!(
        run(format!("{HELLO}\n\n{STOP}\n").as_bytes(), StreamDialect::Chat, 1).2,
        StreamEnd::Unfinished
    );
    assert_eq!(run(b"", StreamDialect::Chat, 1).2, StreamEnd::Unfinished);
}

#[test]
fn the_first_error_is_told_once() {
    let (scanner, scan, end) = run(stream!("vllm-lazy-400"), StreamDialect::Chat, 1);
    let error = scan.error.unwrap();
    assert_eq!(error.status(), Some(400));
    assert!(error.error.canonical && error.error.message.starts_with("Requested sample logprobs"));
    assert!(error.data.starts_with(b"{\"error\""));
    assert!(!scan.first_content && scan.done && scanner.failed());
    assert_eq!(end, StreamEnd::Failed);

    let mut scanner = chat(1);
    assert!(scanner.push(b"data: {\"error\":\"x\"}\n\n").error.is_some());
    assert!(scanner.push(b"data: {\"error\":\"y\"}\n\n").error.is_none());
    let mut scanner = chat(1);
    let scan = scanner.push(b"event: error\ndata: {\"message\":\"m\",\"code\":503}\n\n");
    assert_eq!(scan.error.unwrap().status(), Some(503));
}

#[test]
fn abort_is_no_end() {
    let (mut scanner, scan, end) = run(stream!("abort"), StreamDialect::Chat, 1);
    assert!(scanner.aborted());
    assert_eq!(end, StreamEnd::Aborted);
    // What comes after it is held, in the same chunk and later.
    let done = b"data: [DONE]\n\n";
    assert_eq!(scan.boundary, Some(stream!("abort").len() - done.len()));
    assert_eq!(scanner.carry_len(), done.len());
    assert_eq!(scanner.push(done).boundary, None);
    assert_eq!(scanner.carry_len(), 2 * done.len());
}

#[test]
fn a_huge_event_passes_with_bounded_memory() {
    let mut scanner = chat(1);
    scanner.push(b"data: {\"choices\":[{\"index\":0,\"delta\":{\"audio\":{\"data\":\"");
    let piece = [b'A'; 16 << 10];
    for count in 1..=1280_usize {
        let scan = scanner.push(&piece);
        assert_eq!(scan.boundary, None);
        assert_eq!(scan.first_content, count * piece.len() > EVENT_MAX_BYTES - 60, "{count}");
    }
    assert!(scanner.carry_len() > 20 << 20);
    assert!(scanner.framer.tail().len() <= EVENT_MAX_BYTES);
    let scan = scanner.push(b"\"}}}]}\n\n");
    assert_eq!((scan.boundary, scan.events), (Some(8), 1));
    assert!(scanner.gave_up());
    assert_eq!(scanner.carry_len(), 0);
    scanner.push(format!("{STOP}\n\n").as_bytes());
    assert_eq!(scanner.finish(), StreamEnd::Complete);
}

#[test]
fn a_split_event_is_kept_up_to_its_bound() {
    for (text, gave_up) in [(EVENT_MAX_BYTES - 200, false), (EVENT_MAX_BYTES, true)] {
        let mut scanner = chat(1);
        let event = format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{}\"}},\"finish_reason\":\"length\"}}]}}\n\n",
            "x".repeat(text)
        );
        scanner.push(&event.as_bytes()[..20]);
        let scan = scanner.push(&event.as_bytes()[20..]);
        assert_eq!((scan.boundary, scan.events), (Some(event.len() - 20), 1));
        assert_eq!((scanner.gave_up(), scanner.finished()), (gave_up, !gave_up));
        assert!(scanner.framer.capacity() <= 4 << 10, "the room is given back");
    }
}

#[test]
fn data_lines_are_joined_and_a_mark_is_dropped() {
    let event = chunk::data(b"event: error\rdata: a\r\ndata:b\nother: c\ndata\n\n").unwrap();
    assert_eq!((&*event.data, event.named_error), (&b"a\nb\n"[..], true));
    assert!(chunk::data(b": data: x\n\n").is_none());
    assert!(chunk::data(b"database: x\n\n").is_none());
    // A byte order mark is dropped before the first event only.
    let marked = format!("\u{feff}{STOP}\n\n");
    assert_eq!(run(marked.as_bytes(), StreamDialect::Chat, 1).2, StreamEnd::Complete);
    let late = format!("{HELLO}\n\n\u{feff}{STOP}\n\n");
    assert_eq!(run(late.as_bytes(), StreamDialect::Chat, 1).2, StreamEnd::Unfinished);
}

#[test]
fn a_huge_event_in_one_chunk_is_understood() {
    let mut scanner = chat(1);
    let text = "x".repeat(1 << 20);
    let event = format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":\"length\"}}]}}\n\n"
    );
    assert_eq!(scanner.push(event.as_bytes()).boundary, Some(event.len()));
    assert!(scanner.finished() && !scanner.gave_up());
}

#[test]
fn a_role_chunk_is_progress_only() {
    let mut scanner = chat(1);
    let scan = scanner.push(format!("{ROLE}\n\n").as_bytes());
    assert_eq!((scan.first_content, scan.events), (false, 1));
    assert!(scanner.push(format!("{HELLO}\n\n").as_bytes()).first_content);
}

#[test]
fn each_way_to_cut_tells_the_same() {
    let streams: [&[u8]; 4] = [
        stream!("comments-crlf-bom"),
        stream!("cr-only"),
        stream!("split-data-lines"),
        stream!("vllm-engine-death-midstream"),
    ];
    for stream in streams {
        let (whole, scan, end) = run(stream, StreamDialect::Chat, 1);
        for first in 0..stream.len() {
            let mut scanner = chat(1);
            let one = scanner.push(&stream[..first]);
            let two = scanner.push(&stream[first..]);
            assert_eq!(one.events + two.events, scan.events, "cut at {first}");
            assert_eq!(one.error.or(two.error), scan.error, "cut at {first}");
            assert_eq!(two.first_content, scan.first_content);
            assert_eq!(scanner.finish(), end, "cut at {first}");
            assert_eq!(scanner.usage(), whole.usage());
        }
    }
}

/// Streams of odd pieces, with every kind of line end.
fn odd_stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        HELLO,
        ROLE,
        STOP,
        "data: [DONE]",
        "data:{\"choices\":[],\"usage\":{\"total_tokens\":3}}",
        "data: {\"error\":{\"message\":\"m\",\"code\":500}}",
        "data: {\"choices\":[{\"index\":1,\"delta\":{},\"finish_reason\":\"abort\"}]}",
        "data: {\"choices\":[{\"index\":1,\"delta\":{},",
        "data: \"finish_reason\":\"length\"}]}",
        ": comment",
        "event: error",
        "id: 7",
        "data",
        "\u{feff}",
        "x",
    ]);
    let end =
        prop::sample::select(vec!["\n", "\r", "\r\n", "\n\n", "\r\r", "\r\n\r\n", "\n\r\n", ""]);
    prop::collection::vec((piece, end), 0..12).prop_map(|lines| {
        lines.iter().flat_map(|(piece, end)| [*piece, *end]).collect::<String>().into_bytes()
    })
}

proptest! {
    #[test]
    fn however_it_is_cut(stream in odd_stream(), cuts in prop::collection::vec(0.0_f64..1.0, 0..8)) {
        let (whole, scan, end) = run(&stream, StreamDialect::Chat, 2);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| (cut * stream.len() as f64) as usize).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let mut scanner = chat(2);
        let (mut events, mut error, mut boundary, mut content, mut done) = (0, None, None, false, false);
        for pair in cuts.windows(2) {
            let part = scanner.push(&stream[pair[0]..pair[1]]);
            events += part.events;
            error = error.or(part.error);
            boundary = part.boundary.map(|offset| pair[0] + offset).or(boundary);
            (content, done) = (part.first_content, part.done);
        }
        prop_assert_eq!((events, boundary, content, done), (scan.events, scan.boundary, scan.first_content, scan.done));
        prop_assert_eq!(error, scan.error);
        prop_assert_eq!(scanner.carry_len(), stream.len() - boundary.unwrap_or(0));
        prop_assert_eq!(scanner.finish(), end);
        prop_assert_eq!(scanner.usage(), whole.usage());
        prop_assert_eq!(scanner.dead_runner(), whole.dead_runner());
    }
}
