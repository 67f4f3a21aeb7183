//! What probes find out, and what they must not believe: sleep, shutdown, a dead runner behind a living API, cold models.

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use loadtest::{At, How, Profile, Script, Upstream};
use support::process::{Fake, attempts, from, is_up, settle, wait_up};
use support::{Gateway, backend, wait_until};

const QUICK: &str = "[health]\ninterval = \"100ms\"\ntimeout = \"200ms\"\n\
                     open_probe_min = \"50ms\"\nopen_probe_max = \"100ms\"\n";

/// Two servers of one kind; the first is tried first.
fn two(profile: &'static str, tables: &str) -> ([Fake; 2], Gateway) {
    let script = Script::words(3, 0);
    let fakes = [Fake::start(profile, "tiny", &script), Fake::start(profile, "tiny", &script)];
    let backends = fakes[0].table("a") + &fakes[1].table("b");
    let gateway = Gateway::start(&format!(
        "{backends}[[head]]\nname = \"both\"\nregion = \"eu\"\nbackends = [\"a\", \"b\"]\n\
         order = \"listed\"\n[[model]]\nname = \"tiny\"\nregion = \"eu\"\npriority_head = \"both\"\n{tables}"
    ));
    settle(&gateway, &["a", "b"]);
    (fakes, gateway)
}

fn served_by(gateway: &Gateway) -> String {
    let reply = gateway.client().chat_stream("tiny", "");
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.looks_whole(), "{}", reply.text());
    from(&reply).to_owned()
}

/// A sleeping vLLM answers its health route and would answer nothing else.
#[test]
fn trap_92_a_sleeping_backend_is_left_until_it_wakes() {
    let (fakes, gateway) = two("vllm", QUICK);
    assert_eq!(served_by(&gateway), "a");
    fakes[0].vitals(r#"{"sleep_state":"weights_offloaded"}"#);
    wait_up(&gateway, "a", false);
    assert_eq!(served_by(&gateway), "b");
    fakes[0].vitals(r#"{"sleep_state":"awake"}"#);
    wait_until("work for it again", || served_by(&gateway) == "a");
    assert_eq!(attempts(&gateway, "a", "failure"), 0);
}

/// Without any traffic, a sick health route is enough; so is one that hangs.
#[test]
fn probes_alone_take_a_backend_out_and_back() {
    let (fakes, gateway) = two("vllm", QUICK);
    for health in ["503", "0"] {
        fakes[0].vitals(&format!("{{\"health\":{health}}}"));
        wait_up(&gateway, "a", false);
        assert_eq!(served_by(&gateway), "b");
        fakes[0].vitals(r#"{"health":200}"#);
        wait_until("work for it again", || served_by(&gateway) == "a");
    }
    assert_eq!(attempts(&gateway, "a", "failure"), 0);
}

/// A server whose every answer about itself is well and whose generation is dead: only asking for a token shows it.
#[test]
fn a_probe_that_asks_for_a_token_sees_dead_generation() {
    let fakes = [Fake::vllm(&Script::words(3, 0)), Fake::vllm(&Script::words(3, 0))];
    let token = |fake: &Fake, name| format!("{}probe = \"token\"\n", fake.table(name));
    let gateway =
        Gateway::start(&format!("{QUICK}{}{}", token(&fakes[0], "a"), token(&fakes[1], "b")));
    settle(&gateway, &["a", "b"]);
    fakes[0].script(&Script::status(500, "{}"));
    wait_up(&gateway, "a", false);
    wait_until("the reason", || gateway.log().contains("/v1/chat/completions: status 500"));
    for _ in 0..5 {
        assert_eq!(served_by(&gateway), "b");
    }
    assert_eq!(attempts(&gateway, "a", "failure"), 0, "no client's request found out");
    fakes[0].script(&Script::words(3, 0));
    wait_up(&gateway, "a", true);
}

/// A vLLM that was told to stop finishes its streams; its health route says 200, and whatever is new gets a 500.
#[test]
fn trap_92_a_backend_that_shuts_down_finishes_and_gets_nothing_new() {
    let (fakes, gateway) = two("vllm", QUICK);
    fakes[0].script(&Script { first_ms: 10, ..Script::words(40, 50) });
    let mut running = gateway.client().open_chat("tiny", ",\"stream\":true");
    running.read_until("\"content\":\"b");
    let message = "cannot schedule new futures after shutdown";
    let body = format!(
        r#"{{"error":{{"message":"{message}","type":"InternalServerError","param":null,"code":500}}}}"#
    );
    fakes[0].script(&Script::status(500, &*body));
    for _ in 0..20 {
        assert_eq!(served_by(&gateway), "b");
    }
    // Five opened its breaker; one trial, which a passed probe allowed, failed.
    let failures = attempts(&gateway, "a", "failure");
    assert!((5..=6).contains(&failures), "{failures} attempts at a server that shuts down");
    let reply = running.reply();
    assert_eq!((from(&reply), reply.content()), ("a", loadtest::text::recitation(0, 40)));
    assert!(reply.looks_whole(), "{}", reply.text());
}

/// While a server compiles for one request, its health route hangs; as long as others get their events from it, it is not
/// dead.
#[test]
fn trap_92_a_compiling_backend_is_waited_for() {
    let tables = "[health]\ninterval = \"100ms\"\ntimeout = \"1s\"\n\
                  open_probe_min = \"100ms\"\nopen_probe_max = \"100ms\"\n";
    let (fakes, gateway) = two("vllm", tables);
    fakes[0].next(&Script { first_ms: 10, ..Script::words(120, 50) });
    let mut other = gateway.client().open_chat("tiny", ",\"stream\":true");
    other.read_until("\"content\":\"b");
    fakes[0].next(&Script { first_ms: 4000, ..Script::words(3, 0) });
    let mut compiles = gateway.client().open_chat("tiny", ",\"stream\":true,\"logprobs\":true");
    fakes[0].vitals(r#"{"health":0}"#);
    let asked = fakes[0].asked("/health");
    // One more than would make it offline.
    wait_until("three probes to time out", || fakes[0].asked("/health") >= asked + 4);
    assert!(is_up(&gateway, "a"), "busy was taken for dead");
    for exchange in [&mut compiles, &mut other] {
        let reply = exchange.reply();
        assert_eq!((reply.status, from(&reply)), (200, "a"));
        assert!(reply.looks_whole(), "{}", reply.text());
    }
    assert_eq!(attempts(&gateway, "a", "failure"), 0);
    // With nobody there who gets events, the same silence is death.
    wait_up(&gateway, "a", false);
}

/// An Ollama with room for one model loads another only when nobody uses the first: a long wait, and no failure.
#[test]
fn trap_87_a_model_that_waits_behind_a_busy_one_is_waited_for() {
    let ollama = Upstream::start(Profile::ollama(&["slow", "tiny"])).unwrap();
    ollama.vitals(|v| v.max_loaded = 1);
    ollama.script_for("slow:latest", Some(Script::words(1000, 60_000)));
    ollama.script_for("tiny:latest", Some(Script::words(3, 0)));
    let gateway = Gateway::start(&format!(
        "{}[timeouts]\nfirst_event = \"100ms\"\nload = \"60s\"\n{QUICK}",
        backend("o", "ollama", &ollama)
    ));
    settle(&gateway, &["o"]);
    let mut busy = gateway.client().open_chat("slow", ",\"stream\":true");
    busy.read_until("\"content\":\"b");
    let looks = || ollama.requests().iter().filter(|r| r.target == "/api/ps").count();
    let before = looks();
    wait_until("what is loaded to be known", || looks() >= before + 2);
    let mut waits = gateway.client().open_chat("tiny", ",\"stream\":true");
    wait_until("it to wait", || ollama.stats().waiting == 1);
    // Far longer than a first event may take.
    let before = looks();
    wait_until("time to pass", || looks() >= before + 2);
    assert_eq!((ollama.stats().waiting, attempts(&gateway, "o", "failure")), (1, 0));
    assert!(is_up(&gateway, "o"));
    busy.leave();
    let reply = waits.reply();
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.looks_whole(), "{}", reply.text());
    assert_eq!(attempts(&gateway, "o", "failure"), 0);
}

/// Ollama's API answers while the runner behind it is frozen: passed probes do not bring it back.
#[test]
fn trap_92_a_frozen_runner_behind_a_healthy_api_is_left() {
    let (fakes, gateway) = two("ollama", &format!("[timeouts]\nfirst_event = \"100ms\"\n{QUICK}"));
    // Loads the model: once that is known, waiting for a first event is not waiting for a load.
    assert_eq!(served_by(&gateway), "a");
    let looks = fakes[0].asked("/api/ps");
    wait_until("two looks at what is loaded", || fakes[0].asked("/api/ps") >= looks + 2);
    fakes[0].script(&Script::broken(At::Request, How::Hang));
    wait_until("the runner to be left", || {
        assert_eq!(served_by(&gateway), "b");
        !is_up(&gateway, "a")
    });
    for _ in 0..50 {
        assert_eq!(served_by(&gateway), "b");
    }
    // Five opened it; one trial, which a passed probe allowed, failed.
    let failures = attempts(&gateway, "a", "failure");
    assert!((5..=6).contains(&failures), "{failures} attempts at a frozen runner");
}

/// An Ollama that has the model in memory is preferred to one that would have to load it.
#[test]
fn trap_87_a_warm_backend_goes_before_a_cold_one() {
    let script = Script { load_ms: 200, ..Script::words(3, 0) };
    let fakes = ["cold", "warm"].map(|_| Fake::start("ollama", "tiny", &script));
    // An Ollama refuses foreign names of hosts.
    let load = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                content-length: 30\r\n\r\n{\"model\":\"tiny\",\"messages\":[]}";
    assert_eq!(fakes[1].client().raw(load).status, 200);
    let gateway =
        Gateway::start(&format!("{}{}{QUICK}", fakes[0].table("cold"), fakes[1].table("warm")));
    settle(&gateway, &["cold", "warm"]);
    wait_until("what is loaded to be known", || served_by(&gateway) == "warm");
    let before = fakes[0].stats().inference_requests;
    for _ in 0..20 {
        assert_eq!(served_by(&gateway), "warm");
    }
    assert_eq!(fakes[0].stats().inference_requests, before);
}
