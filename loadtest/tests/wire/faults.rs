//! Breaks: where and how the script says.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::Duration;

use loadtest::{At, How, Profile, Script, Upstream};

use crate::raw::{CHAT, Ending, PLAIN, Raw, Response, STREAM, chat};

const SOON: Duration = Duration::from_secs(10);

fn vllm(script: Script) -> Upstream {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    upstream.script(script);
    upstream
}

fn broken(at: At, how: How) -> (Response, Raw, Upstream) {
    let upstream = vllm(Script::broken(at, how));
    let (response, raw) = chat(&upstream, STREAM);
    (response, raw, upstream)
}

#[test]
fn cuts_after_events_count_the_role_chunk() {
    for (how, ending) in
        [(How::Reset, Ending::Reset), (How::Fin, Ending::Fin), (How::CleanEnd, Ending::Whole)]
    {
        let (response, _, upstream) = broken(At::Events(3), how.clone());
        assert_eq!(response.events().len(), 3, "{how:?}");
        assert_eq!(response.content(0), "baba babe");
        assert_eq!(response.ending, ending, "{how:?}");
        let stats = upstream.stats();
        assert!(upstream.wait_for(SOON, |s| s.broken == 1 && s.in_flight == 0), "{stats:?}");
    }
}

#[test]
fn cuts_after_bytes_are_exact() {
    for n in [0, 1, 7, 300] {
        let (response, _, _) = broken(At::Bytes(n), How::Fin);
        assert_eq!((response.body.len(), response.ending), (n, Ending::Fin));
        let upstream = vllm(Script::broken(At::Bytes(n), How::Reset));
        let (response, _) = chat(&upstream, PLAIN);
        if n > 0 {
            assert!(response.head.contains("content-length: "));
            assert!(response.body.len() <= n);
        }
        assert_eq!(response.ending, Ending::Reset);
    }
}

#[test]
fn half_an_event_can_be_last() {
    let (response, _, _) = broken(At::Events(2), How::HalfEvent);
    let text = response.text();
    assert_eq!(text.matches("data: ").count(), 3);
    assert!(!text.ends_with('\n'));
    assert_eq!(response.ending, Ending::Fin);
    let (response, _, _) = broken(At::Events(2), How::HalfEventCleanEnd);
    assert!(!response.text().ends_with('\n'));
    assert_eq!(response.ending, Ending::Whole);
}

#[test]
fn before_finish_and_before_done() {
    let (response, _, _) = broken(At::Finish, How::CleanEnd);
    assert_eq!(response.events().len(), 1 + 20);
    assert!(!response.text().contains(r#""finish_reason":""#));
    let (response, _, _) = broken(At::Done, How::Fin);
    assert!(response.text().contains(r#""finish_reason":"stop""#));
    assert!(!response.text().contains("[DONE]"));
    assert_eq!(response.ending, Ending::Fin);
}

#[test]
fn error_events_come_first_or_in_the_middle() {
    let (response, mut raw, _upstream) = broken(At::Events(0), How::error(400));
    assert_eq!(
        response.text(),
        "data: {\"error\":{\"message\":\"Internal server error\",\"type\":\"BadRequestError\",\"param\":null,\"code\":400}}\n\ndata: [DONE]\n\n"
    );
    assert_eq!(response.ending, Ending::Whole);
    raw.post(CHAT, STREAM);
    assert_eq!(raw.response().events().len(), 2);
    let (response, _, _) = broken(At::Events(3), How::error(500));
    let events = response.events();
    assert!(events[3].starts_with(r#"{"error":"#));
    assert_eq!(events[4], "[DONE]");
}

#[test]
fn a_dead_runner_ends_like_ollama() {
    let upstream = Upstream::start(Profile::ollama(&["tiny"])).unwrap();
    upstream.script(Script::broken(At::Events(2), How::DeadRunner));
    let (response, mut raw) = chat(&upstream, STREAM);
    let events = response.events();
    assert_eq!(events.len(), 3);
    assert!(events[2].contains(r#""model":"""#));
    assert!(events[2].contains(r#""content":""},"finish_reason":null"#));
    assert_eq!(response.ending, Ending::Whole);
    upstream.script(Script::words(1, 0));
    raw.post(CHAT, STREAM);
    assert_eq!(raw.response().content(0), "baba");
}

#[test]
fn bad_chunks_and_endless_comments() {
    let (response, _, _) = broken(At::Events(1), How::BadChunk);
    assert!(response.text().ends_with("zz"));
    let upstream = vllm(Script::broken(At::Events(1), How::Comments(1)));
    let mut raw = Raw::connect(&upstream);
    raw.post(CHAT, STREAM);
    let mut text = Vec::new();
    while String::from_utf8_lossy(&text).matches(": keep-alive\n\n").count() < 5 {
        let mut buffer = [0; 4096];
        let n = raw.stream.read(&mut buffer).unwrap();
        text.extend_from_slice(&buffer[..n]);
    }
    drop(raw);
    assert!(upstream.wait_for(SOON, |s| s.cancelled == 1));
}

#[test]
fn it_hangs_at_each_stage_until_the_client_leaves() {
    for at in [At::Accept, At::RequestHead, At::Request, At::Head, At::Events(2), At::Done] {
        let upstream = vllm(Script::broken(at, How::Hang));
        let mut raw = Raw::connect(&upstream);
        raw.post(CHAT, STREAM);
        assert!(upstream.wait_for(SOON, |s| match at {
            At::Accept => s.connections_accepted == 1,
            _ => s.in_flight == 1,
        }));
        match at {
            At::Head => assert!(read_until(&mut raw, "chunked\r\n\r\n")),
            At::Events(_) => assert!(read_until(&mut raw, "\"baba\"")),
            At::Done => assert!(read_until(&mut raw, "\"stop\"")),
            _ => {}
        }
        drain(&mut raw);
        assert!(raw.is_silent(), "{at:?}");
        drop(raw);
        assert!(upstream.wait_for(SOON, |s| s.connections_open == 0 && s.in_flight == 0));
        assert_eq!(upstream.stats().cancelled, u64::from(at != At::Accept), "{at:?}");
    }
}

fn read_until(raw: &mut Raw, what: &str) -> bool {
    let mut text = String::new();
    while !text.contains(what) {
        let mut buffer = [0; 1];
        match raw.stream.read(&mut buffer) {
            Ok(1) => text.push(char::from(buffer[0])),
            _ => return false,
        }
    }
    true
}

/// Reads what is left of the event that was being read.
fn drain(raw: &mut Raw) {
    raw.stream.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
    while raw.stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {}
}

#[test]
fn it_breaks_before_the_answer() {
    for at in [At::Accept, At::RequestHead, At::Request, At::Head] {
        for (how, ending) in [(How::Reset, Ending::Reset), (How::Fin, Ending::Fin)] {
            let upstream = vllm(Script::broken(at, how.clone()));
            let mut raw = Raw::connect(&upstream);
            if at != At::Accept {
                raw.post(CHAT, STREAM);
            }
            let response = raw.response();
            // Closing a socket with unread bytes resets it, as a crashed process does.
            let reset = at == At::RequestHead && response.ending == Ending::Reset;
            assert!(response.ending == ending || reset, "{at:?} {how:?} {response:?}");
            assert_eq!(!response.head.is_empty(), at == At::Head);
        }
    }
}

#[test]
fn poison_kills_the_server() {
    let upstream = vllm(Script { poison: Some("arsenic".into()), ..Script::words(1, 0) });
    assert_eq!(chat(&upstream, PLAIN).0.status(), 200);
    let (response, _) = chat(&upstream, &PLAIN.replace("Hello", "arsenic"));
    assert_eq!(response.ending, Ending::Reset);
    assert!(upstream.is_dead());
    assert!(upstream.wait_for(SOON, |_| TcpStream::connect(upstream.addr()).is_err()));
    upstream.revive();
    assert_eq!(chat(&upstream, PLAIN).0.status(), 200);
}

#[test]
fn it_can_die_in_mid_stream() {
    let upstream = vllm(Script::broken(At::Events(2), How::Die));
    let mut bystander = Raw::connect(&upstream);
    bystander.get("/health");
    assert_eq!(bystander.response().status(), 200);
    let (response, _) = chat(&upstream, STREAM);
    assert_ne!(response.ending, Ending::Whole);
    assert_eq!(bystander.end(), Ending::Reset);
    assert!(upstream.is_dead());
}

#[test]
fn plain_answers_break_where_streams_would() {
    let upstream = vllm(Script::default());
    let whole = chat(&upstream, PLAIN).0.body.len();
    for (how, ending) in [(How::Fin, Ending::Fin), (How::CleanEnd, Ending::Fin)] {
        upstream.script(Script::broken(At::Events(3), how));
        let (response, _) = chat(&upstream, PLAIN);
        assert_eq!((response.status(), response.ending), (200, ending));
        assert_eq!(response.body.len(), whole / 2);
    }
    upstream.script(Script::broken(At::Events(3), How::error(500)));
    let (response, _) = chat(&upstream, PLAIN);
    assert_eq!(response.status(), 500);
    assert!(response.text().contains("Internal server error"));
}
