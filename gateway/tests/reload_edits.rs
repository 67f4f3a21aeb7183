//! A good edit takes effect while the gateway runs, whatever it changes.

#![expect(clippy::unwrap_used, reason = "tests")]
#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use loadtest::{At, How, Profile, Script, Upstream};
use support::edits::{apply, edit, server, text};
use support::{Gateway, backend, client, tiny, tiny_backend, wait_until};

/// Which backends answered so many requests, as counts in the order of `names`.
fn shares(gateway: &Gateway, names: [&str; 2], n: usize) -> [usize; 2] {
    let mut counts = [0; 2];
    for _ in 0..n {
        let reply = gateway.client().chat("tiny", "");
        assert_eq!(reply.status, 200, "{}", reply.text());
        let from = reply.header("x-forebay-backend").unwrap().to_owned();
        counts[names.iter().position(|name| *name == from).unwrap()] += 1;
    }
    counts
}

#[test]
fn limits_of_requests_and_connections_change() {
    let (_upstream, gateway) = tiny("");
    let long = client::chat_body("tiny", &format!(",\"user\":\"{}\"", "x".repeat(4096)));
    let post = || gateway.client().post("/v1/chat/completions", &long);
    assert_eq!(post().status, 200);
    server(&gateway, "max_body = \"2KiB\"");
    let reply = post();
    assert_eq!((reply.status, &*reply.error_code()), (413, "request_too_large"));
    edit(&gateway, "max_body = \"2KiB\"", "max_body = \"8KiB\"");
    assert_eq!(post().status, 200);

    let many: String = (0..50).map(|n| format!("x-{n}: 1\r\n")).collect();
    let get = || gateway.client().request("GET", "/v1/models", &many, b"").status;
    assert_eq!(get(), 200);
    server(&gateway, "limits = { headers = 20 }");
    assert_eq!(get(), 431);

    assert!(post().header("x-forebay-backend").is_some());
    server(&gateway, "expose_headers = false");
    assert!(post().header("x-forebay-backend").is_none());
}

#[test]
fn deadlines_and_caps_change() {
    let (upstream, table) = tiny_backend();
    let gateway = Gateway::start(&format!("max_attempts = 1\nqueue_size = 0\n{table}# more\n"));
    gateway.wait_for_model("tiny");
    upstream.script(Script::broken(At::Head, How::Hang));
    edit(&gateway, "# more", "# more\n[timeouts]\nfirst_event = \"100ms\"");
    let reply = gateway.client().chat_stream("tiny", "");
    assert_eq!((reply.status, &*reply.error_code()), (504, "upstream_timeout"));

    edit(&gateway, "\"100ms\"", "\"60s\"");
    upstream.script(Script::words(10, 0));
    upstream.script_next(1, Script::broken(At::Events(4), How::Hang));
    let mut held = gateway.client().open_chat("tiny", ",\"stream\":true");
    held.read_until("data:");
    assert_eq!(gateway.client().chat("tiny", "").status, 200);
    // The stream that runs already counts under the new cap.
    edit(&gateway, "# more", "max_in_flight = 1");
    assert_eq!(gateway.client().chat("tiny", "").status, 429);
    edit(&gateway, "max_in_flight = 1", "max_in_flight = 2");
    assert_eq!(gateway.client().chat("tiny", "").status, 200);
    held.leave();
}

#[test]
fn backends_models_policy_and_weights_change() {
    let first = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let second = Upstream::start(Profile::vllm(&["tiny", "other"])).unwrap();
    let gateway = Gateway::start(&format!(
        "policy = \"round_robin\"\nslow_start = \"0s\"\n{}# more\n",
        backend("first", "vllm", &first)
    ));
    gateway.wait_for_model("tiny");
    let names = ["first", "second"];
    assert_eq!(shares(&gateway, names, 4), [4, 0]);

    let added = backend("second", "vllm", &second);
    edit(&gateway, "# more\n", &format!("# more\n{added}"));
    gateway.wait_for_model("other");
    assert_eq!(shares(&gateway, names, 8), [4, 4]);

    edit(&gateway, "# more\n", "weight = 3\n# more\n");
    assert_eq!(shares(&gateway, names, 8), [6, 2]);

    let model =
        "[[model]]\nname = \"tiny\"\naliases = [\"gpt\"]\n[model.deployments]\nsecond = \"tiny\"\n";
    edit(&gateway, "[server]\n", &format!("{model}[server]\n"));
    let reply = gateway.client().chat("gpt", "");
    assert_eq!((reply.status, reply.header("x-forebay-backend")), (200, Some("second")));
    edit(&gateway, model, "");
    assert_eq!(gateway.client().chat("gpt", "").error_code(), "model_not_found");

    edit(&gateway, &added, "");
    assert_eq!(gateway.client().chat("other", "").error_code(), "model_not_found");
    assert!(!gateway.client().get("/v1/models").text().contains("other"));
    assert_eq!(shares(&gateway, names, 4), [4, 0]);
    let shown = |series: &str| gateway.metrics().contains(series);
    assert!(shown("forebay_backend_up{backend=\"first\"} 1"));
    assert!(!shown("forebay_backend_up{backend=\"second\"} 1"), "a backend that is gone is not up");
}

#[test]
fn a_removed_backend_finishes_what_it_began() {
    let (upstream, gateway) = tiny("");
    upstream.script(Script::words(40, 20));
    let mut running = gateway.client().open_chat("tiny", ",\"stream\":true");
    running.read_until("data:");
    let whole = text(&gateway);
    let table = whole.find("[[backend]]").unwrap();
    let end = whole.find("[server]").unwrap();
    apply(&gateway, &(whole[..table].to_owned() + &whole[end..]));
    assert_eq!(gateway.client().chat("tiny", "").error_code(), "model_not_found");
    let reply = running.reply();
    assert!(reply.looks_whole(), "{}", reply.text());
    assert_eq!(reply.content(), loadtest::text::recitation(0, 40));
}

#[test]
fn the_log_level_changes() {
    let (_upstream, gateway) = tiny("");
    let ask = |id: &str| {
        let headers = format!("x-request-id: {id}\r\n");
        assert_eq!(gateway.client().request("GET", "/v1/models", &headers, b"").status, 200);
    };
    let logged = |id: &str| wait_until(id, || gateway.log().contains(id));
    ask("loud-1");
    logged("loud-1");
    edit(&gateway, "[server]\n", "[log]\nlevel = \"error\"\n[server]\n");
    ask("quiet-1");
    edit(&gateway, "level = \"error\"", "level = \"info\"");
    ask("loud-2");
    logged("loud-2");
    assert!(!gateway.log().contains("quiet-1"), "{}", gateway.log());
}

#[test]
fn the_drain_that_was_asked_for_last_is_the_one_that_happens() {
    let (_upstream, mut gateway) = tiny("drain = { grace = \"10m\", timeout = \"10m\" }");
    edit(&gateway, "grace = \"10m\", timeout = \"10m\"", "grace = \"0s\", timeout = \"0s\"");
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
}

#[test]
fn what_needs_a_restart_is_said_until_it_happens() {
    let (_upstream, gateway) = tiny("");
    let said = || gateway.log().matches("these changes need a restart").count();
    edit(&gateway, "threads = 2", "threads = 3");
    wait_until("the warning", || said() == 1);
    assert!(gateway.log().contains("server.threads"), "{}", gateway.log());
    server(&gateway, "max_body = \"2KiB\"");
    wait_until("the next warning", || said() == 2);
    edit(&gateway, "threads = 3", "threads = 2");
    server(&gateway, "region = \"eu\"");
    assert_eq!(said(), 2);
}
