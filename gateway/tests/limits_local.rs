//! Limits of keys on one gateway: what is admitted, what is said, and what is paid in the end.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use loadtest::{At, How, Script, Upstream, Writes};
use support::client::{chat_body, request};
use support::streams::{EVENTS, exactly, stream};
use support::{Gateway, Reply, tiny_backend, wait_until};

const SECRET: &str = "sk-limits-test-0001";

/// A gateway with one key, which has these limits.
fn with(limits: &str) -> (Upstream, Gateway) {
    let (upstream, table) = tiny_backend();
    let gateway = Gateway::start(&format!(
        "{table}[auth]\nmode = \"keys\"\n[[key]]\nname = \"team\"\nsecret = \"{SECRET}\"\n{limits}\n"
    ));
    gateway.wait_for_backends(1);
    upstream.clear();
    (upstream, gateway)
}

fn headers() -> String {
    format!("content-type: application/json\r\nauthorization: Bearer {SECRET}\r\n")
}

fn ask(gateway: &Gateway, extra: &str) -> Reply {
    let body = chat_body("tiny", extra);
    gateway.client().request("POST", "/v1/chat/completions", &headers(), body.as_bytes())
}

fn number(reply: &Reply, header: &str) -> u64 {
    reply.header(header).unwrap().parse().unwrap()
}

/// Waits until so many answers are settled: that is before their log line.
fn settled(gateway: &Gateway, answers: usize) {
    wait_until("the log lines", || gateway.request_lines().len() >= answers);
}

#[test]
fn requests_are_counted_refused_and_explained() {
    let (upstream, gateway) = with("requests_per_minute = 6\nrequests_per_day = 1000\nburst = 2");
    let first = ask(&gateway, "");
    assert_eq!(first.status, 200);
    assert_eq!(number(&first, "x-ratelimit-limit-requests"), 6);
    assert_eq!(number(&first, "x-ratelimit-remaining-requests"), 1);
    assert_eq!(first.header("ratelimit-policy"), Some("\"rpm\";q=6;w=60, \"rpd\";q=1000;w=86400"));
    assert!(first.header("ratelimit").unwrap().starts_with("\"rpm\";r=1;t=10, \"rpd\";r=999;"));
    assert!(first.header("x-ratelimit-limit-tokens").is_none());
    // Every operation pays.
    let body = b"{\"model\":\"tiny\",\"prompt\":\"x\"}";
    let second = gateway.client().request("POST", "/v1/completions", &headers(), body);
    assert_eq!(second.status, 200);

    let refused = ask(&gateway, "");
    assert_eq!((refused.status, refused.error_code().as_str()), (429, "rate_limit_exceeded"));
    assert_eq!(refused.json()["error"]["type"], "requests");
    assert_eq!(number(&refused, "x-ratelimit-remaining-requests"), 0);
    let (seconds, millis) = (number(&refused, "retry-after"), number(&refused, "retry-after-ms"));
    assert_eq!(seconds, millis.div_ceil(1000));
    assert!((1..=10).contains(&seconds), "{seconds}");
    assert!(refused.header("x-should-retry").is_none());
    // Looking at what there is costs nothing.
    let models = gateway.client().request("GET", "/v1/models", &headers(), b"");
    assert_eq!(models.status, 200);
    assert_eq!(upstream.stats().inference_requests, 2);
    assert!(gateway.metric("forebay_limits_refused_total{cause=\"requests\"}") > 0.5);
}

#[test]
fn a_wait_of_hours_is_not_worth_a_retry() {
    let (_upstream, gateway) = with("requests_per_day = 1");
    assert_eq!(ask(&gateway, "").status, 200);
    let refused = ask(&gateway, "");
    assert_eq!((refused.status, refused.header("x-should-retry")), (429, Some("false")));
    assert_eq!(number(&refused, "retry-after"), 60);
}

#[test]
fn tokens_are_reserved_and_settled_by_what_the_answer_used() {
    let (upstream, gateway) = with("tokens_per_minute = 1000");
    upstream.script(Script::words(5, 0));
    // Each reserves more than half of all, and uses little of it.
    for answers in 1..=4 {
        let reply = ask(&gateway, ",\"max_tokens\":600");
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(number(&reply, "x-ratelimit-remaining-tokens") < 400);
        settled(&gateway, answers);
    }
    let lines = gateway.request_lines();
    let used = |name: &str| lines.iter().map(|line| line[name].as_u64().unwrap()).sum::<u64>();
    let used = used("prompt_tokens") + used("completion_tokens");
    let reply = ask(&gateway, ",\"max_tokens\":1");
    let left = number(&reply, "x-ratelimit-remaining-tokens");
    // 1,000 a minute come back meanwhile; the reservation of this one is its prompt and one token.
    assert!(left >= 1000 - used - 20 && left < 1000, "{left} left, {used} used");
}

#[test]
fn a_request_that_comes_to_nothing_gets_its_tokens_back() {
    let (upstream, gateway) = with("tokens_per_minute = 1000");
    upstream.script(Script::broken(At::RequestHead, How::Reset));
    for answers in 1..=3 {
        let reply = ask(&gateway, ",\"max_tokens\":900");
        assert!(reply.status >= 500, "{}", reply.text());
        settled(&gateway, answers);
    }
    upstream.script(Script::words(5, 0));
    // The backend's breaker or its rest may say no for a moment; the key never does.
    wait_until("the backend to serve again", || {
        let reply = ask(&gateway, ",\"max_tokens\":900");
        assert_ne!(reply.status, 429, "{}", reply.text());
        reply.status == 200
    });
}

#[test]
fn a_request_that_can_never_fit_is_told_so() {
    let (upstream, gateway) = with("tokens_per_minute = 1000");
    let refused = ask(&gateway, ",\"max_tokens\":2000");
    assert_eq!((refused.status, refused.error_code().as_str()), (429, "rate_limit_exceeded"));
    assert_eq!(refused.json()["error"]["type"], "tokens");
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    assert!(refused.header("retry-after").is_none());
    assert!(refused.text().contains("never use more than 1000"), "{}", refused.text());
    assert_eq!(upstream.stats().inference_requests, 0);
    // One that names no maximum is given what there is.
    assert_eq!(ask(&gateway, "").status, 200);
}

#[test]
fn a_usage_that_the_client_did_not_ask_for_is_had_and_kept_from_it() {
    let (upstream, gateway) = with("tokens_per_day = 10000000");
    let shapes = [Writes::Events, Writes::One, Writes::Bytes(vec![1]), Writes::Bytes(vec![7, 61])];
    for (answers, writes) in shapes.into_iter().enumerate() {
        upstream.clear();
        upstream.script(Script { writes, ..Script::words(7, 0) });
        let reply = ask(&gateway, ",\"stream\":true");
        assert!(reply.looks_whole(), "{}", reply.text());
        assert_eq!(reply.content(), loadtest::text::recitation(0, 7));
        assert!(!reply.text().contains("\"choices\":[]"), "{}", reply.text());
        let sent = String::from_utf8_lossy(&upstream.inferences()[0].body).into_owned();
        assert!(sent.contains("\"stream_options\":{\"include_usage\":true}"), "{sent}");
        settled(&gateway, answers + 1);
        assert_eq!(gateway.request_lines()[answers]["completion_tokens"], 7);
    }
    let asked = ask(&gateway, ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    assert!(asked.text().contains("\"choices\":[]"), "{}", asked.text());
}

#[test]
fn a_large_plain_answer_is_paid_for_as_any_other() {
    let (upstream, gateway) = with("tokens_per_day = 200000");
    upstream.script(Script::words(60_000, 0));
    let reply = ask(&gateway, ",\"max_tokens\":70000");
    assert!(reply.status == 200 && reply.text().len() > 256 << 10);
    settled(&gateway, 1);
    assert_eq!(gateway.request_lines()[0]["completion_tokens"], 60_000);
    let left = |reply: &Reply| number(reply, "x-ratelimit-remaining-tokens");
    let silent =
        "{\"choices\":[{\"index\":0,\"message\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}";
    upstream.script(Script::status(200, silent));
    let second = ask(&gateway, ",\"max_tokens\":70000");
    assert!((69_000..=70_000).contains(&left(&second)), "{}", left(&second));
    // What nobody says anything of is not given back.
    settled(&gateway, 2);
    let third = ask(&gateway, ",\"max_tokens\":1");
    assert!((69_000..=70_100).contains(&left(&third)), "{}", left(&third));
}

#[test]
fn a_usage_before_all_content_tears_no_event() {
    let (upstream, gateway) = with("tokens_per_day = 10000000");
    let [role, word, _, stop, usage, done] = EVENTS;
    for size in [1, 40, 1000] {
        let script = exactly(stream([role, usage, word, stop, usage, done]));
        upstream.script(Script { writes: Writes::Bytes(vec![size]), ..script });
        let reply = ask(&gateway, ",\"stream\":true");
        let events = reply
            .text()
            .lines()
            .filter_map(|line| line.strip_prefix("data: ").map(str::to_owned))
            .collect::<Vec<_>>();
        let whole = |event: &String| {
            event == "[DONE]" || serde_json::from_str::<serde_json::Value>(event).is_ok()
        };
        assert!(events.len() >= 4 && events.iter().all(whole), "{}", reply.text());
    }
}

#[test]
fn requests_at_once_are_counted_to_the_end_of_their_streams() {
    let (upstream, gateway) = with("concurrent = 2");
    upstream.script(Script { gap_ms: 50, ..Script::words(10_000, 0) });
    let body = chat_body("tiny", ",\"stream\":true");
    let open = || {
        let mut exchange = gateway.client().connect();
        exchange.send(request("POST", "/v1/chat/completions", &headers(), body.as_bytes()));
        exchange.read_until("data:");
        exchange
    };
    let (first, _second) = (open(), open());
    let refused = ask(&gateway, "");
    assert_eq!((refused.status, refused.json()["error"]["type"].as_str()), (429, Some("requests")));
    first.leave();
    upstream.script(Script::words(3, 0));
    wait_until("a free place", || ask(&gateway, "").status == 200);
}
