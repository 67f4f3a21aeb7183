//! Limits that three gateways hold together, with a real Redis.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests; counts are worth to be seen")]

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::time::{Duration, Instant};

use loadtest::generator::{Load, Running};
use loadtest::{Script, Upstream};
use support::client::{Exchange, chat_body, request};
use support::process::load;
use support::redis::{Redis, table_at};
use support::{Gateway, Reply, tiny_backend, wait_until};

const SECRET: &str = "sk-limits-test-0002";
/// How unevenly the load comes, requests per second each.
const RATES: [f64; 3] = [35.0, 12.0, 3.0];

fn config(redis: &str, limits: &str) -> (Upstream, String) {
    let (upstream, table) = tiny_backend();
    upstream.script(Script::words(5, 0));
    let config = format!(
        "{table}{redis}[auth]\nmode = \"keys\"\n\
         [[key]]\nname = \"team\"\nsecret = \"{SECRET}\"\n{limits}\n"
    );
    (upstream, config)
}

/// Three gateways on one Redis, and what is behind them.
fn three(redis: &str, limits: &str) -> (Upstream, [Gateway; 3]) {
    let (upstream, config) = config(redis, limits);
    let gateways = std::array::from_fn(|_| Gateway::start(&config));
    for gateway in &gateways {
        Gateway::wait_for_backends(gateway, 1);
    }
    upstream.clear();
    (upstream, gateways)
}

fn wait_for_redis(gateways: &[Gateway], up: bool) {
    for gateway in gateways {
        wait_until(&format!("Redis up: {up}"), || (gateway.metric("forebay_redis_up") > 0.5) == up);
    }
}

fn headers() -> String {
    format!("content-type: application/json\r\nauthorization: Bearer {SECRET}\r\n")
}

fn ask(gateway: &Gateway, extra: &str) -> Reply {
    let body = chat_body("tiny", extra);
    gateway.client().request("POST", "/v1/chat/completions", &headers(), body.as_bytes())
}

/// Offers plain requests to all three, unevenly.
fn offer(gateways: &[Gateway; 3], seconds: u64) -> Vec<Running> {
    let each = gateways.iter().zip(RATES).map(|(gateway, rate)| {
        let load = load(gateway, rate, seconds, 5);
        Running::start(Load { key: Some(SECRET.to_owned()), streams: 0.0, ..load }).unwrap()
    });
    each.collect()
}

/// Whole answers, after the last of them.
fn admitted(loads: Vec<Running>) -> u64 {
    let counts = loads.into_iter().map(|load| {
        let counts = load.join().counts;
        assert_eq!(counts.ok + counts.failed_before_commit, counts.offered, "{counts:?}");
        counts.ok
    });
    counts.sum()
}

/// No more than the promise over the time that it really took, and nearly all of what was promised for the load's own.
#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn assert_exact(what: &str, used: u64, burst: f64, per_second: f64, begun: Instant, seconds: u64) {
    let bound = burst + per_second * begun.elapsed().as_secs_f64();
    let least = 0.97 * (burst + per_second * seconds as f64);
    println!("{what}: {used} used, at most {bound:.1}, at least {least:.1}");
    assert!((used as f64) <= bound, "{what}: {used} of at most {bound}");
    assert!((used as f64) >= least, "{what}: {used} of at least {least}");
}

#[test]
fn three_gateways_admit_what_one_would() {
    let redis = Redis::start();
    let (_upstream, gateways) = three(&redis.table(), "requests_per_minute = 300\nburst = 10");
    wait_for_redis(&gateways, true);
    let (begun, seconds) = (Instant::now(), 12);
    let used = admitted(offer(&gateways, seconds));
    assert_exact("requests", used, 10.0, 5.0, begun, seconds);
    for gateway in &gateways {
        assert!(gateway.metric("forebay_limits_alone_total") < 0.5, "{}", gateway.log());
    }
}

#[test]
fn three_gateways_spend_the_tokens_of_one() {
    let redis = Redis::start();
    // Each request reserves its prompt and 5 words, and uses as many or fewer.
    let (_upstream, gateways) = three(&redis.table(), "tokens_per_minute = 3000");
    wait_for_redis(&gateways, true);
    let (begun, seconds) = (Instant::now(), 12);
    let answers = admitted(offer(&gateways, seconds));
    let lines: Vec<_> = gateways.iter().flat_map(Gateway::request_lines).collect();
    let used = |line: &serde_json::Value| {
        line["prompt_tokens"].as_u64().unwrap_or(0)
            + line["completion_tokens"].as_u64().unwrap_or(0)
    };
    let used: u64 = lines.iter().map(used).sum();
    println!("tokens of {answers} answers");
    assert_exact("tokens", used, 3000.0, 50.0, begun, seconds);
}

fn open(gateway: &Gateway) -> Exchange {
    let mut exchange = gateway.client().connect();
    let body = chat_body("tiny", ",\"stream\":true");
    exchange.send(request("POST", "/v1/chat/completions", &headers(), body.as_bytes()));
    exchange.read_until("\r\n\r\n");
    exchange
}

fn is_served(exchange: &Exchange) -> bool {
    exchange.so_far().starts_with("HTTP/1.1 200")
}

#[test]
fn requests_at_once_are_counted_across_gateways_and_end_with_a_dead_one() {
    let redis = Redis::start();
    let (upstream, gateways) = three(&redis.table(), "concurrent = 5");
    wait_for_redis(&gateways, true);
    upstream.script(Script { gap_ms: 50, ..Script::words(100_000, 0) });
    let mut opened: Vec<(usize, Exchange)> =
        (0..9).map(|i| (i % 3, open(&gateways[i % 3]))).collect();
    opened.retain(|(_, exchange)| is_served(exchange));
    assert_eq!(opened.len(), 5);
    // One that ends makes room for exactly one.
    opened.pop().unwrap().1.leave();
    wait_until("a free place", || {
        let exchange = open(&gateways[0]);
        let served = is_served(&exchange);
        if served {
            opened.push((0, exchange));
        }
        served
    });
    assert!(!is_served(&open(&gateways[1])));
    // What a dead gateway held is free again without anyone's doing.
    let held = opened.iter().filter(|(i, _)| *i == 2).count();
    assert!(held > 0);
    let [first, second, dead] = gateways;
    drop(dead);
    let mut again = Vec::new();
    wait_until("the leases of a dead gateway to end", || {
        let exchange = open(if again.len() % 2 == 0 { &first } else { &second });
        if is_served(&exchange) {
            again.push(exchange);
        }
        again.len() == held
    });
    assert!(!is_served(&open(&first)));
}

#[test]
fn without_redis_each_gateway_holds_its_share() {
    // Connections are taken, and nobody ever answers.
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let redis = format!("{}replicas = 3\n", table_at(held.local_addr().unwrap()));
    let (_upstream, gateways) = three(&redis, "requests_per_minute = 900\nburst = 9");
    wait_until("Redis to be found silent", || {
        let timeouts = "forebay_redis_errors_total{reason=\"timeout\"}";
        gateways.iter().all(|gateway| gateway.metric(timeouts) > 0.5)
    });
    let (begun, seconds) = (Instant::now(), 8);
    let loads: Vec<Running> = gateways
        .iter()
        .map(|gateway| {
            let load = load(gateway, 15.0, seconds, 5);
            Running::start(Load { key: Some(SECRET.to_owned()), streams: 0.0, ..load }).unwrap()
        })
        .collect();
    assert_exact("shares", admitted(loads), 9.0, 15.0, begun, seconds);
    drop(held);
}

#[test]
fn the_bound_holds_while_redis_dies_and_comes_back_empty() {
    let mut redis = Redis::start();
    let table = format!("{}replicas = 3\n", redis.table());
    let (_upstream, gateways) = three(&table, "requests_per_minute = 600\nburst = 12");
    wait_for_redis(&gateways, true);
    let begun = Instant::now();
    let seconds = 12;
    let loads = offer(&gateways, seconds);
    let at = |second: u64| {
        wait_until("the next phase", || begun.elapsed() >= Duration::from_secs(second));
    };
    at(3);
    redis.kill();
    wait_for_redis(&gateways, false);
    at(7);
    redis.restart();
    wait_for_redis(&gateways, true);
    let used = admitted(loads);
    let bound = 12.0 + 10.0 * begun.elapsed().as_secs_f64();
    println!("through an outage: {used} used, at most {bound:.1}");
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let used = used as f64;
    assert!(used <= 1.1 * bound, "{used} of {bound}");
    for gateway in &gateways {
        assert!(gateway.metric("forebay_limits_alone_total") > 0.5);
        assert!(matches!(ask(gateway, "").status, 200 | 429));
    }
}
