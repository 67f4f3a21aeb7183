//! Where requests go when their first choice is gone, asked away, full or on its way out.

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use loadtest::generator::Running;
use loadtest::{Profile, Script, Upstream};
use support::client::chat_body;
use support::process::{Fake, attempts, from, load, settle, wait_up};
use support::{Gateway, Reply, backend, wait_until};

const QUICK: &str = "[breaker]\nopen_min = \"500ms\"\n\
                     [health]\ninterval = \"300ms\"\nopen_probe_min = \"100ms\"\nopen_probe_max = \"300ms\"\n";
const REGIONS: &str =
    "[[region]]\nname = \"eu\"\nneighbours = [\"us\"]\n[[region]]\nname = \"us\"\n";

/// Two regions with a head each; `rule` goes into the model.
fn regions(rule: &str) -> (Fake, Fake, Gateway) {
    let (eu, us) = (Fake::vllm(&Script::words(3, 0)), Fake::vllm(&Script::words(3, 0)));
    let gateway = Gateway::start(&format!(
        "{REGIONS}{}region = \"eu\"\n{}region = \"us\"\n\
         [[head]]\nname = \"head-eu\"\nregion = \"eu\"\nbackends = [\"e\"]\n\
         [[head]]\nname = \"head-us\"\nregion = \"us\"\nbackends = [\"u\"]\n\
         [[model]]\nname = \"tiny\"\nregion = \"eu\"\npriority_head = \"head-eu\"\n{rule}\n{QUICK}",
        eu.table("e"),
        us.table("u"),
    ));
    settle(&gateway, &["e", "u"]);
    (eu, us, gateway)
}

fn asking(gateway: &Gateway, region: &str) -> Reply {
    let headers = format!("content-type: application/json\r\nx-forebay-region: {region}\r\n");
    let body = chat_body("tiny", "");
    gateway.client().request("POST", "/v1/chat/completions", &headers, body.as_bytes())
}

fn origin(reply: &Reply) -> [&str; 4] {
    ["backend", "head", "region", "model"]
        .map(|name| reply.header(&format!("x-forebay-{name}")).unwrap_or_default())
}

#[test]
fn the_asked_region_is_served_first_and_the_other_when_it_dies() {
    let (_eu, mut us, gateway) = regions("regions = [\"us\"]\nheads = [\"head-us\"]");
    assert_eq!(origin(&gateway.client().chat("tiny", "")), ["e", "head-eu", "eu", "tiny"]);
    assert_eq!(origin(&asking(&gateway, "us")), ["u", "head-us", "us", "tiny"]);
    let unknown = asking(&gateway, "mars");
    assert_eq!(unknown.status, 400);
    assert!(unknown.text().contains("eu") && unknown.text().contains("us"), "{}", unknown.text());
    us.kill();
    let reply = asking(&gateway, "us");
    assert_eq!((reply.status, from(&reply)), (200, "e"));
}

/// Strict residency fails closed: no attempt outside, whatever is dead and whatever the chain says.
#[test]
fn a_strict_model_never_leaves() {
    let (mut eu, us, gateway) = regions(
        "residency = \"strict\"\nfallbacks = [\"other\"]\n[[model]]\nname = \"other\"\nregion = \"us\"\n\
                 upstream_model = \"tiny\"\nheads = [\"head-us\"]\n",
    );
    assert_eq!(from(&gateway.client().chat("tiny", "")), "e");
    // A wish that residency forbids goes to where the model may be.
    assert_eq!(from(&asking(&gateway, "us")), "e");
    eu.kill();
    for _ in 0..10 {
        let reply = gateway.client().chat("tiny", "");
        assert!([502, 503].contains(&reply.status), "{}", reply.text());
    }
    wait_up(&gateway, "e", false);
    let reply = gateway.client().chat_stream("tiny", "");
    assert!([502, 503].contains(&reply.status), "{}", reply.text());
    assert_eq!(us.stats().inference_requests, 0, "a strict model left its region");
    // The other one is there for those who ask for it.
    assert_eq!(from(&gateway.client().chat("other", "")), "u");
    eu.restart();
    wait_until("its return", || gateway.client().chat("tiny", "").status == 200);
}

#[test]
fn the_fallback_chain_is_walked_and_left_again() {
    let mut first = Fake::start("vllm", "m1", &Script::words(3, 0));
    let mut second = Fake::start("ollama", "m2", &Script::words(3, 0));
    let third = Fake::start("ollama", "m3", &Script::words(3, 0));
    let gateway = Gateway::start(&format!(
        "{}{}{}[[model]]\nname = \"m1\"\nfallbacks = [\"m2\", \"m3\"]\n{QUICK}",
        first.table("v"),
        second.table("o2"),
        third.table("o3"),
    ));
    settle(&gateway, &["v", "o2", "o3"]);
    let chat = || {
        let reply = gateway.client().chat_stream("m1", "");
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(reply.looks_whole());
        let [backend, _, _, model] = origin(&reply).map(str::to_owned);
        (backend, model.trim_end_matches(":latest").to_owned())
    };
    let is = |backend: &str, model: &str| (backend.to_owned(), model.to_owned());
    assert_eq!(chat(), is("v", "m1"));
    first.kill();
    assert_eq!(chat(), is("o2", "m2"));
    second.kill();
    assert_eq!(chat(), is("o3", "m3"));
    second.restart();
    wait_until("the second to be used again", || chat() == is("o2", "m2"));
    first.restart();
    wait_until("the first to be used again", || chat() == is("v", "m1"));
}

/// A running stream finishes; new work goes elsewhere; nothing fails.
#[test]
fn a_draining_backend_finishes_and_gets_nothing_new() {
    let script = Script { first_ms: 10, ..Script::words(20, 50) };
    let (one, two) = (Fake::vllm(&script), Fake::vllm(&Script::words(3, 0)));
    let listed = "[[head]]\nname = \"both\"\nregion = \"eu\"\nbackends = [\"one\", \"two\"]\norder = \"listed\"\n\
                  [[model]]\nname = \"tiny\"\nregion = \"eu\"\npriority_head = \"both\"\n";
    let gateway = Gateway::start(&format!("{}{}{listed}", one.table("one"), two.table("two")));
    settle(&gateway, &["one", "two"]);
    let mut long = gateway.client().open_chat("tiny", ",\"stream\":true");
    long.read_until("\"content\":\"b");
    let file = gateway.dir.path().join("forebay.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let draining = text.replace("name = \"one\"\n", "name = \"one\"\ndraining = true\n");
    std::fs::write(&file, draining).unwrap();
    wait_up(&gateway, "one", false);
    for _ in 0..5 {
        assert_eq!(from(&gateway.client().chat_stream("tiny", "")), "two");
    }
    let reply = long.reply();
    assert_eq!(from(&reply), "one");
    assert!(reply.looks_whole(), "{}", reply.text());
    assert_eq!(reply.content(), loadtest::text::recitation(0, 20));
    assert_eq!(one.stats().inference_requests, 1);
    std::fs::write(&file, text).unwrap();
    wait_until("work for it again", || from(&gateway.client().chat_stream("tiny", "")) == "one");
}

/// The cap holds across both cores and for whole streams; what is above it is refused, not queued upstream.
#[test]
fn max_in_flight_is_never_exceeded() {
    const CAP: usize = 3;
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    // One too many would get a 503, and so be a failed attempt.
    let script = Script { first_ms: 20, slots: CAP, queue: Some(0), ..Script::words(5, 10) };
    upstream.script(script);
    let table = backend("only", "vllm", &upstream);
    let gateway = Gateway::start(&format!("queue_size = 0\n{table}max_in_flight = {CAP}\n"));
    settle(&gateway, &["only"]);
    let running = Running::start(load(&gateway, 100.0, 3, 5)).unwrap();
    wait_until("the cap to be reached", || upstream.stats().in_flight == CAP as u64);
    let report = running.join();
    assert_eq!(attempts(&gateway, "only", "failure"), 0, "more than {CAP} at once: {report}");
    let refused = report.statuses.get(&429).copied().unwrap_or_default();
    assert!(report.counts.ok >= 60 && refused >= 60, "{report}");
    assert_eq!(report.counts.ok + refused, report.counts.offered, "{report}");
    // Nothing has leaked: it is all there again.
    wait_until("free slots", || gateway.client().chat_stream("tiny", "").status == 200);
    let refused = {
        let held: Vec<_> = (0..CAP)
            .map(|_| {
                upstream.script_next(1, Script { first_ms: 5, ..Script::words(50, 50) });
                let mut exchange = gateway.client().open_chat("tiny", ",\"stream\":true");
                exchange.read_until("data:");
                exchange
            })
            .collect();
        let refused = gateway.client().chat("tiny", "");
        held.into_iter().for_each(support::client::Exchange::leave);
        refused
    };
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    wait_until("slots of clients that left", || gateway.client().chat("tiny", "").status == 200);
}
