//! A hot answer with a short lifetime: how often it is made while many ask for it.

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::time::Instant;

use loadtest::Script;
use loadtest::generator::{Load, Running};
use support::process::load;
use support::streams::one;

const RATE: f64 = 100.0;
const SECONDS: u64 = 15;
/// What is promised, per lifetime.
const MOST: f64 = 1.05;
/// The first one, and one that a spread of a tenth over so few lifetimes may add.
const SLACK: f64 = 2.0;

#[test]
fn it_is_made_about_once_per_lifetime() {
    let (upstream, gateway) = one("", "[cache]\ndefault = true\nttl = \"1s\"\n");
    upstream.script(Script { first_ms: 50, ..Script::default() });
    let begun = Instant::now();
    let load = load(&gateway, RATE, SECONDS, 20);
    let extra = "\"temperature\":0".to_owned();
    let running = Running::start(Load { streams: 0.0, extra, ..load }).unwrap();
    let counts = running.join().counts;
    let lifetimes = begun.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let made = upstream.inferences().len() as f64;
    println!("{made} made in {lifetimes:.1} lifetimes for {} requests", counts.offered);
    assert_eq!(counts.ok, counts.offered, "{counts:?}");
    assert!(made <= MOST * lifetimes + SLACK, "{made} in {lifetimes}");
    // They do end.
    assert!(made >= 0.5 * lifetimes, "{made} in {lifetimes}");
}
