//! Events as pages, and live.

#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::io::{BufRead, BufReader};
use std::net::TcpStream;

use serde_json::{Value, json};

use support::{TOKEN, World, wait_for, world};

const STREAM: &str = "accept: text/event-stream\r\n";

/// A live listener.
struct Listener(BufReader<TcpStream>);

/// An event as it came.
#[derive(Debug)]
struct Heard {
    id: u64,
    kind: String,
    data: Value,
}

impl Listener {
    fn new(world: &World, path: &str, token: &str, more: &str) -> Self {
        let more = format!("{STREAM}{more}");
        Self(BufReader::new(world.open("GET", path, token, &more, "")))
    }

    /// The status, once the head is here.
    fn status(&mut self) -> u16 {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        while line != "\r\n" {
            line.clear();
            self.0.read_line(&mut line).unwrap();
        }
        status
    }

    /// Reads until a line that begins so, or the end.
    fn line(&mut self, begin: &str) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(rest) = line.strip_prefix(begin) {
                return Some(rest.trim().to_owned());
            }
        }
    }

    fn next(&mut self) -> Option<Heard> {
        let id = self.line("id: ")?.parse().unwrap();
        let kind = self.line("event: ")?;
        let data = serde_json::from_str(&self.line("data: ")?).unwrap();
        Some(Heard { id, kind, data })
    }
}

#[test]
fn what_happens_in_a_plane_is_heard_and_remembered() {
    let world = world("");
    let mut live = Listener::new(&world, "/admin/events?kind=health", TOKEN, "");
    assert_eq!(live.status(), 200);
    live.line(": live").unwrap();
    world.plane.health_event("one");
    let first = live.next().unwrap();
    assert_eq!((first.kind.as_str(), &first.data["subject"]), ("health", &json!("one")));
    world.plane.health_event("two");
    let second = live.next().unwrap();
    assert!(second.id > first.id);
    drop(live);
    let resume = format!("last-event-id: {}\r\n", first.id);
    let mut live = Listener::new(&world, "/admin/events?kind=health", TOKEN, &resume);
    assert_eq!(live.status(), 200);
    assert_eq!(live.next().unwrap().id, second.id);
    let page = world.get("/admin/events?kind=health&limit=1").expect(200).json();
    assert_eq!(page["data"][0]["subject"], "two");
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = world.get(&format!("/admin/events?kind=health&limit=1&cursor={cursor}")).json();
    assert_eq!((&page["data"][0]["subject"], &page["next_cursor"]), (&json!("one"), &Value::Null));
}

#[test]
fn changes_of_the_registry_are_heard_too() {
    let world = world("");
    let mut live = Listener::new(&world, "/admin/events", TOKEN, "");
    assert_eq!(live.status(), 200);
    live.line(": live").unwrap();
    let body = json!({"name": "b", "kind": "vllm", "url": "http://127.0.0.1:9"});
    world.post("/admin/backends", &body).expect(201);
    let heard = wait_for("an event of the registry", || {
        live.next().filter(|heard| heard.data["subject"].as_str().is_some_and(|s| s.contains('b')))
    });
    assert!(heard.id > 0);
}

#[test]
fn a_revoked_token_hears_no_more() {
    let world = world("");
    let token = world.token("watcher", "viewer");
    let secret = token["token"].as_str().unwrap();
    let mut live = Listener::new(&world, "/admin/events?kind=health", secret, "");
    assert_eq!(live.status(), 200);
    live.line(": live").unwrap();
    let path = format!("/admin/tokens/{}", token["id"].as_str().unwrap());
    let more = "if-match: *\r\n";
    let mut gone = BufReader::new(world.open("DELETE", &path, TOKEN, more, ""));
    let mut line = String::new();
    gone.read_line(&mut line).unwrap();
    assert!(line.contains(" 204 "), "{line}");
    assert!(live.next().is_none(), "the stream ends");
}

#[test]
fn listeners_are_bounded() {
    let world = world("");
    let mut all: Vec<Listener> =
        (0..32).map(|_| Listener::new(&world, "/admin/events", TOKEN, "")).collect();
    for live in &mut all {
        assert_eq!(live.status(), 200);
    }
    assert_eq!(Listener::new(&world, "/admin/events", TOKEN, "").status(), 429);
    all.pop();
    wait_for("a place", || {
        (Listener::new(&world, "/admin/events", TOKEN, "").status() == 200).then_some(())
    });
    let bad = Listener::new(&world, "/admin/events", TOKEN, "last-event-id: x\r\n").status();
    assert!(bad == 400 || bad == 429);
}
