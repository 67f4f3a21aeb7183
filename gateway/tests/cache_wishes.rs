//! What clients may ask of the cache, how long answers are good, and who may see them.

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::time::{Duration, Instant};

use loadtest::Upstream;
use support::client::chat_body;
use support::streams::{LENIENT, one};
use support::{Gateway, Reply, backend, edits, wait_until};

const CACHE: &str = "[cache]\ndefault = true\n";

fn cached() -> (Upstream, Gateway) {
    one("", CACHE)
}

fn ask(gateway: &Gateway, headers: &str) -> Reply {
    let headers = format!("content-type: application/json\r\n{headers}");
    let body = chat_body("tiny", ",\"temperature\":0");
    gateway.client().request("POST", "/v1/chat/completions", &headers, body.as_bytes())
}

/// What the cache did.
fn did(gateway: &Gateway, headers: &str) -> String {
    let reply = ask(gateway, headers);
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.header("x-forebay-cache").unwrap_or("-").to_owned()
}

#[test]
fn cache_control() {
    let (upstream, gateway) = cached();
    assert_eq!(did(&gateway, "cache-control: no-store\r\n"), "bypass");
    assert_eq!(did(&gateway, "cache-control: no-cache\r\n"), "bypass");
    // `no-store` has stored nothing, `no-cache` has.
    assert_eq!(did(&gateway, ""), "hit");
    assert_eq!(did(&gateway, "cache-control: no-store\r\n"), "bypass");
    assert_eq!(did(&gateway, "cache-control: max-age=3600\r\n"), "hit");
    assert_eq!(did(&gateway, "cache-control: only-if-cached\r\n"), "hit");
    assert_eq!(upstream.inferences().len(), 3);
    wait_until("the answer to be too old", || {
        did(&gateway, "cache-control: max-age=1, max-age=0\r\n") == "miss"
    });
    assert_eq!(gateway.metric("forebay_cache_bypass_total{reason=\"no_store\"}"), 2.0);
    assert_eq!(gateway.metric("forebay_cache_bypass_total{reason=\"no_cache\"}"), 1.0);
}

#[test]
fn only_if_cached_asks_nobody() {
    let (upstream, gateway) = cached();
    let reply = ask(&gateway, "cache-control: only-if-cached\r\n");
    assert_eq!((reply.status, reply.error_code().as_str()), (504, "not_cached"));
    assert_eq!(reply.header("x-should-retry"), Some("false"));
    assert!(upstream.inferences().is_empty());
}

#[test]
fn lifetimes() {
    let (upstream, gateway) = cached();
    let bad = ask(&gateway, "x-forebay-cache-ttl: soon\r\n");
    assert_eq!((bad.status, bad.error_code().as_str()), (400, "invalid_request"));
    assert_eq!(bad.json()["error"]["param"], "x-forebay-cache-ttl");
    let begun = Instant::now();
    assert_eq!(did(&gateway, "x-forebay-cache-ttl: 1\r\n"), "miss");
    assert_eq!(did(&gateway, ""), "hit");
    wait_until("the answer to end", || did(&gateway, "") == "miss");
    assert!(begun.elapsed() > Duration::from_millis(800));
    assert_eq!(upstream.inferences().len(), 2);
}

#[test]
fn tenants_are_apart_unless_they_share() {
    for (scope, expected) in [("tenant", "miss"), ("shared", "hit")] {
        let upstream = Upstream::start(loadtest::Profile::vllm(&["tiny"])).unwrap();
        let key = |name: &str, tenant: &str| {
            format!("[[key]]\nname = \"{name}\"\nsecret = \"sk-{name}\"\ntenant = \"{tenant}\"\n")
        };
        let gateway = Gateway::start(&format!(
            "{}{}{}{}[auth]\nmode = \"keys\"\n[[model]]\nname = \"tiny\"\ncache = {{ scope = \"{scope}\" }}\n{LENIENT}",
            backend("first", "vllm", &upstream),
            key("one", "a"),
            key("two", "a"),
            key("three", "b"),
        ));
        gateway.wait_for_backends(1);
        let with = |name: &str| did(&gateway, &format!("authorization: Bearer sk-{name}\r\n"));
        assert_eq!(with("one"), "miss");
        assert_eq!(with("two"), "hit", "the same tenant");
        assert_eq!(with("three"), expected, "{scope}");
        // Without a key there is nothing, cached or not.
        assert_eq!(ask(&gateway, "").status, 401);
    }
}

#[test]
fn what_is_strict_is_kept_only_where_it_may_be() {
    for (region, expected) in
        [("region = \"eu\"", "hit"), ("region = \"us\"", "bypass"), ("", "bypass")]
    {
        let upstream = Upstream::start(loadtest::Profile::vllm(&["tiny"])).unwrap();
        let gateway = Gateway::start_with(
            &format!(
                "{}[[region]]\nname = \"eu\"\n[[region]]\nname = \"us\"\n[[model]]\nname = \"tiny\"\n\
                 region = \"eu\"\nresidency = \"strict\"\ncache = true\n{LENIENT}",
                backend("first", "vllm", &upstream),
            ),
            region,
        );
        gateway.wait_for_backends(1);
        did(&gateway, "");
        assert_eq!(did(&gateway, ""), expected, "{region}");
    }
}

#[test]
fn a_reload_changes_what_is_cached() {
    let (_upstream, gateway) = cached();
    assert_eq!(did(&gateway, ""), "miss");
    edits::edit(&gateway, CACHE, "[cache]\ndefault = true\nttl = \"2h\"\n");
    assert_eq!(did(&gateway, ""), "hit", "what is stored stays");
    edits::edit(&gateway, "ttl = \"2h\"\n", "memory_max = \"64KiB\"\nentry_max = \"16KiB\"\n");
    assert_eq!(did(&gateway, ""), "miss", "another room");
    assert_eq!(did(&gateway, ""), "hit");
    edits::edit(&gateway, "default = true", "default = false");
    assert_eq!(did(&gateway, ""), "-");
}
