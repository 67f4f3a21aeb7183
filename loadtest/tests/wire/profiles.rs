//! Habits of the servers that are played.

use std::time::Duration;

use loadtest::{Kind, Profile, Script, Upstream};

use crate::raw::{CHAT, Ending, PLAIN, Raw, STREAM, chat};

const SOON: Duration = Duration::from_secs(10);

fn get(upstream: &Upstream, path: &str) -> (u16, String) {
    let mut raw = Raw::connect(upstream);
    raw.get(path);
    let response = raw.response();
    (response.status(), response.text())
}

#[test]
fn vllm_sends_its_head_at_once_and_ollama_nothing() {
    let vllm = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    vllm.script(Script { first_ms: 60_000, ..Script::default() });
    let mut raw = Raw::connect(&vllm);
    raw.post(CHAT, STREAM);
    let mut head = [0; 17];
    std::io::Read::read_exact(&mut raw.stream, &mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK\r\n");

    let ollama = Upstream::start(Profile::ollama(&["tiny"])).unwrap();
    ollama.script(Script { first_ms: 60_000, ..Script::default() });
    let mut raw = Raw::connect(&ollama);
    raw.post(CHAT, STREAM);
    assert!(ollama.wait_for(SOON, |s| s.in_flight == 1));
    assert!(raw.is_silent());
}

#[test]
fn ollama_has_role_and_text_in_each_chunk() {
    let ollama = Upstream::start(Profile::ollama(&["tiny"])).unwrap();
    ollama.script(Script::words(3, 0));
    let (response, _) = chat(&ollama, STREAM);
    let events = response.events();
    assert_eq!(events.len(), 3 + 1 + 1);
    // The finish chunk and `[DONE]` are one HTTP chunk.
    assert_eq!(response.chunks.len(), 4);
    assert!(events[0].contains(r#""choices":[{"index":0,"delta":{"role":"assistant","content":"baba"},"finish_reason":null}]"#));
    assert!(
        events[3].contains(r#""delta":{"role":"assistant","content":""},"finish_reason":"stop""#)
    );
    assert!(response.head.contains("content-type: text/event-stream\r\n"));
    // max_completion_tokens is ignored.
    let (response, _) = chat(&ollama, &STREAM.replace("true", r#"true,"max_completion_tokens":1"#));
    assert_eq!(response.events().len(), 5);
}

#[test]
fn ollama_lists_loads_and_unloads() {
    let ollama = Upstream::start(Profile::ollama(&["tiny", "lib/big:8b"])).unwrap();
    assert_eq!(get(&ollama, "/").1, "Ollama is running");
    assert!(get(&ollama, "/api/tags").1.contains(r#""name":"tiny:latest""#));
    assert!(get(&ollama, "/v1/models").1.contains(r#""id":"lib/big:8b""#));
    assert_eq!(get(&ollama, "/v1/models/lib/big:8b").0, 404);
    assert_eq!(get(&ollama, "/v1/models/tiny").0, 200);
    assert_eq!(get(&ollama, "/health").0, 404);
    assert_eq!(get(&ollama, "/api/ps").1, r#"{"models":[]}"#);
    assert_eq!(chat(&ollama, PLAIN).0.status(), 200);
    assert!(get(&ollama, "/api/ps").1.contains(r#""name":"tiny:latest""#));
    ollama.unload();
    assert_eq!(get(&ollama, "/api/ps").1, r#"{"models":[]}"#);
    let (response, _) = chat(&ollama, &PLAIN.replace("tiny", "nope"));
    assert_eq!(response.status(), 404);
    assert!(response.text().contains("model 'nope' not found"));
}

#[test]
fn a_load_ends_with_the_client_that_caused_it_and_starts_anew() {
    let ollama = Upstream::start(Profile::ollama(&["tiny"])).unwrap();
    ollama.script_next(2, Script { load_ms: 60_000, ..Script::words(1, 0) });
    let mut first = Raw::connect(&ollama);
    first.post(CHAT, STREAM);
    assert!(ollama.wait_for(SOON, |s| s.loads == 1));
    let mut second = Raw::connect(&ollama);
    second.post(CHAT, STREAM);
    assert!(ollama.wait_for(SOON, |s| s.in_flight == 2));
    assert!(second.is_silent());
    drop(first);
    // The one that waits begins a load of its own.
    assert!(ollama.wait_for(SOON, |s| s.loads == 2 && s.loads_aborted == 1 && s.in_flight == 1));
    assert_eq!(get(&ollama, "/api/ps").1, r#"{"models":[]}"#);
    drop(second);
    assert!(ollama.wait_for(SOON, |s| s.loads_aborted == 2 && s.cancelled == 2));
    assert_eq!(chat(&ollama, PLAIN).0.status(), 200);
}

#[test]
fn llama_server_closes_after_streams_without_a_word() {
    let llama = Upstream::start(Profile::llama_server("tiny")).unwrap();
    llama.script(Script::words(2, 0));
    let (response, mut raw) = chat(&llama, STREAM);
    assert!(response.events()[0].contains(r#""delta":{"role":"assistant","content":null}"#));
    // The role chunk and the first token are one HTTP chunk.
    assert_eq!((response.events().len(), response.chunks.len()), (5, 4));
    assert!(!response.head.to_ascii_lowercase().contains("connection:"));
    assert_eq!((response.ending, raw.end()), (Ending::Whole, Ending::Fin));
    let (response, mut raw) = chat(&llama, &PLAIN.replace("tiny", "nope"));
    assert_eq!(response.json()["model"], "tiny");
    raw.post(CHAT, PLAIN);
    assert_eq!(raw.response().status(), 200);
}

#[test]
fn vllm_refuses_unknown_models_long_prompts_and_wrong_keys() {
    let vllm = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let (response, _) = chat(&vllm, &PLAIN.replace("tiny", "nope"));
    assert_eq!(response.status(), 404);
    assert_eq!(
        response.text(),
        r#"{"error":{"message":"The model `nope` does not exist. Valid aliases: tiny.","type":"NotFoundError","param":"model","code":404}}"#
    );
    vllm.vitals(|v| v.max_model_len = 3);
    let (response, _) = chat(&vllm, &PLAIN.replace("Hello", "one two three four"));
    assert_eq!(response.status(), 400);
    assert!(response.text().contains("This model's maximum context length is 3 tokens."));
    vllm.vitals(|v| v.api_key = Some("k".into()));
    let (response, mut raw) = chat(&vllm, PLAIN);
    assert_eq!((response.status(), response.text()), (401, r#"{"error":"Unauthorized"}"#.into()));
    raw.send(b"GET /v1/models HTTP/1.1\r\nAuthorization: Bearer k\r\n\r\n");
    assert_eq!(raw.response().status(), 200);
    assert_eq!(get(&vllm, "/health").0, 200);
}

#[test]
fn vllm_continues_an_answer_when_asked_rightly() {
    let vllm = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    vllm.script(Script::words(3, 0));
    let body = r#"{"model":"tiny","stream":true,"messages":[{"role":"assistant","content":"baba babe"}],"continue_final_message":true,"add_generation_prompt":false}"#;
    assert_eq!(chat(&vllm, body).0.content(0), " babi babo babu");
}

#[test]
fn health_lists_and_metrics_follow_the_vitals() {
    let vllm = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    vllm.vitals(|v| {
        v.health = 503;
        v.models = vec!["other".into()];
        v.running = Some(7);
        v.kv_cache = 0.5;
        v.sleep_state = "weights_offloaded".into();
    });
    assert_eq!(get(&vllm, "/health").0, 503);
    assert!(get(&vllm, "/v1/models").1.contains(r#""id":"other""#));
    let metrics = get(&vllm, "/metrics").1;
    assert!(metrics.contains("num_requests_running{engine=\"0\",model_name=\"other\"} 7.0"));
    assert!(metrics.contains("kv_cache_usage_perc{engine=\"0\",model_name=\"other\"} 0.5"));
    assert!(metrics.contains("sleep_state=\"weights_offloaded\"} 1.0"));
    vllm.vitals(|v| v.listing = 0);
    let mut raw = Raw::connect(&vllm);
    raw.get("/v1/models");
    assert!(raw.is_silent());
}

#[test]
fn tei_and_plain_answer_their_routes() {
    let tei = Upstream::start(Profile::tei("embed")).unwrap();
    assert!(get(&tei, "/info").1.contains(r#""model_id":"embed""#));
    assert_eq!(get(&tei, "/v1/models").0, 404);
    let mut raw = Raw::connect(&tei);
    raw.post("/rerank", r#"{"query":"the sea","texts":["a","the sea"]}"#);
    assert_eq!(raw.response().text(), r#"[{"index":1,"score":1},{"index":0,"score":0}]"#);
    let plain = Upstream::start(Profile::new(Kind::Plain, &["m"])).unwrap();
    assert_eq!(get(&plain, "/v1/models/m").0, 200);
    assert_eq!(get(&plain, "/v1/models/n").0, 404);
}

#[test]
fn ollama_refuses_foreign_hosts_and_origins() {
    let ollama = Upstream::start(Profile::ollama(&["tiny"])).unwrap();
    let mut raw = Raw::connect(&ollama);
    for (header, status) in [
        ("Host: example.com", 403),
        ("Host: ollama:11434", 403),
        ("Host: localhost:11434", 200),
        ("Host: 10.1.2.3", 200),
        ("Host: [::1]:11434", 200),
        ("Origin: https://example.com", 403),
        ("Origin: null", 403),
        ("Origin: http://localhost:3000", 200),
    ] {
        raw.send(format!("GET /api/version HTTP/1.1\r\n{header}\r\n\r\n").as_bytes());
        assert_eq!(raw.response().status(), status, "{header}");
    }
    raw.send(
        format!("POST {CHAT} HTTP/1.1\r\nHost: x.example\r\nContent-Length: 2\r\n\r\n{{}}")
            .as_bytes(),
    );
    assert_eq!(raw.response().status(), 403);
}

#[test]
fn wrong_methods_and_paths_are_refused_in_each_manner() {
    for (profile, method, path, status, body) in [
        (Profile::vllm(&["m"]), "HEAD", "/health", 405, ""),
        (Profile::vllm(&["m"]), "GET", CHAT, 405, r#"{"detail":"Method Not Allowed"}"#),
        (Profile::vllm(&["m"]), "GET", "/v1/models/m", 404, r#"{"detail":"Not Found"}"#),
        (Profile::ollama(&["m"]), "GET", "/nope", 404, "404 page not found"),
        (Profile::ollama(&["m"]), "POST", "/api/tags", 405, "405 method not allowed"),
    ] {
        let upstream = Upstream::start(profile).unwrap();
        let mut raw = Raw::connect(&upstream);
        raw.send(format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n\r\n").as_bytes());
        if method == "HEAD" {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut raw.stream, &mut text).unwrap();
            assert!(text.starts_with("HTTP/1.1 405 ") && text.ends_with("\r\n\r\n"), "{text}");
            continue;
        }
        let response = raw.response();
        assert_eq!((response.status(), response.text().as_str()), (status, body), "{path}");
    }
}

#[test]
fn tei_is_overloaded_with_429() {
    let tei = Upstream::start(Profile::tei("m")).unwrap();
    tei.script(Script { first_ms: 60_000, slots: 1, queue: Some(0), ..Script::default() });
    let mut first = Raw::connect(&tei);
    first.post("/v1/embeddings", r#"{"input":"a"}"#);
    assert!(tei.wait_for(SOON, |s| s.in_flight == 1));
    // The first is counted before it has its slot.
    let refused = |_: &_| {
        let mut raw = Raw::connect(&tei);
        raw.post("/v1/embeddings", r#"{"input":"a","fake":{"slots":1,"queue":0}}"#);
        raw.response().status() == 429
    };
    assert!(tei.wait_for(SOON, refused));
}

#[test]
fn a_load_waits_behind_a_model_in_use_and_is_overtaken() {
    let ollama = Upstream::start(Profile::ollama(&["slow", "tiny"])).unwrap();
    ollama.vitals(|v| v.max_loaded = 1);
    ollama.script_for("slow", Some(Script::words(1000, 60_000)));
    ollama.script(Script::words(1, 0));
    let mut first = Raw::connect(&ollama);
    first.post(CHAT, &STREAM.replace("tiny", "slow"));
    assert!(ollama.wait_for(SOON, |s| s.events_out == 1));
    let mut waits = Raw::connect(&ollama);
    waits.post(CHAT, PLAIN);
    assert!(ollama.wait_for(SOON, |s| s.waiting == 1));
    let mut overtakes = Raw::connect(&ollama);
    overtakes.post(CHAT, &STREAM.replace("tiny", "slow"));
    assert!(ollama.wait_for(SOON, |s| s.events_out == 2));
    assert!(get(&ollama, "/api/ps").1.contains("slow:latest"));
    drop(first);
    assert!(ollama.wait_for(SOON, |s| s.in_flight == 2));
    assert_eq!((ollama.stats().waiting, ollama.stats().loads), (1, 1));
    drop(overtakes);
    assert_eq!(waits.response().status(), 200);
    let loaded = get(&ollama, "/api/ps").1;
    assert!(loaded.contains("tiny:latest") && !loaded.contains("slow:latest"), "{loaded}");
}
