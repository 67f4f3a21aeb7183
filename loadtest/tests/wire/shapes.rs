//! Shapes of whole answers.

use std::time::Duration;

use loadtest::{
    Blob, Eol, Fixed, Framing, Pad, Part, Profile, Script, Sse, ToolCall, Upstream, Usage, Writes,
    text,
};

use crate::raw::{CHAT, Ending, PLAIN, Raw, STREAM, chat};

const SOON: Duration = Duration::from_secs(10);

fn vllm(script: Script) -> Upstream {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    upstream.script(script);
    upstream
}

#[test]
fn a_stream_recites_and_ends() {
    let upstream = vllm(Script::words(12, 0));
    let (response, mut raw) = chat(&upstream, STREAM);
    assert_eq!(response.status(), 200);
    assert_eq!(response.ending, Ending::Whole);
    assert_eq!(response.content(0), text::recitation(0, 12));
    let events = response.events();
    assert_eq!(events.len(), 1 + 12 + 1 + 1);
    assert!(events[0].contains(r#""delta":{"role":"assistant","content":""}"#));
    assert!(events[13].contains(r#""finish_reason":"stop""#));
    assert_eq!(events[14], "[DONE]");
    // One event a chunk, and the connection is kept.
    assert_eq!(response.chunks.len(), 15);
    raw.post(CHAT, PLAIN);
    assert_eq!(raw.response().json()["choices"][0]["message"]["content"], text::recitation(0, 12));
    assert!(upstream.wait_for(SOON, |s| s.finished == 2));
    assert_eq!(upstream.stats().connections_accepted, 1);
}

#[test]
fn max_tokens_ends_with_length_on_the_last_word() {
    let upstream = vllm(Script::words(12, 0));
    let (response, _) = chat(
        &upstream,
        r#"{"model":"tiny","messages":[],"stream":true,"max_tokens":2,"stream_options":{"include_usage":true}}"#,
    );
    let events = response.events();
    assert_eq!(events.len(), 1 + 2 + 1 + 1);
    assert!(events[2].contains(r#"" babe""#) && events[2].contains(r#""finish_reason":"length""#));
    assert!(events[3].contains(
        r#""choices":[],"usage":{"prompt_tokens":0,"total_tokens":2,"completion_tokens":2}"#
    ));
}

#[test]
fn usage_can_be_on_every_chunk_null_or_missing() {
    let asks = STREAM.replace("}]", r#"}],"stream_options":{"include_usage":true}"#);
    for (usage, on_words, in_all) in
        [(Usage::Asked, 0, 1), (Usage::EveryChunk, 5, 6), (Usage::Null, 5, 6), (Usage::Never, 0, 0)]
    {
        let upstream = vllm(Script { usage, ..Script::words(3, 0) });
        let (response, _) = chat(&upstream, &asks);
        let events = response.events();
        let with = |e: &&String| e.contains(r#""usage":"#);
        assert_eq!(events.iter().filter(with).count(), in_all, "{usage:?}");
        assert_eq!(events[..5].iter().filter(with).count(), on_words, "{usage:?}");
    }
    let upstream = vllm(Script { usage: Usage::Always, ..Script::words(3, 0) });
    assert!(chat(&upstream, STREAM).0.text().contains(r#""usage":{"#));
}

#[test]
fn choices_interleave() {
    let upstream = vllm(Script::words(3, 0));
    let (response, _) = chat(&upstream, &STREAM.replace("true", r#"true,"n":2"#));
    assert_eq!(response.content(0), "baba babe babi");
    assert_eq!(response.content(1), "baba babe babi");
    let order: Vec<u64> = response
        .events()
        .iter()
        .filter_map(|e| serde_json::from_str::<serde_json::Value>(e).ok())
        .map(|e| e["choices"][0]["index"].as_u64().unwrap())
        .collect();
    assert_eq!(order, [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
}

#[test]
fn reasoning_comes_first_and_apart() {
    let upstream = vllm(Script { reasoning: 2, ..Script::words(4, 0) });
    let (response, mut raw) = chat(&upstream, STREAM);
    assert_eq!(response.content(0), "babi babo");
    assert_eq!(response.text().matches(r#"{"reasoning":"#).count(), 2);
    raw.post(CHAT, PLAIN);
    let message = &raw.response().json()["choices"][0]["message"];
    assert_eq!(message["reasoning"], "baba babe");
    assert_eq!(message["content"], "babi babo");
}

#[test]
fn a_tool_call_comes_in_pieces() {
    let call = ToolCall { name: "get_weather".into(), arguments: r#"{"city":"Köln"}"#.into() };
    let upstream = vllm(Script { tool_call: Some(call), ..Script::default() });
    let (response, _) = chat(&upstream, STREAM);
    let arguments: String = response
        .events()
        .iter()
        .filter_map(|e| serde_json::from_str::<serde_json::Value>(e).ok())
        .filter_map(|e| {
            let call = e["choices"][0]["delta"]["tool_calls"].get(0)?.clone();
            call["function"]["arguments"].as_str().map(str::to_owned)
        })
        .collect();
    assert_eq!(arguments, r#"{"city":"Köln"}"#);
    assert!(response.text().contains(r#""name":"get_weather""#));
    assert!(response.text().contains(r#""finish_reason":"tool_calls""#));
}

#[test]
fn line_ends_comments_and_fields_are_as_scripted() {
    let sse = Sse {
        eol: Eol::Crlf,
        space: false,
        comments_before: 2,
        comments_between: 1,
        comments_after: 1,
        bom: true,
        event: Some("message".into()),
        ..Sse::default()
    };
    let upstream = vllm(Script { sse, ..Script::words(1, 0) });
    let text = chat(&upstream, STREAM).0.text();
    let comment = ": keep-alive\r\n\r\n";
    assert!(text.starts_with(&format!("\u{feff}{comment}{comment}event: message\r\ndata:{{")));
    assert!(text.ends_with(&format!("data:[DONE]\r\n\r\n{comment}{comment}")));
    assert_eq!(text.matches(": keep-alive").count(), 2 + 4 + 1);
    assert!(!text.replace("\r\n", "").contains(['\r', '\n']));

    let sse = Sse { eol: Eol::Cr, two_lines: true, ..Sse::default() };
    let upstream = vllm(Script { sse, ..Script::words(1, 0) });
    let text = chat(&upstream, STREAM).0.text();
    assert!(!text.contains('\n'));
    assert_eq!(text.matches("\rdata: ").count(), 6);
}

#[test]
fn bodies_are_cut_where_the_script_says() {
    let whole = chat(&vllm(Script::words(2, 0)), STREAM).0;
    let one_by_one = Script { writes: Writes::Bytes(vec![1]), ..Script::words(2, 0) };
    let response = chat(&vllm(one_by_one), STREAM).0;
    assert_eq!(response.content(0), whole.content(0));
    assert!(response.chunks.iter().all(|&c| c == 1));
    assert_eq!(response.chunks.len(), response.body.len());

    let all_at_once = Script { writes: Writes::One, ..Script::words(50_000, 0) };
    let response = chat(&vllm(all_at_once), STREAM).0;
    assert_eq!(response.chunks.len(), 1);
    assert_eq!(response.content(0), text::recitation(0, 50_000));

    let in_characters =
        Script { writes: Writes::Utf8, suffix: "é漢🙂".into(), ..Script::words(2, 0) };
    let response = chat(&vllm(in_characters), STREAM).0;
    assert_eq!(response.content(0), "babaé漢🙂 babeé漢🙂");
    let mut at = 0;
    let mut inside = 0;
    for size in &response.chunks {
        at += size;
        inside += usize::from(response.body.get(at).is_some_and(|b| b & 0xc0 == 0x80));
    }
    // 1 + 2 + 3 boundaries inside the characters of each of two words.
    assert_eq!(inside, 12);
}

#[test]
fn one_event_can_be_20_mb() {
    let pad = Pad { word: 1, bytes: 20_000_000 };
    let response = chat(&vllm(Script { pad: Some(pad), ..Script::words(3, 0) }), STREAM).0;
    assert!(response.body.len() > 20_000_000);
    assert!(response.events()[2].len() > 20_000_000);
    assert_eq!(response.content(0), "baba babe babi");
}

#[test]
fn parts_can_be_left_away() {
    let script = Script::words(2, 0).without(Part::Role).without(Part::Finish).without(Part::Done);
    let response = chat(&vllm(script), STREAM).0;
    assert_eq!(response.events().len(), 2);
    assert_eq!(response.ending, Ending::Whole);
}

#[test]
fn framing_can_be_length_or_close() {
    let script = Script { framing: Some(Framing::Length), ..Script::words(3, 0) };
    let (response, _) = chat(&vllm(script), STREAM);
    assert!(response.head.contains("content-length: "));
    assert_eq!((response.ending, response.content(0)), (Ending::Whole, "baba babe babi".into()));

    let script = Script { framing: Some(Framing::Close), ..Script::words(3, 0) };
    let (response, _) = chat(&vllm(script), STREAM);
    assert!(response.head.starts_with("HTTP/1.0 200 OK\r\n"));
    assert_eq!((response.ending, response.content(0)), (Ending::Fin, "baba babe babi".into()));
}

#[test]
fn fixed_answers_are_sent_as_written() {
    let script = Script::status(429, r#"{"error":"slow"}"#).header("Retry-After", "7");
    let upstream = vllm(script);
    let (response, mut raw) = chat(&upstream, STREAM);
    assert_eq!(response.status(), 429);
    assert!(response.head.contains("Retry-After: 7\r\n"));
    assert_eq!(response.text(), r#"{"error":"slow"}"#);
    raw.post(CHAT, PLAIN);
    assert_eq!(raw.response().status(), 429);

    let html = Fixed {
        status: 502,
        headers: vec![("Content-Type".into(), "text/html".into())],
        body: Blob::Repeat { repeat: "<p>".into(), times: 3_500_000 },
        framing: Framing::Chunked,
    };
    let (response, _) = chat(&vllm(Script { answer: Some(html), ..Script::default() }), PLAIN);
    assert_eq!((response.status(), response.body.len()), (502, 10_500_000));
    assert!(response.head.contains("Content-Type: text/html\r\n"));
    assert!(!response.head.contains("content-type"));

    let upstream = vllm(Script::status(204, ""));
    let (response, mut raw) = chat(&upstream, PLAIN);
    assert_eq!((response.status(), response.body.len()), (204, 0));
    assert!(!response.head.contains("content-length"));
    raw.post(CHAT, PLAIN);
    assert_eq!(raw.response().status(), 204);
}

#[test]
fn heads_can_be_huge_and_odd() {
    let mut script = Script::words(1, 0)
        .header("x-huge", Blob::Repeat { repeat: "h".into(), times: 65_536 })
        .header("x-bytes", Blob::raw(&[0xff, 0xfe]));
    for i in 0..1000 {
        script = script.header(&format!("x-{i}"), "v");
    }
    script.interim = vec![103];
    let upstream = vllm(script);
    let mut raw = Raw::connect(&upstream);
    raw.post(CHAT, PLAIN);
    assert_eq!(raw.response().status(), 103);
    let response = raw.response();
    assert_eq!(response.status(), 200);
    assert!(response.head.lines().count() > 1000);
    assert!(response.head.len() > 65_536);
}

#[test]
fn raw_bytes_replace_everything() {
    let script = Script {
        raw: Some(Blob::raw(b"HTTP/1.1 200 OK\r\nbroken\r\n\r\n\0\xff")),
        ..Script::default()
    };
    let upstream = vllm(script);
    let mut raw = Raw::connect(&upstream);
    raw.post(CHAT, PLAIN);
    let response = raw.response();
    assert_eq!(
        (response.head.as_str(), &response.body[..]),
        ("HTTP/1.1 200 OK\r\nbroken\r\n", &b"\0\xff"[..])
    );
    assert_eq!(response.ending, Ending::Fin);
}

#[test]
fn a_stream_request_can_get_a_document() {
    let (response, _) = chat(&vllm(Script { plain: true, ..Script::words(2, 0) }), STREAM);
    assert!(response.head.contains("application/json"));
    assert_eq!(response.json()["choices"][0]["message"]["content"], "baba babe");
}

#[test]
fn a_request_can_bring_its_own_script() {
    let upstream = vllm(Script::words(2, 0));
    let (response, mut raw) =
        chat(&upstream, &STREAM.replace("true", r#"true,"fake":{"words":4}"#));
    assert_eq!(response.content(0), "baba babe babi babo");
    raw.post(CHAT, &PLAIN.replace("]}", r#"],"fake":{"wrods":4}}"#));
    let response = raw.response();
    assert_eq!(response.status(), 400);
    assert!(response.text().contains("unknown field `wrods`"));
    raw.post(CHAT, &PLAIN.replace("]}", r#"],"fake":{"raw":"HTTP/1.1 418 T\r\n\r\n"}}"#));
    assert_eq!(raw.response().status(), 418);
}

#[test]
fn scripts_for_the_next_requests_come_in_order() {
    let upstream = vllm(Script::words(1, 0));
    upstream.script_next(2, Script::status(500, "{}"));
    upstream.script_next(1, Script::status(503, "{}"));
    let mut raw = Raw::connect(&upstream);
    let statuses: Vec<u16> = (0..5)
        .map(|_| {
            // Discovery does not use them up.
            raw.get("/v1/models");
            assert_eq!(raw.response().status(), 200);
            raw.post(CHAT, PLAIN);
            raw.response().status()
        })
        .collect();
    assert_eq!(statuses, [500, 500, 503, 200, 200]);
}

#[test]
fn other_routes_answer() {
    let upstream = vllm(Script::words(3, 0));
    let mut raw = Raw::connect(&upstream);
    raw.post("/v1/completions", r#"{"model":"tiny","prompt":"baba babe","stream":true}"#);
    assert_eq!(raw.response().content(0), " babi babo babu");
    raw.post("/v1/embeddings", r#"{"model":"tiny","input":["a","b"]}"#);
    let floats = raw.response().json();
    assert_eq!(
        floats["data"][1]["embedding"].as_array().unwrap().len(),
        loadtest::embed::DIMENSIONS
    );
    raw.post("/v1/embeddings", r#"{"model":"tiny","input":["a","b"],"encoding_format":"base64"}"#);
    let bytes: Vec<u8> =
        loadtest::embed::vector("b", 8).iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(raw.response().json()["data"][1]["embedding"], loadtest::embed::base64(&bytes));
    raw.post("/v1/rerank", r#"{"model":"tiny","query":"the sea","documents":["a","the sea"]}"#);
    assert_eq!(raw.response().json()["results"][0]["index"], 1);
    raw.post("/tokenize", r#"{"model":"tiny","prompt":"one two three"}"#);
    assert_eq!(raw.response().json()["count"], 3);
}
