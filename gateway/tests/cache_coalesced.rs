//! Equal requests at once: one answer is made, all get the whole of it, and who leaves or is slow harms nobody.

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use loadtest::text::{recitation, word};
use loadtest::{At, How, Profile, Script, Upstream};
use support::client::{Exchange, chat_body, request};
use support::streams::{chat_lines, one, two};
use support::{Gateway, PATIENCE, Reply, backend, edits, wait_until};

const CACHE: &str = "[cache]\ndefault = true\n";
const PLAIN: &str = ",\"temperature\":0";
const STREAM: &str = ",\"stream\":true,\"temperature\":0";
const MANY: usize = 100;

fn cached() -> (Upstream, Gateway) {
    one("", CACHE)
}

/// So many equal requests, all of them sent before the first is read.
fn crowd(gateway: &Gateway, many: usize, extra: &str) -> Vec<Exchange> {
    (0..many).map(|_| gateway.client().open_chat("tiny", extra)).collect()
}

fn coalesced(gateway: &Gateway) -> usize {
    gateway.metric("forebay_cache_coalesced_total") as usize
}

fn assert_all_whole(replies: &[Reply], content: &str) {
    for reply in replies {
        assert_eq!((reply.status, reply.content().as_str()), (200, content), "{}", reply.text());
        assert!(reply.looks_whole());
        assert_eq!(reply.body, replies[0].body);
    }
}

#[test]
fn a_hundred_at_once_are_answered_by_one() {
    for extra in [PLAIN, STREAM] {
        let (upstream, gateway) = cached();
        upstream.script(Script { first_ms: 300, gap_ms: 5, ..Script::default() });
        let mut crowd = crowd(&gateway, MANY, extra);
        let replies: Vec<_> = crowd.iter_mut().map(Exchange::reply).collect();
        assert_all_whole(&replies, &recitation(0, 20));
        assert_eq!(upstream.inferences().len(), 1, "{extra}");
        let said = |what: &str| {
            replies.iter().filter(|reply| reply.header("x-forebay-cache") == Some(what)).count()
        };
        assert_eq!(said("miss"), 1);
        assert_eq!(said("coalesced") + said("hit"), MANY - 1);
        assert_eq!(coalesced(&gateway), said("coalesced"));
        wait_until("the log lines", || chat_lines(&gateway).len() == MANY);
        assert!(chat_lines(&gateway).iter().all(|line| line["outcome"] == "ok"));
    }
}

#[test]
fn who_comes_late_gets_what_was_said_and_then_the_rest() {
    let (upstream, gateway) = cached();
    upstream.script(Script::broken(At::Events(8), How::Hang));
    let mut first = gateway.client().open_chat("tiny", STREAM);
    first.read_until(&word(5));
    let mut second = gateway.client().open_chat("tiny", STREAM);
    second.read_until(&word(5));
    assert_eq!(upstream.inferences().len(), 1);
    assert_eq!(coalesced(&gateway), 1);
    // The server dies: both are told, and nothing of it is stored.
    upstream.kill_connections();
    for reply in [first.reply(), second.reply()] {
        assert_eq!(reply.error_event().unwrap()["code"], "upstream_stream_broken");
        assert_eq!(reply.content(), recitation(0, 7));
    }
    wait_until("the log lines", || chat_lines(&gateway).len() == 2);
    assert!(chat_lines(&gateway).iter().all(|line| line["outcome"] == "upstream_stream_broken"));
    assert_eq!(gateway.metric("forebay_cache_unstored_total{reason=\"incomplete\"}"), 1.0);
}

#[test]
fn a_backend_that_dies_before_its_first_event_costs_nobody_an_answer() {
    for extra in [PLAIN, STREAM] {
        let (first, second, gateway) = two("", CACHE);
        first.script(Script::broken(At::Request, How::Hang));
        let mut crowd = crowd(&gateway, MANY, extra);
        wait_until("all to wait", || coalesced(&gateway) == MANY - 1);
        assert!(first.wait_for(PATIENCE, |s| s.in_flight == 1));
        first.die();
        let replies: Vec<_> = crowd.iter_mut().map(Exchange::reply).collect();
        assert_all_whole(&replies, &recitation(0, 20));
        assert_eq!((first.inferences().len(), second.inferences().len()), (1, 1));
        assert!(replies.iter().all(|reply| reply.header("x-forebay-attempts") == Some("2")));
    }
}

#[test]
fn when_all_have_failed_all_are_told_the_same() {
    let (upstream, gateway) = cached();
    upstream.script(Script { head_ms: 300, ..Script::status(500, "{}") });
    let mut crowd = crowd(&gateway, 20, PLAIN);
    let replies: Vec<_> = crowd.iter_mut().map(Exchange::reply).collect();
    for reply in &replies {
        assert_eq!((reply.status, reply.error_code().as_str()), (500, "upstream_error"));
        assert_eq!(reply.body, replies[0].body);
    }
    assert_eq!(upstream.inferences().len() + coalesced(&gateway), 20);
    assert!(coalesced(&gateway) > 0);
}

#[test]
fn it_goes_on_without_the_one_who_asked_first() {
    for (at, extra) in [(At::Request, STREAM), (At::Events(5), STREAM), (At::Request, PLAIN)] {
        let (upstream, gateway) = cached();
        let script = Script { words: 200, gap_ms: 10, head_ms: 200, ..Script::default() };
        upstream.script(script);
        let mut first = gateway.client().open_chat("tiny", extra);
        assert!(upstream.wait_for(PATIENCE, |s| s.in_flight == 1));
        if at == At::Events(5) {
            first.read_until(&word(3));
        }
        let mut second = gateway.client().open_chat("tiny", extra);
        wait_until("the second to join", || coalesced(&gateway) == 1);
        first.leave();
        let reply = second.reply();
        assert_all_whole(&[reply], &recitation(0, 200));
        assert_eq!((upstream.inferences().len(), upstream.stats().cancelled), (1, 0));
        assert_eq!(gateway.client().chat("tiny", extra).header("x-forebay-cache"), Some("hit"));
    }
}

#[test]
fn the_last_one_who_leaves_stops_it() {
    for at in [At::Request, At::Events(5)] {
        let (upstream, gateway) = cached();
        upstream.script(Script::broken(at, How::Hang));
        let mut crowd = crowd(&gateway, 5, STREAM);
        assert!(upstream.wait_for(PATIENCE, |s| s.in_flight == 1));
        if at == At::Events(5) {
            crowd[0].read_until(&word(3));
        }
        wait_until("all to wait", || coalesced(&gateway) == 4);
        crowd.into_iter().for_each(Exchange::leave);
        assert!(
            upstream.wait_for(PATIENCE, |s| s.in_flight == 0 && s.cancelled == 1),
            "{:?}",
            upstream.stats()
        );
        wait_until("the slot to be free", || {
            gateway.metric("forebay_backend_in_flight{backend=\"first\"}") == 0.0
        });
        wait_until("the buffers to be free", || gateway.metric("forebay_buffered_bytes") == 0.0);
        // Whoever comes now begins anew.
        upstream.script(Script::default());
        let reply = gateway.client().chat("tiny", STREAM);
        assert_eq!(reply.header("x-forebay-cache"), Some("miss"));
        assert_all_whole(&[reply], &recitation(0, 20));
    }
}

#[test]
fn a_reader_that_stopped_reading_holds_nobody() {
    let (upstream, gateway) = cached();
    // More than all sockets and buffers on the way hold.
    const WORDS: usize = 80_000;
    upstream.script(Script { first_ms: 200, ..Script::words(WORDS, 0) });
    let mut slow = gateway.client().open_chat("tiny", STREAM);
    assert!(upstream.wait_for(PATIENCE, |s| s.in_flight == 1));
    let mut fast = gateway.client().open_chat("tiny", STREAM);
    let reply = fast.reply();
    assert_all_whole(&[reply], &recitation(0, WORDS));
    assert_eq!(upstream.inferences().len(), 1);
    let cut = slow.reply();
    assert!(!cut.looks_whole());
    wait_until("the log lines", || chat_lines(&gateway).len() == 2);
    let lines = chat_lines(&gateway);
    let ends: Vec<_> = lines.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert!(ends.contains(&"ok") && ends.contains(&"read_too_slowly"), "{ends:?}");
}

#[test]
fn a_reader_alone_is_waited_for() {
    let (upstream, gateway) = cached();
    upstream.script(Script::words(80_000, 0));
    let mut slow = gateway.client().open_chat("tiny", STREAM);
    slow.read_until(&word(0));
    let mut before = 0;
    wait_until("the upstream to be held back", || {
        let sent = upstream.stats().bytes_out;
        std::mem::replace(&mut before, sent) == sent && sent > 1 << 20
    });
    assert_all_whole(&[slow.reply()], &recitation(0, 80_000));
}

#[test]
fn an_answer_that_is_too_large_to_be_kept_arrives_whole() {
    let (upstream, gateway) = cached();
    const WORDS: usize = 600_000;
    upstream.script(Script::words(WORDS, 0));
    assert_all_whole(&[gateway.client().chat("tiny", PLAIN)], &recitation(0, WORDS));
    assert_eq!(gateway.metric("forebay_cache_unstored_total{reason=\"too_large\"}"), 1.0);
}

#[test]
fn a_key_that_is_revoked_takes_nobody_along() {
    let (upstream, table) = support::tiny_backend();
    let keys = "[auth]\nmode = \"keys\"\n[[key]]\nname = \"a\"\ntenant = \"t\"\nsecret = \"sk-a\"\n\
                [[key]]\nname = \"b\"\ntenant = \"t\"\nsecret = \"sk-b\"\n# disabled\n";
    let gateway = Gateway::start(&format!("{table}max_in_flight = 1\n{keys}{CACHE}"));
    gateway.wait_for_backends(1);
    upstream.clear();
    let ask = |key: &str, extra: &str| {
        let headers = format!("content-type: application/json\r\nauthorization: Bearer {key}\r\n");
        let body = chat_body("tiny", extra);
        let mut exchange = gateway.client().connect();
        exchange.send(request("POST", "/v1/chat/completions", &headers, body.as_bytes()));
        exchange
    };
    upstream.script_next(1, Script::broken(At::Events(2), How::Hang));
    let mut running = ask("sk-a", ",\"stream\":true");
    running.read_until(&word(0));
    let mut first = ask("sk-b", PLAIN);
    let depth = || gateway.metric("forebay_queue_depth{model=\"tiny\"}");
    wait_until("the first to wait", || depth() == 1.0);
    let mut second = ask("sk-a", PLAIN);
    wait_until("the second to join", || coalesced(&gateway) == 1);
    edits::edit(&gateway, "# disabled", "disabled = true");
    assert_eq!(first.reply().status, 401);
    wait_until("the second to wait by itself", || depth() == 1.0);
    running.leave();
    assert_all_whole(&[second.reply()], &recitation(0, 20));
}

#[test]
fn an_answer_stays_inside_the_walls_that_its_readers_were_promised() {
    let near = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let far = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let tables = backend("near", "vllm", &near)
        + "region = \"eu\"\nmax_in_flight = 1\n"
        + &backend("far", "vllm", &far)
        + "region = \"us\"\n[[region]]\nname = \"eu\"\n[[region]]\nname = \"us\"\n\
           [[model]]\nname = \"tiny\"\nregion = \"eu\"\nresidency = \"strict\"\n";
    let gateway = Gateway::start_with(&format!("{tables}{CACHE}"), "region = \"eu\"\n");
    gateway.wait_for_backends(2);
    near.script_next(1, Script::broken(At::Events(2), How::Hang));
    let mut running = gateway.client().open_chat("tiny", ",\"stream\":true");
    running.read_until(&word(0));
    let mut waiting = gateway.client().open_chat("tiny", PLAIN);
    let depth = || gateway.metric("forebay_queue_depth{model=\"tiny\"}");
    wait_until("the request to wait", || depth() == 1.0);
    edits::edit(&gateway, "residency = \"strict\"", "residency = \"prefer\"");
    let reply = waiting.reply();
    assert_eq!((reply.status, reply.error_code().as_str()), (503, "region_unavailable"));
    // What is asked from now on may be anywhere.
    assert_eq!(gateway.client().chat("tiny", PLAIN).header("x-forebay-cache"), Some("miss"));
}

#[test]
fn keep_alives_hold_for_everyone() {
    let (upstream, gateway) = one("head_hold = \"20ms\"\nkeep_alive = \"5ms\"\n", CACHE);
    upstream.script(Script { first_ms: 400, ..Script::default() });
    let mut crowd = crowd(&gateway, 10, STREAM);
    for exchange in &mut crowd {
        let reply = exchange.reply();
        assert!(reply.text().starts_with(": keep-alive\n\n"), "{}", reply.text());
        assert_eq!(reply.content(), recitation(0, 20));
        let cache = reply.header("x-forebay-cache");
        assert!(cache == Some("miss") || cache == Some("coalesced"), "{cache:?}");
    }
    assert_eq!(upstream.inferences().len(), 1);
}
