//! Requests that harm those who take them, and requests that nobody can serve.

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use loadtest::Script;
use loadtest::generator::Running;
use support::client::chat_body;
use support::process::{Fake, attempts, from, load, settle, wait_offered};
use support::{Gateway, Reply, wait_until};

const NAMES: [&str; 3] = ["a", "b", "c"];

fn poisonable() -> Script {
    Script { poison: Some("drop dead".to_owned()), ..Script::words(3, 0) }
}

fn poison(gateway: &Gateway) -> Reply {
    gateway.client().chat_stream("tiny", ",\"user\":\"drop dead\"")
}

fn three(script: &Script) -> ([Fake; 3], Gateway) {
    let fakes = NAMES.map(|_| Fake::vllm(script));
    let backends: String = NAMES.iter().zip(&fakes).map(|(name, fake)| fake.table(name)).collect();
    let gateway = Gateway::start(&format!("{backends}[health]\ninterval = \"60s\"\n"));
    settle(&gateway, &NAMES);
    (fakes, gateway)
}

fn living(fakes: &mut [Fake; 3]) -> Vec<usize> {
    (0..3).filter(|&i| fakes[i].is_alive()).collect()
}

/// F18: a request that kills whoever takes it.
#[test]
fn poison_kills_two_at_most_and_is_refused_then() {
    let (mut fakes, gateway) = three(&poisonable());
    kills_two(&mut fakes, &gateway);
}

/// The same over connections that were used before: what is sent again on a fresh one must not hide the death.
#[test]
fn poison_on_warm_connections_kills_two_at_most() {
    let (mut fakes, gateway) = three(&poisonable());
    for _ in 0..3 {
        let asked = (0..12).map(|_| gateway.client().open_chat("tiny", ",\"stream\":true"));
        for mut exchange in asked.collect::<Vec<_>>() {
            assert_eq!(exchange.reply().status, 200);
        }
    }
    kills_two(&mut fakes, &gateway);
}

fn kills_two(fakes: &mut [Fake; 3], gateway: &Gateway) {
    let before = fakes.each_ref().map(|fake| fake.stats().inference_requests);
    let reply = poison(gateway);
    assert_eq!(reply.status, 502, "{}", reply.text());
    assert_eq!(reply.header("x-should-retry"), Some("false"));
    wait_until("two to have ended", || living(fakes).len() <= 1);
    assert_eq!(living(fakes).len(), 1, "it killed {} of three", 3 - living(fakes).len());
    let survivor = living(fakes)[0];
    for _ in 0..3 {
        let reply = poison(gateway);
        assert_eq!(reply.status, 502, "{}", reply.text());
        assert_eq!(reply.header("x-should-retry"), Some("false"));
    }
    assert_eq!(living(fakes), [survivor]);
    assert_eq!(fakes[survivor].stats().inference_requests, before[survivor]);
    // Everybody else is served.
    let reply = gateway.client().chat_stream("tiny", "");
    assert_eq!((reply.status, from(&reply)), (200, NAMES[survivor]));
}

/// Many clients that send the same words, and a server that dies under them: that is no poison.
#[test]
fn a_death_under_a_popular_request_does_not_ban_it() {
    let slow = Script { first_ms: 100, ..Script::words(3, 0) };
    // A server that sends nothing before its first token, as Ollama does.
    let mut fakes = [(); 3].map(|()| Fake::start("ollama", "tiny", &slow));
    let backends: String = NAMES.iter().zip(&fakes).map(|(name, fake)| fake.table(name)).collect();
    let gateway = Gateway::start(&backends);
    settle(&gateway, &NAMES);
    let running = Running::start(load(&gateway, 60.0, 3, 3)).unwrap();
    wait_offered(&running, 60);
    fakes[0].kill();
    let report = running.join();
    assert!(attempts(&gateway, "a", "failure") >= 2, "nothing died under way: {report}");
    assert_eq!(report.counts.ok, report.counts.offered, "{report}");
}

/// F19: a prompt that is too long is refused once, in the server's own words.
#[test]
fn a_context_refusal_is_passed_on_after_one_attempt() {
    let (fakes, gateway) = three(&Script::words(3, 0));
    for fake in &fakes {
        fake.vitals(r#"{"max_model_len":8}"#);
    }
    let body = chat_body("tiny", &format!(",\"max_tokens\":2,\"user\":{:?}", "x"))
        .replace("\"hi\"", &long());
    for stream in ["", ",\"stream\":true"] {
        let body = body.replace(",\"max_tokens\":2", &format!(",\"max_tokens\":2{stream}"));
        let direct = fakes[0].client().post("/v1/chat/completions", &body);
        assert_eq!(direct.status, 400, "{}", direct.text());
        let before: u64 = NAMES.iter().map(|name| attempts(&gateway, name, "")).sum();
        let reply = gateway.client().post("/v1/chat/completions", &body);
        assert_eq!(reply.status, 400);
        assert_eq!(reply.text(), direct.text());
        assert_eq!(reply.header("x-should-retry").unwrap_or("false"), "false");
        let after: u64 = NAMES.iter().map(|name| attempts(&gateway, name, "")).sum();
        assert_eq!(after - before, 1);
    }
    let failures: u64 = NAMES.iter().map(|name| attempts(&gateway, name, "failure")).sum();
    assert_eq!(failures, 0, "the client's fault was charged to a backend");
}

fn long() -> String {
    format!("{:?}", "word ".repeat(60).trim())
}

/// A larger model takes what was too long for the first.
#[test]
fn a_context_refusal_goes_to_the_larger_model() {
    let small = Fake::start("vllm", "small", &Script::words(3, 0));
    let large = Fake::start("vllm", "large", &Script::words(3, 0));
    small.vitals(r#"{"max_model_len":8}"#);
    let gateway = Gateway::start(&format!(
        "{}{}[[model]]\nname = \"small\"\ncontext_length = 8\ncontext_fallback = \"large\"\n\
         [[model]]\nname = \"large\"\ncontext_length = 100000\n",
        small.table("s"),
        large.table("l"),
    ));
    settle(&gateway, &["s", "l"]);
    let body = chat_body("small", ",\"max_tokens\":3").replace("\"hi\"", &long());
    let reply = gateway.client().post("/v1/chat/completions", &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(from(&reply), "l");
    assert_eq!(reply.header("x-forebay-model"), Some("large"));
    assert_eq!(reply.header("x-forebay-attempts"), Some("2"));
    // Another fault of the client's is no reason to try a larger model.
    let fault =
        r#"{"error":{"message":"bad top_p","type":"BadRequestError","param":"top_p","code":400}}"#;
    small.next(&Script::status(400, fault));
    let reply = gateway.client().chat("small", "");
    assert_eq!((large.stats().inference_requests, reply.status), (1, 400), "{}", reply.text());
}
