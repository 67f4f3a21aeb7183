//! What becomes of traffic and of acknowledged changes when parts of the control plane die.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use loadtest::{Profile, Upstream};
use serde_json::json;
use support::admin::{Admin, Mode, Site};
use support::{TempDir, wait_until};

#[test]
fn traffic_does_not_notice_that_the_sidecar_dies() {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let mut site = Site::start(Mode::Sidecar);
    let body = json!({"name": "b", "kind": "vllm", "region": "eu", "url": upstream.url()});
    site.admin.post("/admin/backends", &body);
    site.gateway.wait_for_model("tiny");
    let (stop, served, failed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let client = site.gateway.client();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    let ok = client.chat_stream("tiny", "").looks_whole();
                    let count = if ok { &served } else { &failed };
                    count.fetch_add(1, Relaxed);
                }
            });
        }
        let more = |from: usize| {
            wait_until("more traffic", || served.load(Relaxed) + failed.load(Relaxed) > from + 100);
        };
        more(0);
        site.kill_sidecar();
        more(served.load(Relaxed));
        site.restart_sidecar();
        let changed = site.admin.put("/admin/backends/b", "/admin/backends/b", &{
            json!({"name": "b", "kind": "vllm", "region": "eu", "url": upstream.url(), "weight": 3})
        });
        assert_eq!(changed.status, 200, "{}", changed.text());
        site.admin.settled(1);
        stop.store(true, Relaxed);
    });
    println!("{} served, {} failed", served.load(Relaxed), failed.load(Relaxed));
    assert_eq!(failed.load(Relaxed), 0);
}

/// Changes in each of the tests that kill.
const CHANGES: usize = 300;

/// Makes backends until the API is gone, or all are made; the names of those that were acknowledged.
fn write(admin: Admin, next: &mut usize) -> Vec<String> {
    let mut written = Vec::new();
    while *next < CHANGES {
        let name = format!("b-{next}");
        *next += 1;
        let url = format!("http://127.0.0.1:9/{name}");
        let body =
            json!({"name": name, "kind": "openai", "region": "eu", "url": url, "enabled": false});
        match admin.try_post("/admin/backends", &body) {
            Some(201) => written.push(name),
            Some(status) => panic!("{name}: {status}"),
            None => break,
        }
    }
    written
}

/// Writes, and kills at a random moment; what was acknowledged before has to be there.
fn write_and_kill(
    site: &mut Site,
    acknowledged: &mut BTreeSet<String>,
    (next, rng): (&mut usize, &mut fastrand::Rng),
    kill: impl FnOnce(&mut Site),
) {
    let there = listed(site);
    let lost: Vec<_> = acknowledged.difference(&there).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    let (kill_at, begun) = (Duration::from_millis(rng.u64(200..1200)), Instant::now());
    let admin = site.admin;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(admin, next));
        wait_until("the moment to kill", || begun.elapsed() >= kill_at || writer.is_finished());
        kill(site);
        acknowledged.extend(writer.join().unwrap());
    });
}

fn all_there(site: &Site, acknowledged: &BTreeSet<String>) {
    let there = listed(site);
    println!("{} of {CHANGES} acknowledged, {} there", acknowledged.len(), there.len());
    assert!(acknowledged.is_subset(&there));
    assert!(acknowledged.len() > 200);
}

#[test]
fn what_was_acknowledged_survives_every_kill() {
    let store = Arc::new(TempDir::new());
    let mut rng = fastrand::Rng::with_seed(7);
    let (mut acknowledged, mut next) = (BTreeSet::new(), 0);
    while next < CHANGES {
        let mut site = Site::on(&store, Mode::Embedded, "");
        write_and_kill(&mut site, &mut acknowledged, (&mut next, &mut rng), |site| {
            site.gateway.signal("KILL");
        });
    }
    all_there(&Site::on(&store, Mode::Embedded, ""), &acknowledged);
}

#[test]
fn what_a_sidecar_acknowledged_survives_every_kill() {
    let mut site = Site::start(Mode::Sidecar);
    let mut rng = fastrand::Rng::with_seed(8);
    let (mut acknowledged, mut next) = (BTreeSet::new(), 0);
    while next < CHANGES {
        write_and_kill(&mut site, &mut acknowledged, (&mut next, &mut rng), Site::kill_sidecar);
        site.restart_sidecar();
    }
    all_there(&site, &acknowledged);
    // The data plane was never restarted, and has followed.
    site.admin.settled(1);
}

fn listed(site: &Site) -> BTreeSet<String> {
    let (mut names, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let page = site.admin.get(&format!("/admin/backends?limit=100{cursor}"));
        let all = page["data"].as_array().unwrap();
        names.extend(all.iter().map(|one| one["name"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return names,
        }
    }
}

#[test]
fn a_revoked_key_is_refused_everywhere_within_a_second() {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let site = Site::start_with(
        Mode::Embedded,
        &format!(
            "[auth]\nmode = \"keys\"\n[[backend]]\nname = \"b\"\nkind = \"vllm\"\nregion = \"eu\"\nurl = \"{}\"\n",
            upstream.url()
        ),
    );
    let other = site.another();
    let made = site.admin.post("/admin/keys", &json!({"name": "team-a"}));
    let secret = made.json()["secret"].as_str().unwrap().to_owned();
    let models = |gateway: &support::Gateway| {
        let header = format!("authorization: Bearer {secret}\r\n");
        gateway.client().request("GET", "/v1/models", &header, b"").status
    };
    for gateway in [&site.gateway, &other] {
        wait_until("the key to be known", || models(gateway) == 200);
    }
    let tag = site.admin.ask("GET", "/admin/keys/team-a", "", None);
    let tag = tag.header("etag").unwrap().to_owned();
    let gone =
        site.admin.ask("DELETE", "/admin/keys/team-a", &format!("if-match: {tag}\r\n"), None);
    assert_eq!(gone.status, 204, "{}", gone.text());
    let begun = Instant::now();
    assert_eq!(models(&site.gateway), 401, "in this process at once");
    wait_until("the other to refuse it", || models(&other) == 401);
    let took = begun.elapsed();
    println!("refused by the other after {took:?}");
    assert!(took < Duration::from_secs(1));
}

#[test]
fn a_store_that_cannot_be_opened_stops_nobody() {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let store = Arc::new(TempDir::new());
    let site = Site::on(&store, Mode::Embedded, "");
    let body = json!({"name": "b", "kind": "vllm", "region": "eu", "url": upstream.url()});
    site.admin.post("/admin/backends", &body);
    site.gateway.wait_for_model("tiny");
    drop(site);
    // Damage that no permission bits stand in for: tests may run as root.
    let file = store.path().join("forebay.db");
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(store.path().join(format!("forebay.db{end}")));
    }
    std::fs::write(&file, "this is no database, and longer than a header would be").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o400)).unwrap();
    let site = Site::on(&store, Mode::Embedded, "");
    site.gateway.wait_for_model("tiny");
    assert_eq!(site.gateway.client().chat("tiny", "").status, 200, "from the last good state");
    let refused = site.admin.ask("POST", "/admin/backends", "", Some(&body));
    assert!((500..=507).contains(&refused.status), "{} {}", refused.status, refused.text());
}
