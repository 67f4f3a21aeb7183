//! Paths, methods and cross-origin calls: traps 53 to 58.

#![expect(clippy::unwrap_used, reason = "tests")]
#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use loadtest::{Profile, Upstream};
use support::client::{chat_body, request};
use support::{Gateway, Reply, backend, backend_at, tiny};

const CHAT: &str = "/v1/chat/completions";

fn assert_canonical(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status, &*reply.error_code()), (status, code), "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(reply.json()["error"]["message"].as_str().is_some_and(|text| !text.is_empty()));
    assert_eq!(reply.json()["error"]["type"], "invalid_request_error");
    assert!(reply.header("x-request-id").is_some());
}

/// Targets that the gateway's own health checks and discovery ask for.
const OWN: [&str; 5] = ["/health", "/v1/models", "/metrics", "/version", "/load"];

/// What reached the upstream beside the gateway's own checks.
fn strangers(upstream: &Upstream) -> Vec<String> {
    let requests = upstream.requests().into_iter();
    requests
        .filter(|r| r.method != "GET" || !OWN.contains(&r.target.as_str()))
        .map(|r| format!("{} {}", r.method, r.target))
        .collect()
}

#[test]
fn trap_53_model_ids_in_the_path() {
    let ids =
        ["Qwen/Qwen3:8b", "hf.co/o/r:Q4", "a b", "50%", "a+b", "größe", "a%2Fb", "x?y", "x#y"];
    let upstream = Upstream::start(Profile::vllm(&ids)).unwrap();
    let gateway = Gateway::start(&backend("a", "vllm", &upstream));
    gateway.wait_for_model("a+b");
    let escaped = |id: &str| -> String {
        id.bytes()
            .map(|b| {
                if b.is_ascii_alphanumeric() {
                    char::from(b).to_string()
                } else {
                    format!("%{b:02x}")
                }
            })
            .collect()
    };
    let get = |path: &str| gateway.client().get(&format!("/v1/models/{path}"));
    for id in ids {
        let reply = get(&escaped(id));
        assert_eq!((reply.status, reply.json()["id"].as_str()), (200, Some(id)), "{id}");
        let reply = gateway.client().chat(id, "");
        assert_eq!(reply.status, 200, "{id}: {}", reply.text());
        assert_eq!(upstream.inferences().pop().unwrap().json()["model"], id);
    }
    for (path, id) in [
        ("Qwen/Qwen3:8b", "Qwen/Qwen3:8b"),
        ("hf.co/o/r:Q4", "hf.co/o/r:Q4"),
        ("hf.co%2Fo/r%3AQ4", "hf.co/o/r:Q4"),
        ("a+b", "a+b"),
        ("a%252Fb", "a%2Fb"),
        ("größe", "größe"),
        ("a%20b/", "a b"),
    ] {
        let reply = get(path);
        assert_eq!((reply.status, reply.json()["id"].as_str()), (200, Some(id)), "{path}");
    }
    // Decoded once and only once; a broken escape is nobody's id.
    for path in ["a%2Fb", "a%25252Fb", "a%2520b", "50%", "%zz", "%ff", "a%00"] {
        let reply = get(path);
        assert_eq!(reply.status, 404, "{path}: {}", reply.text());
        assert!(["model_not_found", "not_found"].contains(&&*reply.error_code()));
    }
    assert_eq!(strangers(&upstream).len(), ids.len(), "chats only");
}

#[test]
fn trap_54_a_trailing_slash_changes_nothing() {
    let (upstream, gateway) = tiny("");
    assert_eq!(
        gateway.client().get("/v1/models/").json(),
        gateway.client().get("/v1/models").json()
    );
    assert_eq!(gateway.client().get("/v1/models/tiny/").json()["id"], "tiny");
    let reply = gateway.client().post(&format!("{CHAT}/"), chat_body("tiny", ""));
    assert_eq!((reply.status, reply.header("location")), (200, None));
    assert_eq!(strangers(&upstream), [format!("POST {CHAT}")]);
    for path in ["/v1/chat/completions//", "/v1/models//", "/v1//"] {
        assert_canonical(&gateway.client().get(path), 404, "not_found");
    }
}

#[test]
fn trap_55_no_other_path_reaches_an_upstream() {
    let (upstream, gateway) = tiny("");
    let paths = [
        "/",
        "//v1//models",
        "/v1/v1/models",
        "/chat/completions",
        "/V1/models",
        "/v1/Chat/Completions",
        "/v1/../admin",
        "/v1/chat/completions/../../../sleep",
        "/v1/%2e%2e/sleep",
        "/v1/chat%2Fcompletions",
        "/%76%31/models",
        "/v1\\models",
        "/v1;x/models",
        "/v1/chat/completions;x",
        "/sleep",
        "/wake_up",
        "/metrics",
        "/server_info",
        "/load",
        "/health",
        "/readyz",
        "/livez",
        "/admin",
        "/admin/backends",
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/api/pull",
        "/api/delete",
        "/api/generate",
        "/reset_prefix_cache",
        "/collective_rpc",
        "/invocations",
        "/docs",
        "/openapi.json",
    ];
    for path in paths {
        for method in ["GET", "POST", "DELETE", "PUT", "PROPFIND"] {
            let reply = gateway.client().request(method, path, "", b"{}");
            assert_canonical(&reply, 404, "not_found");
        }
    }
    // Below the models there are only models.
    for path in
        ["/v1/models/../../sleep", "/v1/models/tiny/../../sleep", "/v1/models/%2e%2e%2fsleep"]
    {
        assert_canonical(&gateway.client().get(path), 404, "model_not_found");
    }
    assert_eq!(strangers(&upstream), [""; 0]);
}

#[test]
fn trap_56_base_urls_with_and_without_v1_and_slash() {
    let ends = ["", "/", "/v1", "/v1/"];
    let upstreams: Vec<_> = (0..ends.len())
        .map(|i| Upstream::start(Profile::vllm(&[&*format!("m{i}")])).unwrap())
        .collect();
    let toml: String = (upstreams.iter().zip(ends).enumerate())
        .map(|(i, (upstream, end))| {
            backend_at(&format!("b{i}"), "vllm", &format!("{}{end}", upstream.url()))
        })
        .collect();
    let gateway = Gateway::start(&toml);
    for (i, upstream) in upstreams.iter().enumerate() {
        let model = format!("m{i}");
        gateway.wait_for_model(&model);
        assert_eq!(gateway.client().chat(&model, "").status, 200, "{:?}", ends[i]);
        assert_eq!(strangers(upstream), [format!("POST {CHAT}")], "{:?}", ends[i]);
        assert!(!upstream.requests().iter().any(|r| r.target.contains("//")));
    }
}

#[test]
fn trap_57_queries_are_kept_byte_for_byte() {
    let (upstream, gateway) = tiny("");
    for query in [
        "?beta=true",
        "?api-version=2024-10-01&x=%2F+%20a;b&&=&c",
        "?",
        "?a=b?c=/d:e@f",
        "?q=%E2%82%AC%zz%",
        "?model=other&stream=true",
    ] {
        for path in [CHAT, "/v1/chat/completions/"] {
            upstream.clear();
            let reply = gateway.client().post(&format!("{path}{query}"), chat_body("tiny", ""));
            assert_eq!(reply.status, 200, "{query}: {}", reply.text());
            assert_eq!(strangers(&upstream), [format!("POST {CHAT}{query}")]);
        }
    }
    assert_eq!(gateway.client().get("/v1/models?x=/v1/sleep").status, 200);
}

/// The head of an answer and what comes after it until the connection ends.
fn head_and_rest(gateway: &Gateway, method: &str, path: &str) -> (String, String) {
    let mut exchange = gateway.client().connect();
    exchange.send(request(method, path, "connection: close\r\n", b""));
    exchange.read_until("\r\n\r\n");
    assert!(exchange.closes_within(support::PATIENCE));
    let all = exchange.so_far();
    let (head, rest) = all.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), rest.to_owned())
}

#[test]
fn trap_58_head_is_get_without_its_body() {
    let (upstream, gateway) = tiny("");
    for path in ["/v1/models", "/v1/models/tiny", "/v1/models/unknown", "/nothing"] {
        let (get, body) = head_and_rest(&gateway, "GET", path);
        let (head, nothing) = head_and_rest(&gateway, "HEAD", path);
        assert!(!body.is_empty() && nothing.is_empty(), "{path}");
        let stable = |head: &str| -> Vec<String> {
            let own = ["date:", "x-request-id:"];
            let lines = head.lines().filter(|line| !own.iter().any(|name| line.starts_with(name)));
            let mut lines: Vec<_> = lines.map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(stable(&get), stable(&head), "{path}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    }
    assert_eq!(gateway.client().request("OPTIONS", CHAT, "", b"").status, 204);
    assert_eq!(gateway.metric("forebay_client_left_total"), 0.0);
    assert_eq!(strangers(&upstream), [""; 0]);
}

#[test]
fn trap_58_wrong_methods_name_the_right_ones() {
    let (upstream, gateway) = tiny("");
    for (path, allow) in [
        (CHAT, "POST, OPTIONS"),
        ("/v1/completions", "POST, OPTIONS"),
        ("/v1/embeddings", "POST, OPTIONS"),
        ("/v1/models", "GET, HEAD, OPTIONS"),
        ("/v1/models/a/b", "GET, HEAD, OPTIONS"),
    ] {
        let wrong = if allow.starts_with("POST") { "GET" } else { "POST" };
        for method in [wrong, "PUT", "DELETE", "PATCH", "TRACE", "post", "QUERY"] {
            let reply = gateway.client().request(method, path, "", b"{}");
            assert_canonical(&reply, 405, "method_not_allowed");
            assert_eq!(reply.header("allow"), Some(allow), "{method} {path}");
        }
        let reply = gateway.client().request("OPTIONS", path, "", b"");
        assert_eq!((reply.status, reply.header("allow")), (204, Some(allow)), "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), None);
    }
    assert_canonical(&gateway.client().request("OPTIONS", "/sleep", "", b""), 404, "not_found");
    assert_canonical(&gateway.client().request("OPTIONS", "*", "", b""), 404, "not_found");
    assert_eq!(strangers(&upstream), [""; 0]);
}

const ORIGIN: &str = "access-control-allow-origin";

#[test]
fn trap_58_preflight_and_cross_origin_answers() {
    let (upstream, gateway) = tiny("[server.cors]\norigins = [\"https://chat.example\"]");
    let ask = |method: &str, path: &str, origin: &str, body: &[u8]| {
        let headers = format!(
            "origin: {origin}\r\ncontent-type: application/json\r\n\
             access-control-request-method: POST\r\n\
             access-control-request-headers: authorization,content-type\r\n"
        );
        gateway.client().request(method, path, &headers, body)
    };
    let reply = ask("OPTIONS", CHAT, "https://chat.example", b"");
    assert_eq!(reply.status, 204);
    assert_eq!(reply.header(ORIGIN), Some("https://chat.example"));
    assert_eq!(reply.header("access-control-allow-headers"), Some("authorization,content-type"));
    assert!(reply.header("access-control-allow-methods").unwrap().contains("POST"));
    let vary = reply.headers.iter().filter(|(name, _)| name == "vary").map(|(_, value)| &**value);
    let vary = vary.collect::<Vec<_>>().join(",");
    assert!(vary.contains("origin") && vary.contains("access-control-request-headers"), "{vary}");
    assert_eq!(upstream.stats().inference_requests, 0);

    let body = chat_body("tiny", ",\"stream\":true");
    for (reply, status) in [
        (ask("POST", CHAT, "https://chat.example", body.as_bytes()), 200),
        (ask("POST", CHAT, "https://chat.example", b"{"), 400),
        (ask("GET", "/nothing", "https://chat.example", b""), 404),
    ] {
        assert_eq!(reply.status, status);
        assert_eq!(reply.header(ORIGIN), Some("https://chat.example"));
        assert!(reply.header("access-control-expose-headers").is_some());
        assert_eq!(reply.header("access-control-allow-credentials"), None);
    }
    let others = [
        "https://chat.example.evil.test",
        "https://evil.test",
        "http://chat.example",
        "https://chat.example:444",
        "null",
    ];
    for origin in others {
        for (method, body) in [("OPTIONS", &b""[..]), ("POST", body.as_bytes())] {
            assert_eq!(ask(method, CHAT, origin, body).header(ORIGIN), None, "{origin}");
        }
    }
    // What an upstream says about origins is its own business.
    assert!(upstream.inferences().iter().all(|r| r.header("origin").is_none()));
}

#[test]
fn trap_58_any_origin_and_none() {
    let (_upstream, gateway) = tiny("[server.cors]\norigins = [\"*\"]");
    let reply = gateway.client().request("GET", "/v1/models", "origin: https://x.test\r\n", b"");
    assert_eq!(reply.header(ORIGIN), Some("*"));
    let (_upstream, gateway) = tiny("");
    let reply = gateway.client().request("GET", "/v1/models", "origin: https://x.test\r\n", b"");
    assert_eq!(reply.header(ORIGIN), None);
}
