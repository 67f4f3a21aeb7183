//! From an empty configuration to routed traffic through the admin API alone, in the gateway's process and in one of its
//! own; the same steps over both.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::time::{Duration, Instant};

use loadtest::{Profile, Script, Upstream};
use serde_json::{Value, json};
use support::admin::{Mode, Site};
use support::wait_until;

/// How long a change may take from its answer to its effect (DESIGN 11).
const EFFECT: Duration = Duration::from_secs(1);
const MODEL: &str = "mistral-7b";

fn names(list: &Value) -> Vec<String> {
    let all = list["data"].as_array().unwrap();
    all.iter().map(|one| one["name"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The backend that serves the next request.
fn served_by(site: &Site) -> String {
    let reply = site.gateway.client().chat(MODEL, "");
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.header("x-forebay-backend").unwrap_or_default().to_owned()
}

/// Waits for the effect of a change that was just acknowledged, and gives how long it took.
fn takes_effect(site: &Site, backend: &str) -> Duration {
    let begun = Instant::now();
    site.admin.settled(1);
    wait_until(&format!("traffic on {backend}"), || served_by(site) == backend);
    begun.elapsed()
}

type Server = (&'static str, &'static str, &'static str, Upstream);

/// Adds three servers, sees their models, and puts a head before each.
fn register(site: &Site, servers: &[Server]) {
    let admin = site.admin;
    for (name, kind, region, server) in servers {
        let body = json!({"name": name, "kind": kind, "region": region, "url": server.url()});
        let made = admin.post("/admin/backends", &body);
        assert_eq!(made.status, 201);
        assert!(made.header("location").is_some() && made.header("etag").is_some());
    }
    wait_until("the models of all three", || {
        let state = admin.get("/admin/models");
        names(&state).contains(&MODEL.to_owned())
    });
    wait_until("all three online", || {
        let backends = admin.get("/admin/backends");
        let online = |one: &Value| one["status"][0]["state"] == "online";
        backends["data"].as_array().unwrap().iter().filter(|one| online(one)).count() == 3
    });
    for (head, region, backend) in [
        ("head-eu", "eu", "eu-vllm-1"),
        ("head-eu-2", "eu", "eu-vllm-2"),
        ("head-us", "us", "us-ollama-1"),
    ] {
        admin.post("/admin/heads", &json!({"name": head, "region": region, "backends": [backend]}));
    }
}

fn from_nothing_to_a_rollback(mode: Mode) {
    let servers = [
        ("eu-vllm-1", "vllm", "eu", Upstream::start(Profile::vllm(&[MODEL])).unwrap()),
        ("eu-vllm-2", "vllm", "eu", Upstream::start(Profile::vllm(&[MODEL])).unwrap()),
        ("us-ollama-1", "ollama", "us", Upstream::start(Profile::ollama(&[MODEL])).unwrap()),
    ];
    let site = Site::start(mode);
    let admin = site.admin;
    register(&site, &servers);

    let model = format!("/admin/models/{MODEL}");
    let region = admin.put(&model, &format!("{model}/region"), &json!({"region": "eu"}));
    assert_eq!(region.status, 200, "{}", region.text());
    let first = json!({"priority_head": "head-eu"});
    let placed = admin.put(&model, &format!("{model}/priority-head"), &first);
    assert_eq!(placed.status, 200, "{}", placed.text());
    assert!(takes_effect(&site, "eu-vllm-1") < EFFECT);
    for _ in 0..10 {
        assert_eq!(served_by(&site), "eu-vllm-1");
    }

    // Outside of the model's regions: refused, with those that would do.
    let wrong =
        admin.put(&model, &format!("{model}/priority-head"), &json!({"priority_head": "head-us"}));
    assert!((400..500).contains(&wrong.status), "{}", wrong.text());
    assert!(wrong.text().contains("head-eu"), "{}", wrong.text());

    // A stream that runs is left alone by what comes.
    servers[0].3.script_next(1, Script::words(30, 50));
    let mut stream = site.gateway.client().open_chat(MODEL, ",\"stream\":true");
    stream.read_until("data:");
    let before = admin.get("/admin/config/versions")["data"][0]["number"].clone();
    let moved = admin.put(
        &model,
        &format!("{model}/priority-head"),
        &json!({"priority_head": "head-eu-2"}),
    );
    assert_eq!(moved.status, 200, "{}", moved.text());
    let took = takes_effect(&site, "eu-vllm-2");
    println!("{mode:?}: moved within {took:?}");
    assert!(took < EFFECT);
    if mode == Mode::Embedded {
        assert!(moved.header("x-forebay-applied").is_some(), "in force before the answer");
    }
    assert!(stream.reply().looks_whole(), "a running stream was not dropped");

    let back = admin.post("/admin/config/rollback", &json!({"version": before}));
    assert_eq!(back.status, 200);
    assert!(takes_effect(&site, "eu-vllm-1") < EFFECT);
    admin.settled(1);

    let audit = admin.get("/admin/audit?limit=100").to_string();
    for word in ["eu-vllm-1", "head-eu-2", MODEL, "rollback"] {
        assert!(audit.contains(word), "{word} in the audit: {audit}");
    }
    wait_until("the events of it", || {
        let events = admin.get("/admin/events?limit=200").to_string();
        ["eu-vllm-1", "head-eu-2", "published"].iter().all(|word| events.contains(word))
    });
}

#[test]
fn an_embedded_api_configures_everything() {
    from_nothing_to_a_rollback(Mode::Embedded);
}

#[test]
fn a_sidecar_configures_everything() {
    from_nothing_to_a_rollback(Mode::Sidecar);
}

#[test]
fn embeddings_go_to_a_tei_backend() {
    let tei = Upstream::start(Profile::tei("bge-small")).unwrap();
    let site = Site::start(Mode::Embedded);
    let body = json!({"name": "tei-1", "kind": "tei", "region": "eu", "url": tei.url()});
    site.admin.post("/admin/backends", &body);
    site.gateway.wait_for_model("bge-small");
    wait_until("its health", || {
        site.admin.get("/admin/backends/tei-1")["status"][0]["state"] == "online"
    });
    let body = json!({"model": "bge-small", "input": "a word"}).to_string();
    let reply = site.gateway.client().post("/v1/embeddings", body);
    assert_eq!((reply.status, reply.header("x-forebay-backend")), (200, Some("tei-1")));
    assert_eq!(site.gateway.client().chat("bge-small", "").status, 503, "it does not chat");
}

#[test]
fn rerankers_are_registered_and_watched() {
    let (tei, plain) = (
        Upstream::start(Profile::tei("bge-rank")),
        Upstream::start(Profile::plain(&["jina-rank"])),
    );
    let (tei, plain) = (tei.unwrap(), plain.unwrap());
    let health = "[health]\ninterval = \"200ms\"\ntimeout = \"1s\"\n";
    let site = Site::start_with(Mode::Embedded, health);
    for (name, server, model) in [("rank-1", &tei, "bge-rank"), ("rank-2", &plain, "jina-rank")] {
        let body = json!({"name": name, "kind": "rerank", "region": "eu", "url": server.url()});
        site.admin.post("/admin/backends", &body);
        let path = format!("/admin/backends/{name}");
        let state = || site.admin.get(&path)["status"][0]["state"].clone();
        wait_until("its health", || state() == "online");
        wait_until("its model", || names(&site.admin.get("/admin/models")).contains(&model.into()));
        let on_it = site.admin.get(&format!("{path}/models"));
        assert_eq!(on_it["data"][0]["id"], model, "{on_it}");
        server.vitals(|vitals| vitals.health = 503);
        wait_until("its sickness", || state() != "online");
        server.vitals(|vitals| vitals.health = 200);
        wait_until("its recovery", || state() == "online");
        assert_eq!(site.gateway.client().chat(model, "").status, 503, "it does not chat");
    }
}
