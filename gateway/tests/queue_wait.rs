//! Requests wait while all that could serve them are busy, and only then.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use loadtest::text::{recitation, word};
use loadtest::{At, How, Profile, Script, Upstream};
use support::client::Exchange;
use support::streams::LENIENT;
use support::{Gateway, Reply, backend, edits, wait_until};

/// A gateway before one backend that takes one request at a time; `top` goes above the tables.
fn narrow(top: &str, tables: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let table = backend("only", "vllm", &upstream) + "max_in_flight = 1\n";
    let gateway = Gateway::start(&format!("{top}{table}{tables}{LENIENT}"));
    gateway.wait_for_model("tiny");
    upstream.clear();
    (upstream, gateway)
}

/// A stream that goes on until its client leaves.
fn hold(upstream: &Upstream, gateway: &Gateway) -> Exchange {
    upstream.script_next(1, Script::broken(At::Events(2), How::Hang));
    let mut running = gateway.client().open_chat("tiny", ",\"stream\":true");
    running.read_until(&word(0));
    running
}

fn depth(gateway: &Gateway) -> u32 {
    let depth = gateway.metric("forebay_queue_depth{model=\"tiny\"}");
    (0..100).find(|n| (f64::from(*n) - depth).abs() < 0.5).unwrap_or(u32::MAX)
}

/// Sends a request and waits until it waits.
fn lines_up(gateway: &Gateway, extra: &str) -> Exchange {
    let before = depth(gateway);
    let request = gateway.client().open_chat("tiny", extra);
    wait_until("the request to wait", || depth(gateway) == before + 1);
    request
}

fn refused(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric(&format!("forebay_queue_refused_total{{reason=\"{reason}\"}}"))
}

/// 429 in OpenAI's shape, with a time in whole seconds; SDKs come again by themselves.
fn assert_busy(reply: &Reply, code: &str) {
    assert_eq!((reply.status, &*reply.error_code()), (429, code), "{}", reply.text());
    assert_eq!(reply.json()["error"]["type"], "rate_limit_error");
    let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_ne!(reply.header("x-should-retry"), Some("false"));
}

#[test]
fn a_request_waits_for_a_place_and_is_served() {
    let (upstream, gateway) = narrow("", "");
    let running = hold(&upstream, &gateway);
    let mut plain = lines_up(&gateway, "");
    let mut stream = lines_up(&gateway, ",\"stream\":true");
    assert_eq!(upstream.stats().inference_requests, 1);
    running.leave();
    for reply in [plain.reply(), stream.reply()] {
        assert_eq!((reply.status, reply.content()), (200, recitation(0, 20)));
        // The wait is no attempt.
        assert_eq!(reply.header("x-forebay-attempts"), Some("1"));
    }
    assert_eq!(upstream.stats().inference_requests, 3);
    assert_eq!(depth(&gateway), 0);
    assert!(gateway.metric("forebay_queue_waited_seconds_count") >= 2.0);
    wait_until("the log", || {
        let lines = gateway.request_lines();
        lines.iter().filter(|line| line["queued_ms"].as_f64().is_some_and(|ms| ms > 0.0)).count()
            == 2
    });
}

#[test]
fn a_full_queue_is_429_at_once() {
    let (upstream, gateway) = narrow("queue_size = 2\n", "");
    let running = hold(&upstream, &gateway);
    let mut waiting = [lines_up(&gateway, ""), lines_up(&gateway, "")];
    for extra in ["", ",\"stream\":true"] {
        assert_busy(&gateway.client().chat("tiny", extra), "queue_full");
    }
    assert!(refused(&gateway, "full") >= 2.0);
    assert_eq!(depth(&gateway), 2);
    running.leave();
    for request in &mut waiting {
        assert_eq!(request.reply().status, 200);
    }
}

#[test]
fn who_waited_in_vain_is_told_when_to_come_again() {
    let (upstream, gateway) = narrow("queue_timeout = \"200ms\"\n", "");
    let running = hold(&upstream, &gateway);
    for extra in ["", ",\"stream\":true"] {
        assert_busy(&gateway.client().chat("tiny", extra), "queue_timeout");
    }
    assert!(refused(&gateway, "timeout") >= 2.0);
    assert_eq!((upstream.stats().inference_requests, depth(&gateway)), (1, 0));
    running.leave();
    wait_until("the place to be free", || gateway.client().chat("tiny", "").status == 200);
}

#[test]
fn zero_is_not_to_wait() {
    let (upstream, gateway) = narrow("queue_timeout = \"0s\"\n", "");
    let _running = hold(&upstream, &gateway);
    assert_busy(&gateway.client().chat("tiny", ""), "rate_limit_exceeded");
}

#[test]
fn the_requests_total_time_bounds_its_wait() {
    let upstream = Upstream::start(Profile::vllm(&["tiny", "big"])).unwrap();
    let table = backend("only", "vllm", &upstream) + "max_in_flight = 1\n";
    let model = "[[model]]\nname = \"tiny\"\ntimeouts = { total = \"200ms\" }\n";
    let gateway = Gateway::start(&format!("{table}{model}{LENIENT}"));
    gateway.wait_for_model("big");
    upstream.clear();
    // Another model, without such a bound, has the place.
    upstream.script_for("big", Some(Script::broken(At::Events(2), How::Hang)));
    let mut running = gateway.client().open_chat("big", ",\"stream\":true");
    running.read_until(&word(0));
    assert_busy(&gateway.client().chat("tiny", ""), "queue_timeout");
    assert_eq!(upstream.stats().inference_requests, 1);
    running.leave();
}

#[test]
fn a_client_that_leaves_gives_its_place_in_the_queue_back() {
    let (upstream, gateway) = narrow("queue_size = 1\n", "");
    let running = hold(&upstream, &gateway);
    lines_up(&gateway, "").leave();
    wait_until("an empty queue", || depth(&gateway) == 0);
    let mut next = lines_up(&gateway, ",\"user\":\"stays\"");
    running.leave();
    assert_eq!(next.reply().status, 200);
    let users: Vec<_> =
        upstream.inferences().iter().map(|seen| seen.json()["user"].clone()).collect();
    assert_eq!((users.len(), &users[1]), (2, &"stays".into()), "one who left was served");
}

#[test]
fn a_stream_that_waits_gets_comments() {
    let (upstream, gateway) = narrow("head_hold = \"50ms\"\nkeep_alive = \"20ms\"\n", "");
    let running = hold(&upstream, &gateway);
    let mut waiting = lines_up(&gateway, ",\"stream\":true");
    while waiting.so_far().matches(": keep-alive").count() < 2 {
        assert!(waiting.read_some(), "{}", waiting.so_far());
    }
    assert_eq!(depth(&gateway), 1);
    running.leave();
    let reply = waiting.reply();
    assert_eq!((reply.status, reply.content()), (200, recitation(0, 20)));
    assert!(reply.looks_whole());
}

#[test]
fn a_stream_with_its_head_out_is_told_in_band_that_it_waited_in_vain() {
    let (upstream, gateway) = narrow("queue_timeout = \"300ms\"\nhead_hold = \"20ms\"\n", "");
    let _running = hold(&upstream, &gateway);
    let reply = gateway.client().chat_stream("tiny", "");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.error_event().unwrap()["code"], "queue_timeout");
}

#[test]
fn a_raised_cap_and_a_new_backend_wake_those_who_wait() {
    let (upstream, gateway) = narrow("", "# more\n");
    let _running = hold(&upstream, &gateway);
    let mut first = lines_up(&gateway, "");
    edits::edit(&gateway, "max_in_flight = 1", "max_in_flight = 2");
    assert_eq!(first.reply().status, 200);
    let _another = hold(&upstream, &gateway);
    let mut second = lines_up(&gateway, "");
    let other = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    edits::edit(&gateway, "# more", &backend("other", "vllm", &other));
    assert_eq!(second.reply().header("x-forebay-backend"), Some("other"));
}

#[test]
fn a_key_that_is_revoked_meanwhile_is_refused() {
    let key = "[auth]\nmode = \"keys\"\n[[key]]\nname = \"a\"\nsecret = \"sk-a\"\n\
               [[key]]\nname = \"b\"\nsecret = \"sk-b\"\n# disabled\n";
    let (upstream, table) = support::tiny_backend();
    let gateway = Gateway::start(&format!("{table}max_in_flight = 1\n{key}{LENIENT}"));
    gateway.wait_for_backends(1);
    upstream.clear();
    let ask = |key: &str, extra: &str| {
        let headers = format!("content-type: application/json\r\nauthorization: Bearer {key}\r\n");
        let body = support::client::chat_body("tiny", extra);
        let mut exchange = gateway.client().connect();
        let request =
            support::client::request("POST", "/v1/chat/completions", &headers, body.as_bytes());
        exchange.send(request);
        exchange
    };
    upstream.script_next(1, Script::broken(At::Events(2), How::Hang));
    let mut running = ask("sk-a", ",\"stream\":true");
    running.read_until(&word(0));
    let mut waiting = ask("sk-b", "");
    wait_until("the request to wait", || depth(&gateway) == 1);
    edits::edit(&gateway, "# disabled", "disabled = true");
    assert_eq!(waiting.reply().status, 401);
    assert_eq!(upstream.stats().inference_requests, 1);
}

#[test]
fn who_asked_to_be_left_alone_is_waited_for() {
    let (upstream, gateway) = narrow("", "");
    let busy = Script::status(429, r#"{"error":"Model is overloaded"}"#).header("retry-after", "1");
    upstream.script_next(1, busy);
    assert_eq!(gateway.client().chat("tiny", "").status, 429);
    assert_eq!(gateway.client().chat("tiny", "").content(), recitation(0, 20));
    assert_eq!(upstream.stats().inference_requests, 2);
    // Not where the wait would be too long anyway.
    let busy =
        Script::status(429, r#"{"error":"Model is overloaded"}"#).header("retry-after", "50");
    upstream.script_next(1, busy);
    assert_eq!(gateway.client().chat("tiny", "").status, 429);
    assert_busy(&gateway.client().chat("tiny", ""), "rate_limit_exceeded");
}

#[test]
fn the_dead_are_not_waited_for() {
    let (upstream, gateway) = narrow("", "[health]\ninterval = \"100ms\"\n");
    let running = hold(&upstream, &gateway);
    let mut waiting = lines_up(&gateway, "");
    upstream.die();
    // Offline by its probes, or tried and found dead: either way the wait is over.
    let reply = waiting.reply();
    assert!(matches!(reply.status, 502 | 503), "{}", reply.text());
    assert_eq!(depth(&gateway), 0);
    drop(running);
}

#[test]
fn a_busy_backend_is_waited_for_where_another_failed() {
    let dead = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let tables = backend("dead", "vllm", &dead)
        + &backend("only", "vllm", &upstream)
        + "max_in_flight = 1\n[[head]]\nname = \"h\"\nregion = \"eu\"\norder = \"listed\"\n\
           backends = [\"dead\", \"only\"]\n[[model]]\nname = \"tiny\"\npriority_head = \"h\"\n";
    let gateway = Gateway::start(&format!("{tables}{LENIENT}"));
    gateway.wait_for_backends(2);
    dead.script(Script::status(500, "{}"));
    let running = hold(&upstream, &gateway);
    let mut waiting = lines_up(&gateway, "");
    running.leave();
    let reply = waiting.reply();
    assert_eq!(reply.header("x-forebay-backend"), Some("only"));
    assert_eq!((reply.status, reply.header("x-forebay-attempts")), (200, Some("2")));
}

#[test]
fn a_models_own_cap_is_waited_for_and_holds_on_all_its_backends() {
    let one = Upstream::start(Profile::vllm(&["tiny", "big"])).unwrap();
    let two = Upstream::start(Profile::vllm(&["tiny", "big"])).unwrap();
    let tables = backend("one", "vllm", &one) + &backend("two", "vllm", &two);
    let model = "[[model]]\nname = \"tiny\"\nmax_in_flight = 2\n";
    let gateway = Gateway::start(&format!("{tables}{model}{LENIENT}"));
    gateway.wait_for_backends(2);
    for upstream in [&one, &two] {
        upstream.script_for("tiny", Some(Script::broken(At::Events(2), How::Hang)));
    }
    let mut held: Vec<_> = (0..2)
        .map(|_| {
            let mut running = gateway.client().open_chat("tiny", ",\"stream\":true");
            running.read_until(&word(0));
            running
        })
        .collect();
    let mut waiting = lines_up(&gateway, "");
    assert_eq!(gateway.client().chat("big", "").status, 200);
    for upstream in [&one, &two] {
        upstream.script_for("tiny", None);
    }
    held.pop().unwrap().leave();
    assert_eq!(waiting.reply().status, 200);
}

#[test]
fn residency_is_as_strict_after_the_wait() {
    let near = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let far = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let tables = backend("near", "vllm", &near)
        + "region = \"eu\"\nmax_in_flight = 1\n"
        + &backend("far", "vllm", &far)
        + "region = \"us\"\n[[region]]\nname = \"eu\"\n[[region]]\nname = \"us\"\n\
           [[model]]\nname = \"tiny\"\nregion = \"eu\"\nresidency = \"strict\"\n# more\n";
    let gateway = Gateway::start(&format!("{tables}{LENIENT}"));
    gateway.wait_for_backends(2);
    far.clear();
    let running = hold(&near, &gateway);
    let mut waiting = lines_up(&gateway, "");
    // A reload makes the plan anew; the wall stands.
    edits::edit(&gateway, "# more", "aliases = [\"small\"]");
    assert_eq!(depth(&gateway), 1);
    running.leave();
    assert_eq!(waiting.reply().header("x-forebay-region"), Some("eu"));
    assert_eq!(far.stats().inference_requests, 0);
}
