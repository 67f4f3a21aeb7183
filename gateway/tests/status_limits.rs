//! Answers of the gateway's own when nobody can take a request: traps 80 and 81.

#![expect(clippy::unwrap_used, reason = "tests")]
#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use loadtest::text::{recitation, word};
use loadtest::{At, How, Profile, Script, Upstream};
use support::streams::{LENIENT, one, two};
use support::{Gateway, PATIENCE, Reply, backend, backend_at};

/// Whole seconds, as SDKs read them.
fn seconds(reply: &Reply) -> u64 {
    let after = reply.header("retry-after").unwrap_or_default();
    assert!(after.bytes().all(|byte| byte.is_ascii_digit()), "{after:?}");
    after.parse().unwrap()
}

#[test]
fn trap_80_saturated_is_429() {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let table = backend("first", "vllm", &upstream) + "max_in_flight = 1\n";
    let gateway = Gateway::start(&format!("queue_size = 0\n{table}{LENIENT}"));
    gateway.wait_for_model("tiny");
    upstream.clear();
    upstream.script(Script::broken(At::Events(2), How::Hang));
    let mut running = gateway.client().open_chat("tiny", ",\"stream\":true");
    running.read_until(&word(0));
    for stream in ["", ",\"stream\":true"] {
        let reply = gateway.client().chat("tiny", stream);
        assert_eq!((reply.status, &*reply.error_code()), (429, "rate_limit_exceeded"));
        assert_eq!(reply.json()["error"]["type"], "rate_limit_error");
        assert!((1..=60).contains(&seconds(&reply)));
        // SDKs wait and come again by themselves, unless they are told not to.
        assert_ne!(reply.header("x-should-retry"), Some("false"));
    }
    assert_eq!(upstream.stats().inference_requests, 1);
    // The slot is free with the end of the answer.
    running.leave();
    assert!(upstream.wait_for(PATIENCE, |s| s.in_flight == 0));
    upstream.script(Script::default());
    support::wait_until("a free slot", || gateway.client().chat("tiny", "").status == 200);
}

#[test]
fn trap_80_a_backends_wish_to_rest_is_bounded() {
    for (asked, told) in [("3600", 60), ("0.2", 1), ("7", 7), ("0", 1), ("1e9", 60)] {
        let (upstream, gateway) = one("", "");
        upstream.script(
            Script::status(429, r#"{"error":"Model is overloaded"}"#).header("retry-after", asked),
        );
        let reply = gateway.client().chat("tiny", "");
        assert_eq!((reply.status, seconds(&reply)), (429, told), "{asked}");
        assert_ne!(reply.header("x-should-retry"), Some("false"));
    }
    // What is no number of seconds is not passed on as if it were.
    for odd in ["Wed, 21 Oct 2099 07:28:00 GMT", "soon", "-5", "NaN"] {
        let (upstream, gateway) = one("", "");
        upstream.script(
            Script::status(429, r#"{"error":"Model is overloaded"}"#).header("retry-after", odd),
        );
        let reply = gateway.client().chat("tiny", "");
        assert_eq!(reply.status, 429);
        assert!((1..=60).contains(&seconds(&reply)), "{odd}");
    }
}

#[test]
fn trap_80_a_resting_backend_is_passed_over() {
    let (first, second, gateway) = two("", "");
    first.script(
        Script::status(429, r#"{"error":"Model is overloaded"}"#).header("retry-after", "60"),
    );
    for _ in 0..3 {
        assert_eq!(gateway.client().chat("tiny", "").content(), recitation(0, 20));
    }
    assert_eq!((first.stats().inference_requests, second.stats().inference_requests), (1, 3));
}

#[test]
fn trap_81_unknown_and_unavailable_are_told_apart() {
    let (upstream, gateway) = one("", "");
    let reply = gateway.client().chat("nonesuch", "");
    assert_eq!((reply.status, &*reply.error_code()), (404, "model_not_found"));
    assert_eq!(reply.json()["error"]["param"], "model");
    assert!(reply.json()["error"]["message"].as_str().unwrap().contains("nonesuch"));

    upstream.die();
    for stream in ["", ",\"stream\":true"] {
        let reply = gateway.client().chat("tiny", stream);
        assert!(matches!(reply.status, 502 | 503), "{}", reply.text());
        assert_eq!(reply.json()["error"]["type"], "server_error");
        assert_ne!(reply.error_code(), "model_not_found");
    }
    // What is known stays listed.
    assert!(gateway.client().get("/v1/models").text().contains("\"tiny\""));
}

#[test]
fn trap_81_no_healthy_backend_is_503_at_once() {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let table = backend("first", "vllm", &upstream);
    let gateway = Gateway::start(&format!("{table}[breaker]\nconsecutive_failures = 2\n"));
    gateway.wait_for_model("tiny");
    upstream.clear();
    upstream.script(Script::broken(At::Request, How::Hang));
    // One trial that hangs, behind an open breaker: nobody else waits for it.
    upstream.script_next(2, Script::broken(At::Request, How::Reset));
    assert_eq!(gateway.client().chat("tiny", "").status, 502);
    // The one that opens the breaker is told what everyone is told from then on, and why.
    let last = gateway.client().chat("tiny", "");
    assert_eq!((last.status, &*last.error_code()), (503, "no_backend_available"));
    assert!(last.json()["error"]["message"].as_str().unwrap().contains("lost the connection"));
    assert!((1..=60).contains(&seconds(&last)));
    let trial = gateway.client().open_chat("tiny", ",\"stream\":true");
    assert!(upstream.wait_for(PATIENCE, |s| s.in_flight == 1));
    for stream in ["", ",\"stream\":true"] {
        let reply = gateway.client().chat("tiny", stream);
        assert_eq!((reply.status, &*reply.error_code()), (503, "no_backend_available"));
        assert!((1..=60).contains(&seconds(&reply)));
    }
    assert_eq!(upstream.stats().inference_requests, 3);
    trial.leave();
}

#[test]
fn trap_81_declared_but_served_by_nobody() {
    let upstream = Upstream::start(Profile::vllm(&["other"])).unwrap();
    let table = backend("first", "vllm", &upstream);
    let gateway =
        Gateway::start(&format!("{table}[[model]]\nname = \"tiny\"\nregion = \"eu\"\n{LENIENT}"));
    gateway.wait_for_model("other");
    let reply = gateway.client().chat("tiny", "");
    assert_eq!((reply.status, &*reply.error_code()), (503, "no_backend_available"));
    assert!((1..=60).contains(&seconds(&reply)));
    assert_eq!(gateway.client().chat("nonesuch", "").status, 404);
}

#[test]
fn trap_81_a_backend_that_never_was() {
    // Nobody serves tcpmux.
    let table = backend_at("first", "vllm", "http://127.0.0.1:1") + "models = [\"tiny\"]\n";
    let gateway = Gateway::start(&format!("{table}{LENIENT}"));
    gateway.wait_for_model("tiny");
    for _ in 0..2 {
        let reply = gateway.client().chat_stream("tiny", "");
        assert!(matches!(reply.status, 502 | 503), "{}", reply.text());
        assert!(reply.json()["error"]["code"].is_string());
    }
}
