//! Who goes next among those who wait: priorities, the share of the lower ones, tenants in turn. F52.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use loadtest::generator::{Load, Report, Running};
use loadtest::text::word;
use loadtest::{At, How, Profile, Script, Upstream};
use support::client::{Exchange, chat_body, request};
use support::process::load;
use support::streams::LENIENT;
use support::{Gateway, backend, wait_until};

/// Of two tenants `a` and `b` with the same priority, and one above them.
const KEYS: &str = "[auth]\nmode = \"keys\"\n\
    [[key]]\nname = \"a\"\nsecret = \"sk-a\"\n\
    [[key]]\nname = \"a-too\"\nsecret = \"sk-a2\"\ntenant = \"a\"\n\
    [[key]]\nname = \"b\"\nsecret = \"sk-b\"\n\
    [[key]]\nname = \"high\"\nsecret = \"sk-high\"\npriority = 10\n";

fn start(top: &str, most: usize) -> (Upstream, Gateway) {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let table = backend("only", "vllm", &upstream);
    let gateway = Gateway::start(&format!("{top}{table}max_in_flight = {most}\n{KEYS}{LENIENT}"));
    gateway.wait_for_backends(1);
    upstream.clear();
    (upstream, gateway)
}

fn ask(gateway: &Gateway, key: &str, extra: &str) -> Exchange {
    let headers = format!(
        "connection: close\r\ncontent-type: application/json\r\nauthorization: Bearer {key}\r\n"
    );
    let body = chat_body("tiny", extra);
    let mut exchange = gateway.client().connect();
    exchange.send(request("POST", "/v1/chat/completions", &headers, body.as_bytes()));
    exchange
}

fn depth(gateway: &Gateway) -> f64 {
    gateway.metric("forebay_queue_depth{model=\"tiny\"}")
}

/// Takes the one place, lines up requests of these keys in this order, gives the place back, and says in which order the
/// upstream saw them: each by its key and its number.
fn order(queue: &[&str]) -> Vec<String> {
    let (upstream, gateway) = start("", 1);
    upstream.script_next(1, Script::broken(At::Events(2), How::Hang));
    let mut running = ask(&gateway, "sk-a", ",\"stream\":true");
    running.read_until(&word(0));
    let mut waiting = Vec::new();
    for (number, key) in queue.iter().enumerate() {
        let extra = format!(",\"user\":\"{key}{number}\"");
        waiting.push(ask(&gateway, &format!("sk-{key}"), &extra));
        wait_until("the request to wait", || depth(&gateway) as usize == number + 1);
    }
    running.leave();
    for request in &mut waiting {
        assert_eq!(request.reply().status, 200);
    }
    let seen = upstream.inferences();
    let user = |seen: &loadtest::Recorded| seen.json()["user"].as_str().map(str::to_owned);
    seen.iter().filter_map(user).collect()
}

#[test]
fn tenants_take_turns_whatever_keys_they_use() {
    let queue = ["a", "a", "a2", "a2", "b", "b"];
    assert_eq!(order(&queue), ["a0", "b4", "a1", "b5", "a22", "a23"]);
}

#[test]
fn higher_priority_goes_first_and_one_in_eight_does_not() {
    let queue = [["a"; 3].as_slice(), ["high"; 14].as_slice()].concat();
    let served = order(&queue);
    let lower: Vec<_> = (0..served.len()).filter(|at| served[*at].starts_with('a')).collect();
    assert_eq!(lower, [7, 15, 16], "{served:?}");
}

#[test]
fn a_full_queue_makes_room_for_higher_priority() {
    let (upstream, gateway) = start("queue_size = 2\n", 1);
    upstream.script_next(1, Script::broken(At::Events(2), How::Hang));
    let mut running = ask(&gateway, "sk-a", ",\"stream\":true");
    running.read_until(&word(0));
    let mut older = ask(&gateway, "sk-a", "");
    wait_until("one to wait", || depth(&gateway) > 0.5);
    let mut newer = ask(&gateway, "sk-a", "");
    wait_until("two to wait", || depth(&gateway) > 1.5);
    let mut high = ask(&gateway, "sk-high", "");
    let displaced = newer.reply();
    assert_eq!((displaced.status, &*displaced.error_code()), (429, "queue_full"));
    assert!(displaced.header("retry-after").is_some());
    running.leave();
    assert_eq!((high.reply().status, older.reply().status), (200, 200));
    assert_eq!(gateway.metric("forebay_queue_refused_total{reason=\"displaced\"}") as u32, 1);
}

fn offered(gateway: &Gateway, key: &str, rate: f64, seconds: u64) -> Load {
    Load { key: Some(key.to_owned()), ..load(gateway, rate, seconds, 3) }
}

/// F52: with the backend saturated by low priority, high priority hardly notices. Counts are asserted, times printed.
#[test]
fn f52_high_priority_is_served_while_low_priority_saturates() {
    const PLACES: usize = 16;
    let (upstream, gateway) = start("queue_size = 16\n", PLACES);
    upstream.script(Script { first_ms: 200, ..Script::words(3, 0) });
    let idle = Running::start(offered(&gateway, "sk-high", 8.0, 2)).unwrap().join();
    // Half as much again as 16 places of 0.2 s can serve.
    let low = Running::start(offered(&gateway, "sk-a", 120.0, 5)).unwrap();
    wait_until("the queue to fill", || depth(&gateway) > 8.0);
    let high = Running::start(offered(&gateway, "sk-high", 8.0, 3)).unwrap();
    // More at once than there are places to run and to wait.
    let mut asked: Vec<_> = (0..40).map(|_| ask(&gateway, "sk-b", "")).collect();
    let replies: Vec<_> = asked.iter_mut().map(|asked| asked.reply()).collect();
    let refused = replies.into_iter().find(|reply| reply.status == 429);
    let seconds: u64 = refused.unwrap().header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    let (high, low) = (high.join(), low.join());
    let p99 = |report: &Report| report.total.summary().p99_ms;
    eprintln!(
        "F52: high p99 {:.0} ms, idle {:.0} ms ({:.2}x); low {} of {} served, the others 429",
        p99(&high),
        p99(&idle),
        p99(&high) / p99(&idle),
        low.counts.ok,
        low.counts.offered,
    );
    assert_eq!(high.counts.ok, high.counts.offered, "{high}");
    assert!(low.statuses.keys().all(|status| matches!(status, 200 | 429)), "{low}");
    assert!(low.statuses.contains_key(&429), "{low}");
    // No more than an eighth could be taken from them, and high priority wanted far less.
    assert!(low.counts.ok * 8 >= high.counts.ok, "{low}");
}
