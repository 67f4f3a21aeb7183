//! Answers in Redis: shared by gateways, made once for all of them, and never in a request's way.

#![expect(clippy::unwrap_used, reason = "tests")]
#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::time::{Duration, Instant};

use loadtest::text::{recitation, word};
use loadtest::{Profile, Script, Upstream};
use support::client::Exchange;
use support::redis::{Impostor, Redis, delaying, table_at};
use support::streams::LENIENT;
use support::{Gateway, PATIENCE, Reply, backend, wait_until};

const COLD: &str = ",\"temperature\":0";
const STREAM: &str = ",\"stream\":true,\"temperature\":0";

fn upstream() -> Upstream {
    Upstream::start(Profile::vllm(&["tiny"])).unwrap()
}

fn start(upstream: &Upstream, redis: &str, tables: &str, server: &str) -> Gateway {
    let gateway = Gateway::start_with(
        &format!(
            "{}[cache]\ndefault = true\n{redis}{tables}{LENIENT}",
            backend("first", "vllm", upstream)
        ),
        server,
    );
    gateway.wait_for_model("tiny").wait_for_backends(1);
    gateway
}

/// A gateway that has found its Redis.
fn with(upstream: &Upstream, redis: &Redis) -> Gateway {
    let gateway = start(upstream, &redis.table(), "", "");
    wait_until("Redis", || gateway.metric("forebay_redis_up") == 1.0);
    wait_until("a value in Redis", || {
        // The first look at purges has to be over.
        let body = format!(",\"temperature\":0,\"seed\":{}", fastrand::u32(..));
        gateway.client().chat("tiny", &body);
        gateway.metric("forebay_cache_stores_total{tier=\"redis\"}") > 0.0
    });
    gateway
}

fn cache(reply: &Reply) -> &str {
    reply.header("x-forebay-cache").unwrap_or("-")
}

fn answers(redis: &Redis) -> Vec<String> {
    redis.ask(&["KEYS", "fb:answer:*"]).lines().map(str::to_owned).collect()
}

/// Asks until the answer is in Redis.
fn stored(gateway: &Gateway, redis: &Redis, extra: &str) -> Reply {
    let before = answers(redis).len();
    let reply = gateway.client().chat("tiny", extra);
    assert_eq!(cache(&reply), "miss");
    wait_until("the answer in Redis", || answers(redis).len() > before);
    reply
}

#[test]
fn what_one_has_stored_another_gives() {
    let (redis, upstream) = (Redis::start(), upstream());
    let (one, other) = (with(&upstream, &redis), with(&upstream, &redis));
    for extra in [COLD, STREAM] {
        let first = stored(&one, &redis, extra);
        upstream.clear();
        let second = other.client().chat("tiny", extra);
        assert_eq!((cache(&second), &second.body), ("hit", &first.body));
        assert_eq!(second.header("content-type"), first.header("content-type"));
        assert!(second.header("age").is_some());
        let third = other.client().chat("tiny", extra);
        assert_eq!((cache(&third), &third.body), ("hit", &first.body), "from memory now");
        assert!(upstream.inferences().is_empty());
    }
    assert_eq!(other.metric("forebay_cache_hits_total{tier=\"redis\"}"), 2.0);
    assert_eq!(other.metric("forebay_cache_hits_total{tier=\"memory\"}"), 2.0);
    for key in answers(&redis) {
        let left: u64 = redis.ask(&["PTTL", &key]).parse().unwrap();
        assert!((3_200_000..=3_960_000).contains(&left), "{left}");
    }
    let asked = "cache-control: only-if-cached\r\ncontent-type: application/json\r\n";
    let body = support::client::chat_body("tiny", ",\"temperature\":0,\"seed\":77777");
    let path = "/v1/chat/completions";
    let ask = || other.client().request("POST", path, asked, body.as_bytes());
    assert_eq!(ask().status, 504);
    stored(&one, &redis, ",\"temperature\":0,\"seed\":77777");
    assert_eq!(ask().status, 200);
}

#[test]
fn what_was_changed_in_redis_is_never_served() {
    let (redis, upstream) = (Redis::start(), upstream());
    let (one, other) = (with(&upstream, &redis), with(&upstream, &redis));
    let extra = |number: usize| format!(",\"temperature\":0,\"seed\":{number}");
    let known = answers(&redis);
    stored(&one, &redis, &extra(1));
    let key = answers(&redis).into_iter().find(|key| !known.contains(key)).unwrap();
    let foreign = known.first().unwrap();
    let damages: [(&str, &[&str]); 5] = [
        (
            "cut",
            &[
                "EVAL",
                "return redis.call('SET', KEYS[1], string.sub(redis.call('GET', KEYS[1]), 1, -2))",
                "1",
                &key,
            ],
        ),
        ("changed", &["SETRANGE", &key, "60", "x"]),
        ("another version", &["SETRANGE", &key, "3", "\u{2}"]),
        ("another answer's", &["COPY", foreign, &key, "REPLACE"]),
        ("something else", &["SET", &key, "hello"]),
    ];
    for (number, (what, damage)) in damages.iter().enumerate() {
        redis.ask(damage);
        upstream.clear();
        // Memory has nothing of it yet at the other one, and must not be asked at the first.
        let headers = "cache-control: max-age=3600\r\ncontent-type: application/json\r\n";
        let body = support::client::chat_body("tiny", &extra(1));
        let gateway = start(&upstream, &redis.table(), "", "");
        wait_until("Redis to be looked into", || {
            gateway.metric("forebay_redis_up") == 1.0 && {
                gateway.client().request(
                    "POST",
                    "/v1/chat/completions",
                    "cache-control: only-if-cached\r\ncontent-type: application/json\r\n",
                    body.as_bytes(),
                );
                gateway.metric("forebay_cache_corrupt_total") >= 1.0
            }
        });
        let reply =
            gateway.client().request("POST", "/v1/chat/completions", headers, body.as_bytes());
        assert_eq!((reply.status, cache(&reply)), (200, "miss"), "{what} {number}");
        assert_eq!(reply.content(), recitation(0, 20));
        assert_eq!(upstream.inferences().len(), 1, "{what}");
        wait_until("the good answer", || {
            gateway.metric("forebay_cache_stores_total{tier=\"redis\"}") == 1.0
        });
    }
    let wrong = redis.ask(&["DEL", &key]);
    assert_eq!(wrong, "1");
    redis.ask(&["LPUSH", &key, "x"]);
    let reply = other.client().chat("tiny", &extra(1));
    assert_eq!((reply.status, cache(&reply)), (200, "miss"), "a list");
}

#[test]
fn of_several_gateways_one_makes_the_answer() {
    for extra in [COLD, STREAM] {
        let (redis, upstream) = (Redis::start(), upstream());
        let gateways = [with(&upstream, &redis), with(&upstream, &redis), with(&upstream, &redis)];
        upstream.clear();
        upstream.script(Script { first_ms: 300, head_ms: 300, ..Script::default() });
        let mut crowd: Vec<_> = (0..99)
            .map(|number: usize| gateways[number % 3].client().open_chat("tiny", extra))
            .collect();
        let replies: Vec<_> = crowd.iter_mut().map(Exchange::reply).collect();
        for reply in &replies {
            assert_eq!((reply.status, reply.content()), (200, recitation(0, 20)));
            assert!(reply.looks_whole());
        }
        assert_eq!(upstream.inferences().len(), 1, "{extra}");
        assert_eq!(redis.ask(&["KEYS", "fb:lease:*"]), "", "given back");
    }
}

#[test]
fn a_lease_is_given_back_when_nothing_comes_of_it() {
    let (redis, upstream) = (Redis::start(), upstream());
    let (one, other) = (with(&upstream, &redis), with(&upstream, &redis));
    upstream
        .script(Script { head_ms: 200, ..Script::status(400, r#"{"error":{"message":"no"}}"#) });
    let mut first = one.client().open_chat("tiny", COLD);
    assert!(upstream.wait_for(PATIENCE, |s| s.in_flight == 1));
    let begun = Instant::now();
    let mut second = other.client().open_chat("tiny", COLD);
    assert_eq!((first.reply().status, second.reply().status), (400, 400));
    assert!(begun.elapsed() < Duration::from_secs(4), "it did not wait for the lease to run out");
}

#[test]
fn a_purge_reaches_every_gateway() {
    let (redis, upstream) = (Redis::start(), upstream());
    let (one, other) = (with(&upstream, &redis), with(&upstream, &redis));
    stored(&one, &redis, COLD);
    assert_eq!(cache(&other.client().chat("tiny", COLD)), "hit");
    upstream.script(Script { start: 100, ..Script::default() });
    assert_eq!(one.client().chat("tiny", COLD).content(), recitation(0, 20));
    // As another gateway would tell it.
    redis.ask(&["HSET", "fb:purges", "m:tiny", "1"]);
    for gateway in [&one, &other] {
        wait_until("the purge to be heard of", || {
            gateway.client().chat("tiny", COLD).content().contains(&word(100))
        });
    }
}

#[test]
fn what_is_strict_goes_only_to_a_redis_inside() {
    for (region, kept) in [("region = \"eu\"\n", true), ("region = \"us\"\n", false), ("", false)] {
        let (redis, upstream) = (Redis::start(), upstream());
        let tables = "[[region]]\nname = \"eu\"\n[[region]]\nname = \"us\"\n\
                      [[model]]\nname = \"tiny\"\nregion = \"eu\"\nresidency = \"strict\"\n";
        let table = format!("{}{region}", redis.table());
        let gateway = start(&upstream, &table, tables, "region = \"eu\"");
        wait_until("Redis", || gateway.metric("forebay_redis_up") == 1.0);
        let asked = Instant::now();
        let mut seed = 0;
        wait_until("answers to be stored", || {
            seed += 1;
            gateway.client().chat("tiny", &format!(",\"seed\":{seed}"));
            let looked = gateway.metric("forebay_cache_stores_total{tier=\"redis\"}") > 0.0;
            looked || (!kept && asked.elapsed() > Duration::from_secs(2))
        });
        assert_eq!(answers(&redis).is_empty(), !kept, "{region}");
        assert_eq!(cache(&gateway.client().chat("tiny", ",\"seed\":1")), "hit", "memory is inside");
    }
}

#[test]
fn whatever_ails_redis_no_request_does() {
    let (mut redis, upstream) = (Redis::start(), upstream());
    let gateway = with(&upstream, &redis);
    let mut seed = 0;
    let mut ask = |what: &str| {
        for _ in 0..20 {
            seed += 1;
            let begun = Instant::now();
            let reply = gateway.client().chat("tiny", &format!(",\"seed\":{seed}"));
            assert_eq!((reply.status, reply.content()), (200, recitation(0, 20)), "{what}");
            assert!(begun.elapsed() < Duration::from_secs(5), "{what}");
        }
    };
    ask("well");
    redis.freeze();
    ask("frozen");
    redis.thaw();
    wait_until("Redis to be back", || gateway.metric("forebay_redis_up") == 1.0);
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    ask("out of memory");
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    redis.ask(&["REPLICAOF", "127.0.0.1", "1"]);
    ask("read only");
    redis.ask(&["REPLICAOF", "NO", "ONE"]);
    redis.kill();
    ask("dead");
    redis.restart();
    wait_until("Redis to be back", || gateway.metric("forebay_redis_up") == 1.0);
    ask("well again");
    wait_until("answers in it again", || !answers(&redis).is_empty());
    let slow =
        start(&upstream, &table_at(delaying(redis.addr(), Duration::from_millis(600))), "", "");
    for seed in 0..20 {
        let reply = slow.client().chat("tiny", &format!(",\"seed\":{seed}"));
        assert_eq!((reply.status, reply.content()), (200, recitation(0, 20)), "slow");
    }
}

#[test]
fn a_redis_that_is_no_use_costs_no_answer() {
    let useless: [(&str, &[u8]); 4] = [
        ("LOADING", b"-LOADING Redis is loading the dataset in memory\r\n"),
        ("MOVED", b"-MOVED 1 127.0.0.1:1\r\n"),
        ("garbage", b"\x16\x03\x01garbage\r\n"),
        ("cut", b"$100\r\nabc"),
    ];
    for (what, answer) in useless {
        let (impostor, upstream) = (Impostor::answering(answer), upstream());
        let gateway = start(&upstream, &table_at(impostor.addr()), "", "");
        for seed in 0..10 {
            let extra = format!(",\"seed\":{seed}");
            let (first, second) =
                (gateway.client().chat("tiny", &extra), gateway.client().chat("tiny", &extra));
            assert_eq!((first.status, first.content()), (200, recitation(0, 20)), "{what}");
            assert_eq!((cache(&second), &second.body), ("hit", &first.body), "{what}: memory");
        }
    }
}
