//! Secrets of clients and of Redis, looked for wherever a gateway writes: logs, metrics, the admin API, answers, Redis.
#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use loadtest::{Profile, Script, Upstream};
use support::admin::{Mode, Site};
use support::client::{chat_body, request};
use support::redis::Redis;
use support::streams::LENIENT;
use support::{Gateway, Reply, backend, wait_until};

/// Begins every secret of this test.
const CANARY: &str = "canary7f3a9";
const KEY: &str = "sk-canary7f3a9-known";
const UNKNOWN: &str = "sk-canary7f3a9-unknown";
const PASSWORD: &str = "canary7f3a9-redis";

fn ask(gateway: &Gateway, secret: &str, body: &str) -> Reply {
    let headers = format!(
        "connection: close\r\ncontent-type: application/json\r\nauthorization: Bearer {secret}\r\n"
    );
    gateway.client().raw(request("POST", "/v1/chat/completions", &headers, body.as_bytes()))
}

/// Everything that Redis holds: names and values of every type.
fn contents(redis: &Redis) -> String {
    let login = format!("AUTH {PASSWORD}");
    let tell = |command: &str| redis.pipeline(&[login.as_str(), command]);
    let mut all = String::new();
    for key in tell("KEYS *").lines() {
        let read = match tell(&format!("TYPE {key}")).as_str() {
            "string" => format!("GET {key}"),
            "hash" => format!("HGETALL {key}"),
            "zset" => format!("ZRANGE {key} 0 -1 WITHSCORES"),
            // It ran out in the meantime.
            "none" => continue,
            other => unreachable!("{key} is a {other}"),
        };
        all.push_str(&format!("{key}\n{}\n", tell(&read)));
    }
    all
}

/// Good requests and bad ones, as they put most into what is written.
fn provoke(gateway: &Gateway, upstream: &Upstream, seen: &mut String) {
    // A new one each time: whether answers go to Redis yet is not known at first.
    let cold = chat_body("tiny", &format!(",\"seed\":{}", fastrand::u32(..)));
    let bodies = [
        (KEY, cold.clone()),
        (KEY, cold),
        (KEY, chat_body("tiny", ",\"temperature\":0,\"stream\":true")),
        (UNKNOWN, chat_body("tiny", "")),
        (KEY, chat_body("nope", "")),
        (KEY, chat_body("tiny", ",\"max_tokens\":2000000000")),
        (KEY, "{".to_owned()),
    ];
    for (secret, body) in bodies {
        seen.push_str(&ask(gateway, secret, &body).text());
    }
    upstream.script_next(1, Script::status(500, "{}"));
    seen.push_str(&ask(gateway, KEY, &chat_body("tiny", "")).text());
}

#[test]
fn no_secret_is_ever_written_down() {
    let mut redis = Redis::start_with(&["--requirepass", PASSWORD]);
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let tables = format!(
        "default_region = \"eu\"\n{}[redis]\nurl = \"redis://:{PASSWORD}@{}\"\ntimeout = \"250ms\"\n\
         [cache]\ndefault = true\n{LENIENT}[auth]\nmode = \"keys\"\n\
         [[key]]\nname = \"team\"\nsecret = \"{KEY}\"\nrequests_per_minute = 100000\n\
         tokens_per_minute = 1000000000\nconcurrent = 100\n",
        backend("one", "vllm", &upstream),
        redis.addr()
    );
    let site = Site::start_with(Mode::Embedded, &tables);
    let gateway = &site.gateway;
    gateway.wait_for_backends(1);
    wait_until("Redis", || gateway.metric("forebay_redis_up") > 0.5);
    let mut seen = String::new();
    wait_until("answers and limits in Redis", || {
        provoke(gateway, &upstream, &mut seen);
        let held = contents(&redis);
        held.contains("fb:answer:") && held.contains("{fb:team}:w")
    });
    let held = contents(&redis);
    assert!(held.contains("tpm"), "values are read: {held}");
    seen.push_str(&held);
    // What is said of a Redis that is gone.
    redis.kill();
    wait_until("Redis to be gone", || {
        provoke(gateway, &upstream, &mut seen);
        gateway.metric("forebay_redis_up") < 0.5
    });
    for path in [
        "state",
        "config/effective",
        "export",
        "config/versions",
        "keys",
        "backends",
        "events?limit=200",
        "audit",
    ] {
        let reply = site.admin.ask("GET", &format!("/admin/{path}"), "", None);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        seen.push_str(&reply.text());
    }
    seen.push_str(&gateway.metrics());
    seen.push_str(&gateway.log());
    assert!(seen.contains("\"team\"") && seen.contains("invalid_api_key"));
    let at = seen.find(CANARY);
    assert!(at.is_none(), "{:?}", at.map(|at| seen[at.saturating_sub(300)..].get(..400)));
}
