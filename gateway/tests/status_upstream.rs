//! What an upstream's error becomes for the client: traps 71 to 79.

#![expect(clippy::panic, reason = "tests")]
#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use loadtest::text::recitation;
use loadtest::{At, Blob, Fixed, How, Profile, Script, Upstream};
use support::streams::{LENIENT, one, two};
use support::{Gateway, PATIENCE, Reply, backend};

/// A fixed answer with this content type.
fn page(status: u16, kind: &str, body: impl Into<Blob>) -> Script {
    let headers = vec![("content-type".to_owned(), kind.into())];
    let answer = Fixed { headers, ..Fixed::json(status, body) };
    Script { answer: Some(answer), ..Script::default() }
}

/// The four keys of the envelope, with the types that SDKs rely on.
fn assert_canonical(reply: &Reply, what: &str) {
    assert_eq!(reply.header("content-type"), Some("application/json"), "{what}");
    assert!(reply.header("x-request-id").is_some(), "{what}");
    let body = reply.json();
    let error = body["error"].as_object().unwrap_or_else(|| panic!("{what}: {body}"));
    let mut keys: Vec<_> = error.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["code", "message", "param", "type"], "{what}: {body}");
    assert!(error["message"].is_string() && error["type"].is_string(), "{what}: {body}");
}

const BAD_LOGPROBS: &str = r#"{"error":{"message":"Requested sample logprobs of 99, which is greater than max allowed: 20","type":"BadRequestError","param":"top_logprobs","code":400}}"#;

#[test]
fn trap_71_the_upstreams_status_not_a_stream() {
    let (first, second, gateway) = two("", "");
    for status in [400, 409, 413, 415, 422] {
        let body = BAD_LOGPROBS.replace("\"code\":400", &format!("\"code\":{status}"));
        first.script(Script::status(status, body.clone()));
        second.script(Script::status(status, body.clone()));
        for stream in [",\"stream\":true", ""] {
            let reply = gateway.client().chat("tiny", stream);
            assert_eq!((reply.status, reply.text()), (status, body.clone()));
            assert_canonical(&reply, &body);
            assert_eq!(reply.header("x-forebay-attempts"), Some("1"));
            assert_eq!(reply.header("x-should-retry"), Some("false"));
        }
    }
}

#[test]
fn trap_71_a_late_refusal_has_its_status_too() {
    let (first, second, gateway) = two("", "");
    let message =
        "Requested sample logprobs of 99, which is greater than max allowed: 20".to_owned();
    for at in [0, 1] {
        let how = How::ErrorEvent { code: 400, message: message.clone() };
        first.script(Script::broken(At::Events(at), how.clone()));
        second.script(Script::broken(At::Events(at), how));
        let reply = gateway.client().chat_stream("tiny", "");
        assert_eq!(reply.status, 400, "{}", reply.text());
        assert_canonical(&reply, "a late refusal");
        assert_eq!(reply.json()["error"]["message"], message);
        assert_eq!(reply.header("x-forebay-attempts"), Some("1"));
    }
}

#[test]
fn trap_72_a_refused_key_of_ours_is_not_the_clients() {
    let kinds = [
        ("vllm", Profile::vllm(&["tiny"]), r#"{"error":"Unauthorized"}"#),
        ("ollama", Profile::ollama(&["tiny"]), r#"{"error":"unauthorized key sk-secret"}"#),
        (
            "openai",
            Profile::plain(&["tiny"]),
            r#"{"error":{"message":"Incorrect API key provided: sk-secret","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
        ),
    ];
    for (kind, profile, body) in kinds {
        let upstream = Upstream::start(profile).unwrap();
        let table = backend("first", kind, &upstream) + "api_key = \"sk-secret\"\n";
        let gateway = Gateway::start(&format!("{table}{LENIENT}"));
        gateway.wait_for_model("tiny");
        for status in [401, 403] {
            upstream.script(Script::status(status, body).header("www-authenticate", "Bearer"));
            let reply = gateway.client().chat("tiny", "");
            assert_eq!((reply.status, &*reply.error_code()), (502, "upstream_unauthorized"));
            assert_canonical(&reply, kind);
            assert!(!reply.text().contains("sk-secret") && !reply.text().contains("ncorrect"));
            assert_eq!(reply.header("www-authenticate"), None);
        }
        assert_eq!(
            upstream.inferences().last().unwrap().header("authorization"),
            Some("Bearer sk-secret")
        );
        assert!(!gateway.log().contains("sk-secret"));
    }
}

#[test]
fn trap_72_another_backend_may_know_its_key() {
    let (first, second, gateway) = two("", "");
    first.script(Script::status(401, r#"{"error":"Unauthorized"}"#));
    let reply = gateway.client().chat_stream("tiny", "");
    assert!(reply.looks_whole());
    assert!(second.wait_for(PATIENCE, |s| s.finished == 1));
}

/// Every way in which a server says that a prompt is too long (CONTRACTS 3.3, 4.4; UPSTREAMS).
const TOO_LONG: [(&str, u16, &str); 6] = [
    (
        "vllm",
        400,
        r#"{"error":{"message":"This model's maximum context length is 128 tokens. However, you requested 512 tokens (500 in the messages, 12 in the completion). Please reduce the length of the messages or completion.","type":"BadRequestError","param":"input_tokens","code":400}}"#,
    ),
    (
        "vllm",
        400,
        r#"{"error":{"message":"max_tokens=999 cannot be greater than max_model_len=128","type":"BadRequestError","param":"max_tokens","code":400}}"#,
    ),
    (
        "vllm",
        400,
        r#"{"error":{"message":"The decoder prompt (length 512) is longer than the maximum model length of 128.","type":"BadRequestError","param":null,"code":400}}"#,
    ),
    (
        "openai",
        400,
        r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error","n_prompt_tokens":512,"n_ctx":128}}"#,
    ),
    (
        "openai",
        400,
        r#"{"error":{"message":"This model's maximum context length is 128 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
    ),
    (
        "ollama",
        400,
        r#"{"error":{"message":"the input length exceeds the context length","type":"invalid_request_error","param":null,"code":null}}"#,
    ),
];

#[test]
fn trap_73_too_long_a_prompt_is_refused_once() {
    for (kind, status, body) in TOO_LONG {
        let model =
            if kind == "ollama" { Profile::ollama(&["tiny"]) } else { Profile::plain(&["tiny"]) };
        let upstreams = [(); 2].map(|()| Upstream::start(model.clone()).unwrap());
        let tables: String = ["first", "second"]
            .iter()
            .zip(&upstreams)
            .map(|(name, upstream)| backend(name, kind, upstream))
            .collect();
        let gateway = Gateway::start(&format!("{tables}{LENIENT}"));
        gateway.wait_for_backends(2);
        for upstream in &upstreams {
            upstream.clear();
            upstream.script(Script::status(status, body));
        }
        for stream in [",\"stream\":true", ""] {
            let reply = gateway.client().chat("tiny", stream);
            assert_eq!((reply.status, &*reply.text()), (400, body), "{kind}");
        }
        let asked: u64 = upstreams.iter().map(|u| u.stats().inference_requests).sum();
        assert_eq!(asked, 2, "{kind}: {body}");
    }
}

const NO_MODEL: &str = r#"{"error":{"message":"The model `tiny` does not exist.","type":"NotFoundError","param":"model","code":404}}"#;

#[test]
fn trap_74_a_model_that_is_gone_is_tried_elsewhere_and_remembered() {
    let (first, second, gateway) = two("", "");
    first.script(Script::status(404, NO_MODEL));
    for stream in [",\"stream\":true", "", ""] {
        let reply = gateway.client().chat("tiny", stream);
        assert_eq!((reply.status, reply.content()), (200, recitation(0, 20)));
    }
    // The stale entry was believed once.
    assert_eq!((first.stats().inference_requests, second.stats().inference_requests), (1, 3));
}

#[test]
fn trap_74_gone_everywhere_is_404() {
    let (first, second, gateway) = two("", "");
    first.script(Script::status(404, NO_MODEL));
    second.script(Script::status(404, r#"{"error":"model 'tiny' not found"}"#));
    let reply = gateway.client().chat_stream("tiny", "");
    assert_eq!((reply.status, &*reply.error_code()), (404, "model_not_found"));
    assert_canonical(&reply, "gone everywhere");
    assert_eq!(reply.header("x-forebay-attempts"), Some("2"));
}

#[test]
fn an_error_whose_text_never_ends_moves_on() {
    let (first, second, gateway) = two("", "");
    first.script(Script::status(500, "an error").fault(At::Bytes(2), How::Hang));
    for stream in [",\"stream\":true", ""] {
        let reply = gateway.client().chat("tiny", stream);
        assert_eq!((reply.status, reply.content()), (200, recitation(0, 20)));
    }
    assert_eq!((first.stats().inference_requests, second.stats().inference_requests), (2, 2));
}

#[test]
fn an_error_under_a_good_status_moves_on() {
    let (first, second, gateway) = two("", "");
    first.script(Script::status(200, r#"{"error":{"message":"upstream is down","code":502}}"#));
    let reply = gateway.client().chat("tiny", "");
    assert_eq!((reply.status, reply.content()), (200, recitation(0, 20)));
    assert_eq!((first.stats().inference_requests, second.stats().inference_requests), (1, 1));
    // Some say that there is none.
    first.script(Script::status(200, r#"{"error":null,"choices":[]}"#));
    assert_eq!(gateway.client().chat("tiny", "").header("x-forebay-backend"), Some("first"));
}

#[test]
fn trap_75_the_overloaded_are_left_for_others() {
    let busy = [
        (429, r#"{"error":"Model is overloaded","error_type":"Overloaded"}"#),
        (
            503,
            r#"{"error":{"message":"The engine is currently busy and cannot accept new requests.","type":"Service Unavailable","param":null,"code":503}}"#,
        ),
        (
            503,
            r#"{"error":{"message":"server busy, please try again.  maximum pending requests exceeded","type":"api_error","param":null,"code":null}}"#,
        ),
        (503, r#"{"error":"The model is currently scaling. Please try again later."}"#),
    ];
    for (status, body) in busy {
        let (first, second, gateway) = two("", "");
        first.script(Script::status(status, body));
        let reply = gateway.client().chat_stream("tiny", "");
        assert!(reply.looks_whole(), "{}", reply.text());
        assert_eq!(reply.header("x-forebay-attempts"), Some("2"));

        let (upstream, gateway) = one("", "");
        upstream.script(Script::status(status, body));
        let reply = gateway.client().chat_stream("tiny", "");
        assert_eq!(reply.status, status);
        assert_canonical(&reply, body);
        let after: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&after), "{after}");
        assert_eq!(upstream.stats().inference_requests, 1);
        drop((first, second));
    }
}

#[test]
fn trap_75_busy_says_more_than_dead() {
    let (first, second, gateway) = two("", "");
    let busy = r#"{"error":"Model is overloaded","error_type":"Overloaded"}"#;
    first.script(Script::status(429, busy).header("retry-after", "7"));
    second.script(Script::broken(At::Request, How::Fin));
    let reply = gateway.client().chat("tiny", "");
    assert_eq!((reply.status, reply.header("retry-after")), (429, Some("7")));
    assert_canonical(&reply, "busy, then dead");
    assert_eq!(reply.header("x-forebay-attempts"), Some("2"));
}

#[test]
fn trap_76_one_answer_after_a_failure_in_generation() {
    let faults = [
        Script { first_ms: 20, ..Script::status(500, r#"{"error":"CUDA out of memory"}"#) },
        Script::broken(At::Events(5), How::Fin),
        Script::broken(At::Events(5), How::Reset),
        Script::broken(At::Events(5), How::error(500)),
    ];
    for fault in faults {
        let (first, second, gateway) = two("", "");
        first.script(fault.clone());
        let reply = gateway.client().chat("tiny", "");
        assert_eq!((reply.status, reply.content()), (200, recitation(0, 20)), "{fault:?}");
        assert_eq!(reply.header("x-forebay-attempts"), Some("2"));
        let asked = (first.stats().inference_requests, second.stats().inference_requests);
        assert_eq!(asked, (1, 1), "{fault:?}");
        assert!(second.wait_for(PATIENCE, |s| s.finished == 1), "{fault:?}");
    }
}

#[test]
fn trap_77_every_shape_becomes_the_envelope() {
    let (upstream, gateway) = one("", "");
    let json = "application/json";
    let shapes = [
        (json, r#"{"error":"went wrong"}"#, "went wrong"),
        (json, r#"{"message":"went wrong","code":500,"type":"Backend"}"#, "went wrong"),
        (json, r#"{"detail":"went wrong"}"#, "went wrong"),
        (json, r#"{"detail":[{"loc":["body"],"msg":"went wrong"}]}"#, "went wrong"),
        (json, r#"{"error":{"message":"went wrong","code":500}}"#, "went wrong"),
        (json, r#"{"error":{"message":["went wrong"]}}"#, "went wrong"),
        (json, r#""went wrong""#, "went wrong"),
        (json, "{\"error\":", "{"),
        ("text/plain", "went wrong", "went wrong"),
        ("text/html", "<html><head><title>went wrong</title></head></html>", "went wrong"),
        ("text/event-stream", "data: went wrong\n\n", "went wrong"),
        (json, "", ""),
        (json, "null", ""),
        (json, "{}", ""),
    ];
    for (kind, body, message) in shapes {
        for status in [422, 500, 503, 507] {
            upstream.script(page(status, kind, body));
            let reply = gateway.client().chat_stream("tiny", "");
            let what = format!("{status} {body:?}: {}", reply.text());
            assert_eq!(reply.status, status, "{what}");
            let error = &reply.json()["error"];
            assert!(error["message"].as_str().unwrap().contains(message), "{what}");
            assert!(!error["message"].as_str().unwrap().is_empty(), "{what}");
            assert!(
                error.as_object().unwrap().contains_key("type") || body.contains("\"error\":{")
            );
            assert_eq!(reply.header("content-type"), Some(json), "{what}");
        }
    }
}

#[test]
fn trap_77_long_words_are_cut() {
    let (upstream, gateway) = one("", "");
    let before = gateway.peak_rss();
    let long = "é".repeat(5 << 20);
    let bodies = [
        ("text/plain", Blob::from(long.clone())),
        ("application/json", Blob::from(format!("{{\"error\":{{\"message\":\"{long}\"}}}}"))),
        ("text/html", Blob::from(format!("<html><title>{long}</title>"))),
    ];
    for (kind, body) in bodies {
        for status in [400, 500] {
            upstream.script(page(status, kind, body.clone()));
            let reply = gateway.client().chat("tiny", "");
            assert_eq!(reply.status, status);
            assert!(reply.body.len() < 64 << 10, "{} bytes", reply.body.len());
            assert_canonical(&reply, kind);
            assert!(!reply.text().contains('\u{fffd}'), "{kind}");
        }
    }
    // Less than one of the bodies: none was held whole.
    let grown = gateway.peak_rss() - before;
    assert!(grown < 10 << 20, "{grown} bytes");
}

#[test]
fn trap_78_integer_codes_pass_as_they_are() {
    let (upstream, gateway) = one("", "");
    for body in [BAD_LOGPROBS, &BAD_LOGPROBS.replace(",\"", " ,\n\t\"")] {
        upstream.script(Script::status(400, body));
        let reply = gateway.client().chat("tiny", "");
        assert_eq!((reply.status, &*reply.text()), (400, body));
    }
}

#[test]
fn trap_79_424_is_a_bad_gateway_tried_once_each() {
    let (first, second, gateway) = two("", "");
    let body = r#"{"message":"Backend error","code":424,"type":"Backend"}"#;
    first.script(Script::status(424, body));
    second.script(Script::status(424, body));
    let reply = gateway.client().chat("tiny", "");
    assert_eq!((reply.status, &*reply.error_code()), (502, "upstream_error"));
    assert_canonical(&reply, "424");
    assert_eq!(reply.json()["error"]["message"], "Backend error");
    assert_eq!(reply.header("x-should-retry"), Some("false"));
    assert_eq!((first.stats().inference_requests, second.stats().inference_requests), (1, 1));
    // 408 is such a status too: SDKs would send it again on their own.
    first.script(Script::status(408, body));
    second.script(Script::status(408, body));
    assert_eq!(gateway.client().chat("tiny", "").status, 502);
}
