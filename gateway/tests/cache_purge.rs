//! Purging through the data plane's own trait: what is dropped, and what stays.

#![expect(clippy::unwrap_used, reason = "tests")]
#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::time::Duration;

use gateway::{DataPlane, DrainSettings, ListenSettings, Settings};
use loadtest::{At, How, Profile, Script, Upstream};
use router::planes::{Operate, PurgeScope};
use router::spec::{AuthSpec, BackendSpec, CacheSpec, KeyLimits, KeySpec, Kind, SnapshotSpec};
use router::{BackendName, KeyName, RegionName, TenantName};
use support::client::{Client, Reply, chat_body, request};
use support::wait_until;

fn key(name: &str, tenant: &str) -> KeySpec {
    KeySpec {
        name: KeyName::try_from(name).unwrap(),
        digest: gateway::key_digest(&format!("sk-{name}")),
        tenant: TenantName::try_from(tenant).unwrap(),
        models: Vec::new(),
        region: None,
        regions: Vec::new(),
        expires: None,
        disabled: false,
        priority: 0,
        limits: KeyLimits::default(),
    }
}

fn start(upstream: &Upstream) -> DataPlane {
    let any_port = "127.0.0.1:0".parse().unwrap();
    let name = BackendName::try_from("b").unwrap();
    let home = RegionName::try_from("eu").unwrap();
    let spec = SnapshotSpec {
        backends: vec![BackendSpec::new(name, Kind::Vllm, upstream.url(), home)],
        auth: AuthSpec { required: true, ..AuthSpec::default() },
        keys: vec![key("one", "a"), key("two", "a"), key("three", "b")],
        cache: CacheSpec { default: true, ..CacheSpec::default() },
        ..SnapshotSpec::default()
    };
    let settings = Settings {
        public: ListenSettings { listen: any_port, ..ListenSettings::default() },
        threads: Some(1),
        drain: DrainSettings { grace: Duration::ZERO, timeout: Duration::ZERO },
    };
    let running = DataPlane::start(&settings, any_port, spec).unwrap();
    wait_until("the models", || running.plane().world.load().public_models().len() == 2);
    running
}

fn bytes(key: &str, model: &str, extra: &str) -> Vec<u8> {
    let headers = format!(
        "content-type: application/json\r\nauthorization: Bearer sk-{key}\r\nconnection: close\r\n"
    );
    let body = chat_body(model, &format!(",\"temperature\":0{extra}"));
    request("POST", "/v1/chat/completions", &headers, body.as_bytes())
}

#[test]
fn each_scope_drops_its_own() {
    let upstream = Upstream::start(Profile::vllm(&["m", "n"])).unwrap();
    let running = start(&upstream);
    let client = Client::new(running.public_addr());
    let did = |key: &str, model: &str, extra: &str| {
        let reply: Reply = client.raw(bytes(key, model, extra));
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.header("x-forebay-cache").unwrap().to_owned()
    };
    // By model, tenant and key: "two" has stored one of tenant a's.
    let asked =
        [("one", "m", ""), ("one", "n", ""), ("two", "m", ",\"seed\":2"), ("three", "m", "")];
    let model = |name: &str| PurgeScope::Model(name.try_into().unwrap());
    let tenant = |name: &str| PurgeScope::Tenant(name.try_into().unwrap());
    let key = |name: &str| PurgeScope::Key(name.try_into().unwrap());
    let cases = [
        (PurgeScope::All, vec![0, 1, 2, 3]),
        (model("m"), vec![0, 2, 3]),
        (model("none"), vec![]),
        (tenant("a"), vec![0, 1, 2]),
        (tenant("b"), vec![3]),
        (key("two"), vec![2]),
        (key("three"), vec![3]),
    ];
    for (scope, gone) in cases {
        asked.iter().for_each(|(key, model, extra)| drop(did(key, model, extra)));
        assert_eq!(running.plane().purge(&scope), Ok(gone.len() as u64), "{scope:?}");
        for (number, (key, model, extra)) in asked.iter().enumerate() {
            let expected = if gone.contains(&number) { "miss" } else { "hit" };
            assert_eq!(did(key, model, extra), expected, "{scope:?} {number}");
        }
    }
}

#[test]
fn what_was_begun_before_a_purge_is_not_stored_after_it() {
    let upstream = Upstream::start(Profile::vllm(&["m", "n"])).unwrap();
    let running = start(&upstream);
    let client = Client::new(running.public_addr());
    upstream.script_next(1, Script::broken(At::Events(5), How::Hang));
    upstream.script_next(1, Script { gap_ms: 20, ..Script::default() });
    let mut stuck = client.connect();
    stuck.send(bytes("one", "m", ",\"stream\":true,\"seed\":1"));
    stuck.read_until("data:");
    let mut slow = client.connect();
    slow.send(bytes("one", "m", ",\"stream\":true"));
    slow.read_until("data:");
    assert_eq!(running.plane().purge(&PurgeScope::All), Ok(0));
    // Nobody joins what was begun before.
    let fresh = client.raw(bytes("one", "m", ",\"stream\":true,\"seed\":1"));
    assert_eq!(fresh.header("x-forebay-cache"), Some("miss"));
    assert!(slow.reply().looks_whole());
    let again = client.raw(bytes("one", "m", ",\"stream\":true"));
    assert_eq!(again.header("x-forebay-cache"), Some("miss"));
    stuck.leave();
}
