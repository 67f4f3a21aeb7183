//! API keys: who is let in, what each key may use, and that no key is ever seen again.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::time::{Duration, Instant};

use loadtest::{Profile, Upstream};
use support::client::{chat_body, request};
use support::{Gateway, Reply, backend, edits};

const SECRET: &str = "sk-canary-7f3a9";
const OTHER: &str = "sk-canary-other";

fn config(upstream: &Upstream) -> String {
    let backend = backend("one", "vllm", upstream);
    format!(
        "{backend}region = \"eu\"\n[[region]]\nname = \"eu\"\n[[region]]\nname = \"us\"\n\
         [[backend]]\nname = \"far\"\nkind = \"vllm\"\nurl = \"{}\"\nregion = \"us\"\n\
         [auth]\nmode = \"keys\"\n\
         [[key]]\nname = \"team-a\"\nsecret = \"{SECRET}\"\nmodels = [\"m*\"]\n\
         [[key]]\nname = \"team-b\"\nsecret = \"{OTHER}\"\nregions = [\"us\"]\n",
        upstream.url()
    )
}

fn ask(gateway: &Gateway, headers: &str, model: &str) -> Reply {
    let headers = format!("connection: close\r\ncontent-type: application/json\r\n{headers}");
    let body = chat_body(model, "");
    gateway.client().raw(request("POST", "/v1/chat/completions", &headers, body.as_bytes()))
}

fn bearer(secret: &str) -> String {
    format!("authorization: Bearer {secret}\r\n")
}

fn start() -> (Upstream, Gateway) {
    let upstream = Upstream::start(Profile::vllm(&["m1", "other"])).unwrap();
    let gateway = Gateway::start(&config(&upstream));
    gateway.wait_for_backends(2);
    (upstream, gateway)
}

#[test]
fn nobody_without_a_valid_key_is_served_and_every_refusal_says_the_same() {
    let (upstream, gateway) = start();
    let before = upstream.stats().inference_requests;
    let refusals = [
        ask(&gateway, "", "m1"),
        ask(&gateway, &bearer("sk-wrong"), "m1"),
        ask(&gateway, &bearer(&SECRET[..SECRET.len() - 1]), "m1"),
        ask(&gateway, &bearer(&format!("{SECRET}x")), "m1"),
        ask(&gateway, "authorization: Basic c2stY2FuYXJ5\r\n", "m1"),
        ask(&gateway, "x-api-key: \r\n", "m1"),
        ask(&gateway, "authorization: Bearer \u{e4}\r\n", "nope"),
    ];
    for refusal in &refusals {
        assert_eq!((refusal.status, refusal.error_code().as_str()), (401, "invalid_api_key"));
        assert_eq!(refusal.body, refusals[0].body);
    }
    for path in ["/v1/models", "/v1/models/m1"] {
        assert_eq!(gateway.client().get(path).status, 401, "{path}");
    }
    assert_eq!(upstream.stats().inference_requests, before);
}

#[test]
fn a_key_works_in_every_carrier_and_two_different_ones_do_not() {
    let (_upstream, gateway) = start();
    for carrier in [
        bearer(SECRET),
        format!("authorization: bearer  {SECRET}\r\n"),
        format!("x-api-key: {SECRET}\r\n"),
        format!("api-key: {SECRET}\r\n"),
        format!("x-api-key: {SECRET}\r\n{}", bearer(SECRET)),
    ] {
        assert_eq!(ask(&gateway, &carrier, "m1").status, 200, "{carrier}");
    }
    let both = format!("x-api-key: {OTHER}\r\n{}", bearer(SECRET));
    assert_eq!(ask(&gateway, &both, "m1").status, 400);
}

#[test]
fn a_key_is_held_to_its_models_and_sees_only_those() {
    let (upstream, gateway) = start();
    let before = upstream.stats().inference_requests;
    let refused = ask(&gateway, &bearer(SECRET), "other");
    assert_eq!((refused.status, refused.error_code().as_str()), (403, "permission_denied"));
    assert_eq!(refused.json()["error"]["param"], "model");
    assert_eq!(upstream.stats().inference_requests, before);
    let list = gateway.client().request("GET", "/v1/models", &bearer(SECRET), b"");
    let names: Vec<_> = list.json()["data"].as_array().unwrap().clone();
    assert_eq!(names.len(), 1);
    assert_eq!(names[0]["id"], "m1");
    let one = gateway.client().request("GET", "/v1/models/other", &bearer(SECRET), b"");
    assert_eq!((one.status, one.error_code().as_str()), (404, "model_not_found"));
    let all = gateway.client().request("GET", "/v1/models", &bearer(OTHER), b"");
    assert_eq!(all.json()["data"].as_array().unwrap().len(), 2);
}

#[test]
fn a_key_never_leaves_its_regions() {
    let (_upstream, gateway) = start();
    for region in ["", "x-forebay-region: us\r\n"] {
        for _ in 0..5 {
            let reply = ask(&gateway, &format!("{}{region}", bearer(OTHER)), "m1");
            assert_eq!(reply.header("x-forebay-backend"), Some("far"));
        }
    }
    let reply = ask(&gateway, &format!("{}x-forebay-region: eu\r\n", bearer(OTHER)), "m1");
    assert_ne!(reply.header("x-forebay-backend"), Some("one"));
}

#[test]
fn no_key_reaches_an_upstream_or_the_log() {
    let (upstream, gateway) = start();
    ask(&gateway, &bearer(SECRET), "m1");
    ask(&gateway, &format!("x-api-key: {OTHER}\r\n"), "m1");
    ask(&gateway, &bearer("sk-canary-unknown"), "m1");
    support::wait_until("the log lines", || gateway.request_lines().len() >= 3);
    let mut seen = gateway.log() + &gateway.metrics();
    for request in upstream.requests() {
        seen.push_str(&String::from_utf8_lossy(&request.raw_head));
        seen.push_str(&String::from_utf8_lossy(&request.body));
    }
    assert!(!seen.contains("sk-canary"), "{seen}");
    assert!(gateway.request_lines().iter().any(|line| line["key"] == "team-a"));
}

#[test]
fn a_revoked_key_is_refused_after_the_reload() {
    let (upstream, gateway) = start();
    assert_eq!(ask(&gateway, &bearer(SECRET), "m1").status, 200);
    let file = gateway.dir.path().join("forebay.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (head, _) = text.split_once("[[key]]").unwrap();
    let tail = text.split_once("[server]").unwrap().1;
    let kept = format!("[[key]]\nname = \"team-b\"\nsecret = \"{OTHER}\"\n[server]{tail}");
    std::fs::write(&file, format!("{head}{kept}")).unwrap();
    support::wait_until("the key to be gone", || {
        ask(&gateway, &bearer(SECRET), "m1").status == 401
    });
    assert_eq!(ask(&gateway, &bearer(OTHER), "m1").status, 200);
    drop(upstream);
}

/// Three times, and the quickest counts: the machine that runs tests is busy with them.
#[test]
fn a_key_that_leaves_the_file_is_refused_within_a_second() {
    let (_upstream, gateway) = start();
    let file = edits::file(&gateway);
    let whole = edits::text(&gateway);
    let (before, rest) = whole.split_once("[[key]]\nname = \"team-a\"").unwrap();
    let (_, after) = rest.split_once("[[key]]").unwrap();
    let revoked = format!("{before}[[key]]{after}");
    let took = (0..3).map(|_| {
        support::wait_until("the key to be good", || {
            ask(&gateway, &bearer(SECRET), "m1").status == 200
        });
        let written = Instant::now();
        edits::replace(&file, &revoked);
        support::wait_until("the key to be refused", || {
            ask(&gateway, &bearer(SECRET), "m1").status == 401
        });
        let took = written.elapsed();
        edits::replace(&file, &whole);
        took
    });
    let took: Vec<_> = took.collect();
    println!("refused after {took:?}");
    assert!(took.iter().min() < Some(&Duration::from_secs(1)), "{took:?}");
}

/// The quickest way to take a key away is one line in the file.
#[test]
fn a_key_that_is_disabled_or_over_is_refused() {
    let (_upstream, gateway) = start();
    let file = gateway.dir.path().join("forebay.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let name = "name = \"team-a\"\n";
    for (line, status) in [
        ("disabled = true\n", 401),
        ("expires = 2999-01-01T00:00:00Z\n", 200),
        ("expires = 2001-01-01T00:00:00Z\n", 401),
    ] {
        std::fs::write(&file, text.replace(name, &format!("{name}{line}"))).unwrap();
        support::wait_until(line, || ask(&gateway, &bearer(SECRET), "m1").status == status);
        assert_eq!(ask(&gateway, &bearer(OTHER), "m1").status, 200, "{line}");
    }
}
