//! Redis in trouble: whatever it does, no request fails and no limit is lost.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests; counts are worth to be seen")]

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use loadtest::generator::{Counts, Load, Running};
use loadtest::{Script, Upstream};
use support::process::{load, wait_offered};
use support::redis::{Impostor, Redis, delaying, table_at};
use support::{Gateway, TempDir, tiny_backend, wait_until};

const SECRET: &str = "sk-limits-test-0003";
/// More than a test can use: what is tested is that Redis is asked, and done without.
const AMPLE: &str =
    "requests_per_minute = 10000000\ntokens_per_minute = 1000000000\nconcurrent = 5000";

fn start(redis: &str) -> (Upstream, Gateway) {
    let (upstream, table) = tiny_backend();
    upstream.script(Script::words(5, 0));
    let gateway = Gateway::start(&format!(
        "{table}{redis}[auth]\nmode = \"keys\"\n\
         [[key]]\nname = \"team\"\nsecret = \"{SECRET}\"\n{AMPLE}\n"
    ));
    gateway.wait_for_backends(1);
    (upstream, gateway)
}

fn up(gateway: &Gateway) -> bool {
    gateway.metric("forebay_redis_up") > 0.5
}

fn wait_for_redis(gateway: &Gateway, is_up: bool) {
    wait_until(&format!("Redis up: {is_up}"), || up(gateway) == is_up);
}

fn errors(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric(&format!("forebay_redis_errors_total{{reason=\"{reason}\"}}"))
}

fn begin(gateway: &Gateway) -> Running {
    let load = load(gateway, 60.0, 60, 5);
    Running::start(Load { key: Some(SECRET.to_owned()), streams: 0.5, ..load }).unwrap()
}

/// Stops the load when so many more were sent, and gives what became of all; none has failed.
fn end(what: &str, load: Running, more: u64) -> Counts {
    let sent = load.report().counts.offered;
    wait_offered(&load, sent + more);
    load.stop();
    let counts = load.join().counts;
    println!("{what}: {} offered, {} answered", counts.offered, counts.ok);
    assert_eq!(counts.ok, counts.offered, "{what}: {counts:?}");
    counts
}

/// At most one line in ten seconds.
fn assert_calm(gateway: &Gateway, begun: Instant) {
    let lines = gateway.log().matches("redis: ").count() as u64;
    assert!(lines <= 1 + begun.elapsed().as_secs() / 10, "{lines} lines about Redis");
}

#[test]
fn a_redis_that_dies_and_comes_back_fails_nobody() {
    let begun = Instant::now();
    let mut redis = Redis::start();
    let (_upstream, gateway) = start(&redis.table());
    wait_for_redis(&gateway, true);
    let load = begin(&gateway);
    wait_offered(&load, 20);
    redis.kill();
    wait_for_redis(&gateway, false);
    let sent = load.report().counts.offered;
    wait_offered(&load, sent + 60);
    redis.restart();
    wait_for_redis(&gateway, true);
    end("kill -9", load, 20);
    assert!(errors(&gateway, "closed") + errors(&gateway, "refused") > 0.5);
    assert!(gateway.metric("forebay_limits_alone_total") > 20.0);
    assert_calm(&gateway, begun);
}

#[test]
fn a_frozen_redis_fails_nobody_and_is_used_again_when_it_thaws() {
    let begun = Instant::now();
    let redis = Redis::start();
    let (_upstream, gateway) = start(&redis.table());
    wait_for_redis(&gateway, true);
    let load = begin(&gateway);
    wait_offered(&load, 20);
    redis.freeze();
    wait_for_redis(&gateway, false);
    // From here on nobody waits for it: what is counted as a timeout is the keeper's own trials.
    let (sent, timeouts) = (load.report().counts.offered, errors(&gateway, "timeout"));
    wait_offered(&load, sent + 120);
    // Each request in flight at the moment may have waited once or twice.
    let late = errors(&gateway, "timeout") - timeouts;
    println!("SIGSTOP: {late} timeouts while 120 were offered");
    assert!(late < 60.0, "{late}");
    redis.thaw();
    wait_for_redis(&gateway, true);
    end("SIGSTOP", load, 20);
    assert_calm(&gateway, begun);
}

/// A Redis that answers every write with an error of its own, and is put right again.
fn refusing(what: &str, reason: &str, spoil: &[&str], mend: &[&str]) {
    let begun = Instant::now();
    let redis = Redis::start();
    let (_upstream, gateway) = start(&redis.table());
    wait_for_redis(&gateway, true);
    let load = begin(&gateway);
    wait_offered(&load, 20);
    redis.ask(spoil);
    wait_until(reason, || errors(&gateway, reason) > 0.5);
    let sent = load.report().counts.offered;
    wait_offered(&load, sent + 30);
    redis.ask(mend);
    wait_for_redis(&gateway, true);
    end(what, load, 20);
    assert_calm(&gateway, begun);
}

#[test]
fn a_full_redis_fails_nobody() {
    let (spoil, mend) =
        (["CONFIG", "SET", "maxmemory", "1000"], ["CONFIG", "SET", "maxmemory", "0"]);
    refusing("OOM", "oom", &spoil, &mend);
}

#[test]
fn a_replica_fails_nobody() {
    refusing("READONLY", "readonly", &["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"]);
}

/// One that is never of any use.
fn useless(what: &str, addr: SocketAddr, reason: &str) {
    let begun = Instant::now();
    let (_upstream, gateway) = start(&table_at(addr).replace("250ms", "25ms"));
    let load = begin(&gateway);
    wait_until(reason, || errors(&gateway, reason) > 0.5);
    end(what, load, 60);
    assert!(!up(&gateway));
    assert_calm(&gateway, begun);
}

#[test]
fn one_that_is_loading_fails_nobody() {
    let answer = b"-LOADING Redis is loading the dataset in memory\r\n";
    useless("LOADING", Impostor::answering(answer).addr(), "loading");
}

#[test]
fn one_that_belongs_to_a_cluster_elsewhere_fails_nobody() {
    let redis = Redis::start_with(&["--cluster-enabled", "yes"]);
    // Without slots it serves nothing.
    useless("CLUSTERDOWN", redis.addr(), "moved");
}

#[test]
fn one_that_wants_a_password_fails_nobody() {
    let redis = Redis::start_with(&["--requirepass", "other"]);
    useless("NOAUTH", redis.addr(), "denied");
}

#[test]
fn one_that_speaks_something_else_fails_nobody() {
    useless("garbage", Impostor::answering(b"\x16\x03\x01garbage\r\n").addr(), "protocol");
}

#[test]
fn one_that_cuts_its_answers_short_fails_nobody() {
    useless("cut", Impostor::answering(b"*3\r\n:1\r\n").addr(), "timeout");
}

#[test]
fn one_that_is_always_late_fails_nobody() {
    let redis = Redis::start();
    useless("late", delaying(redis.addr(), Duration::from_millis(80)), "timeout");
}

#[test]
fn values_that_nobody_understands_are_replaced() {
    let redis = Redis::start();
    let (_upstream, gateway) = start(&redis.table());
    wait_for_redis(&gateway, true);
    let (windows, running) = ("{fb:team}:w", "{fb:team}:c");
    let spoils: [&[&str]; 6] = [
        &["SET", windows, "a string"],
        &["SET", running, "a string"],
        &["HSET", windows, "rpm", "what", "tpm", "-1e999"],
        &["HSET", windows, "rpm", "nan", "tpm", "99999999999999999999999"],
        &["RPUSH", running, "a", "list"],
        &["SET", "{fb:gateways}", "a string"],
    ];
    for spoil in spoils {
        let (about, load) = (format!("{spoil:?}"), begin(&gateway));
        wait_offered(&load, 5);
        redis.ask(&["DEL", windows, running]);
        redis.ask(spoil);
        end(&about, load, 10);
        assert!(up(&gateway), "{about}");
    }
    assert!(gateway.metric("forebay_limits_alone_total") < 0.5, "{}", gateway.metrics());
    assert!(redis.ask(&["TYPE", windows]) == "hash" && redis.ask(&["TYPE", running]) != "list");
}

/// With TLS, by the system's roots, and with an account that may do what docs/limits.md says and nothing else.
#[test]
fn an_account_with_few_rights_behind_tls_is_enough() {
    let dir = TempDir::new();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let (redis, tls) = Redis::start_tls(&path("cert.pem"), &path("key.pem"));
    let rights = "+eval +evalsha +get +set +del +time +type +hget +hmget +hset +hgetall +zadd +zrem \
        +zcard +zremrangebyscore +pexpire +pttl";
    let mut account = vec!["ACL", "SETUSER", "forebay", "on", ">secret", "~fb:*", "~{fb:*"];
    account.extend(rights.split_whitespace());
    assert_eq!(redis.ask(&account), "OK");
    let (_upstream, backend) = tiny_backend();
    let config = path("forebay.toml");
    let text = format!(
        "{}{backend}[redis]\nurl = \"rediss://forebay:secret@localhost:{tls}\"\ntimeout = \"250ms\"\n\
         [auth]\nmode = \"keys\"\n[[key]]\nname = \"team\"\nsecret = \"{SECRET}\"\n{AMPLE}\n\
         [server]\nlisten = \"127.0.0.1:0\"\n[ops]\nlisten = \"127.0.0.1:0\"\n\
         [admin]\nmode = \"off\"\n[store]\npath = \"forebay.db\"\n",
        support::HEAD
    );
    std::fs::write(&config, text).unwrap();
    let mut command = support::command();
    command.args(["serve", "--config", &config]).env("SSL_CERT_FILE", path("cert.pem"));
    let gateway = Gateway::run(command, dir);
    gateway.wait_for_backends(1);
    wait_for_redis(&gateway, true);
    end("TLS", begin(&gateway), 20);
    assert!(gateway.metric("forebay_limits_alone_total") < 0.5, "{}", gateway.log());
    let errors = gateway.metrics();
    let errors = errors.lines().filter(|line| line.starts_with("forebay_redis_errors_total"));
    let errors: Vec<_> =
        errors.filter(|line| !line.contains("no_script") && !line.ends_with(" 0")).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn another_redis_takes_over_while_running() {
    let (first, second) = (Redis::start(), Redis::start_with(&["--requirepass", "secret"]));
    let (_upstream, gateway) = start(&first.table());
    wait_for_redis(&gateway, true);
    let load = begin(&gateway);
    wait_offered(&load, 20);
    let file = gateway.dir.path().join("forebay.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (old, new) = (first.addr().to_string(), format!(":secret@{}", second.addr()));
    std::fs::write(&file, text.replace(&old, &new)).unwrap();
    wait_until("the other Redis to be asked", || {
        let script = ["AUTH secret", "EXISTS {fb:team}:w"];
        second.pipeline(&script).ends_with('1')
    });
    drop(first);
    end("another Redis", load, 20);
    assert!(up(&gateway));
    assert!(!gateway.log().contains("secret@"));
}
