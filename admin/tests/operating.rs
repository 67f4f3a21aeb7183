//! What runs is looked at, tested, drained, measured and found through the API.

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use admin::history::Sampler;
use admin::store::{Sample, StoreError, Subject};
use loadtest::{Profile, Upstream};
use router::BackendName;
use router::planes::{PurgeScope, Tally};
use serde_json::json;

use support::plane::One;
use support::{TOKEN, wait_for, world};

fn backend(name: &str, kind: &str, upstream: &Upstream) -> String {
    format!("[[backend]]\nname = \"{name}\"\nkind = \"{kind}\"\nurl = \"{}\"\n", upstream.url())
}

#[test]
fn a_server_is_tested_before_it_is_saved() {
    let world = world("");
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    upstream.vitals(|vitals| vitals.api_key = Some("upstream-canary".to_owned()));
    let right = json!({"url": upstream.url(), "api_key": "upstream-canary"});
    let report = world.post("/admin/backends/test", &right).expect(200);
    assert!(!report.body.contains("canary"));
    assert_eq!((&report.json()["ok"], &report.json()["kind"]), (&json!(true), &json!("vllm")));
    let wrong = json!({"url": upstream.url(), "api_key": "another-canary"});
    let report = world.post("/admin/backends/test", &wrong).expect(200).json();
    assert_eq!(report["error"]["code"], "unauthorized");
    for (url, code) in [
        ("http://169.254.169.254", "forbidden_address"),
        ("http://[::ffff:169.254.169.254]/", "forbidden_address"),
        ("http://user:canary@127.0.0.1", "invalid_url"),
        ("ftp://127.0.0.1", "invalid_url"),
    ] {
        let report = world.post("/admin/backends/test", &json!({ "url": url })).expect(200);
        assert_eq!(report.json()["error"]["code"], code, "{url}");
        assert!(!report.body.contains("canary"));
    }
    let audit = world.get("/admin/audit?action=test").expect(200);
    assert_eq!(audit.json()["data"].as_array().unwrap().len(), 6);
    assert!(!audit.body.contains("canary"));
}

#[test]
fn only_those_who_may_do_it() {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let world = world(&backend("b", "vllm", &upstream));
    let viewer = world.token("watcher", "viewer")["token"].as_str().unwrap().to_owned();
    let operator = world.token("night", "operator")["token"].as_str().unwrap().to_owned();
    let body = json!({"url": upstream.url()});
    for (path, body, least) in [
        ("/admin/backends/test", Some(&body), "admin"),
        ("/admin/backends/b/test", None, "admin"),
        ("/admin/discover", Some(&json!({"addresses": ["127.0.0.1:1"]})), "admin"),
        ("/admin/models/tiny/profile", Some(&json!({})), "admin"),
        ("/admin/backends/b/drain", None, "operator"),
        ("/admin/backends/b/resume", None, "operator"),
        ("/admin/backends/health-check", None, "operator"),
        ("/admin/cache/purge", Some(&json!({"all": true})), "operator"),
    ] {
        assert_eq!(world.ask("POST", path, "nobody", body).status, 401, "{path}");
        assert_eq!(world.ask("POST", path, &viewer, body).status, 403, "{path}");
        let as_operator = world.ask("POST", path, &operator, body).status;
        assert_eq!(as_operator == 403, least == "admin", "{path}: {as_operator}");
    }
    for path in [
        "/admin/state",
        "/admin/jobs",
        "/admin/events",
        "/admin/backends/b/health",
        "/admin/backends/b/models",
        "/admin/backends/b/metrics",
    ] {
        assert_eq!(world.ask("GET", path, "nobody", None).status, 401, "{path}");
        assert_eq!(world.ask("GET", path, &viewer, None).status, 200, "{path}");
    }
}

#[test]
fn backends_are_looked_at_checked_and_drained() {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let world = world(&backend("b", "vllm", &upstream));
    world.plane.finds("b", &["tiny"]);
    let state = world.get("/admin/state").expect(200).json();
    assert_eq!(state["planes"][0]["live"]["backends"][0]["name"], "b");
    assert_eq!(state["planes"][0]["live"]["up_to_date"], true);
    let job = world.end_of(&world.poke("/admin/backends/health-check").expect(202));
    assert_eq!(
        (&job["state"], &job["progress"]),
        (&json!("done"), &json!({"done": 1, "total": 1}))
    );
    assert_eq!(job["detail"]["backends"][0]["checked"], true);
    assert_eq!(world.plane.probes.load(Ordering::SeqCst), 1);
    let health = world.get("/admin/backends/b/health").expect(200).json();
    assert_eq!(health["planes"][0]["last_check"]["ok"], true);
    let attempt = |world: &support::World| {
        let plan = world.post("/admin/explain", &json!({"model": "tiny"})).expect(200).json();
        plan["planes"][0]["plan"]["tiers"][0]["candidates"][0].clone()
    };
    assert_eq!(attempt(&world)["verdict"], "attempt");
    world.poke("/admin/backends/b/drain").expect(200);
    assert_eq!(attempt(&world)["reason"], "draining");
    assert_eq!(world.get("/admin/backends/b/health").json()["planes"][0]["state"], "draining");
    world.poke("/admin/backends/b/resume").expect(200);
    assert_eq!(attempt(&world)["verdict"], "attempt");
    world.poke("/admin/backends/nobody/drain").expect(404);
    let actions = world.get("/admin/audit?target=backend/b").json();
    assert_eq!(actions["data"].as_array().unwrap().len(), 2);
    let unknown = world.post("/admin/explain", &json!({"model": "x"})).expect(200).json();
    assert!(unknown["planes"][0]["error"].as_str().unwrap().contains("no model"));
    world.post("/admin/explain", &json!({"model": "x", "operation": "sing"})).expect(422);
}

#[test]
fn the_models_on_a_backend_come_from_it_or_from_what_is_known() {
    let upstream = Upstream::start(Profile::ollama(&["tiny"])).unwrap();
    let world = world(&backend("o", "ollama", &upstream));
    world.plane.finds("o", &["known:latest"]);
    let models = world.get("/admin/backends/o/models").expect(200).json();
    assert_eq!(
        (&models["source"], &models["data"][0]["id"]),
        (&json!("backend"), &json!("tiny:latest"))
    );
    assert_eq!(models["data"][0]["loaded"], false);
    let asked = upstream.requests().len();
    world.get("/admin/backends/o/models").expect(200);
    assert_eq!(upstream.requests().len(), asked, "asked once in half a minute");
    let dead = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let world = support::world(&backend("d", "vllm", &dead));
    world.plane.finds("d", &["known"]);
    dead.refuse(true);
    let models = world.get("/admin/backends/d/models").expect(200).json();
    assert_eq!((&models["source"], &models["data"][0]["id"]), (&json!("catalog"), &json!("known")));
}

#[test]
fn servers_are_found_and_registered_on_request() {
    let world = world("");
    let vllm = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let ollama = Upstream::start(Profile::ollama(&["small"])).unwrap();
    let addresses = json!([vllm.addr().to_string(), ollama.url(), "169.254.169.254:80"]);
    let search = json!({ "addresses": addresses });
    let job = world.end_of(&world.post("/admin/discover", &search).expect(202));
    assert_eq!(job["progress"], json!({"done": 3, "total": 3}));
    let found = job["detail"]["found"].as_array().unwrap();
    assert_eq!((found.len(), &job["detail"]["silent"]), (2, &json!(1)), "{job}");
    assert_eq!(world.get("/admin/backends").json()["data"], json!([]), "nothing is registered");
    let search = json!({"addresses": addresses, "register": true});
    let job = world.end_of(&world.post("/admin/discover", &search).expect(202));
    assert!(job["detail"]["found"][0]["registered"].is_string(), "{job}");
    let backends = world.get("/admin/backends").json()["data"].as_array().unwrap().len();
    assert_eq!(backends, 2);
    let again = world.end_of(&world.post("/admin/discover", &search).expect(202));
    assert!(again["detail"]["found"][0]["not_registered"].is_string(), "{again}");
    world.post("/admin/discover", &json!({"cidr": "10.0.0.0/24"})).expect(409);
    world.post("/admin/discover", &json!({"cidr": "10.0.0.0/8", "allow_subnet": true})).expect(422);
    world.post("/admin/discover", &json!([null])).expect(422);
    let hidden = json!({"addresses": ["http://u:canary@h"]});
    let job = world.end_of(&world.post("/admin/discover", &hidden).expect(202));
    assert_eq!(job["detail"]["found"][0]["error"]["code"], "invalid_url");
    assert!(!job.to_string().contains("canary"));
}

#[test]
fn a_model_is_measured_and_remembers_it() {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let world = world(&backend("b", "vllm", &upstream));
    world.plane.finds("b", &["tiny"]);
    let run = json!({"requests": 2.0, "max_tokens": 8});
    let job = world.end_of(&world.post("/admin/models/tiny/profile", &run).expect(202));
    assert_eq!((&job["state"], &job["progress"]["done"]), (&json!("done"), &json!(2)), "{job}");
    assert_eq!(
        (&job["detail"]["backend"], &job["detail"]["success_rate"]),
        (&json!("b"), &json!(1.0))
    );
    assert_eq!(upstream.inferences().len(), 2);
    let statistics = world.get("/admin/models/tiny/statistics").expect(200).json();
    assert_eq!(statistics["profile"]["profile"]["backend"], "b");
    world.post("/admin/models/tiny/profile", &json!({"requests": 21})).expect(422);
    world.post("/admin/models/tiny/profile", &json!({"backend": "x"})).expect(409);
    world.post("/admin/models/nobody/profile", &json!({})).expect(404);
}

#[test]
fn caches_are_purged_by_one_scope() {
    let world = world("");
    let done = world.post("/admin/cache/purge", &json!({"model": "m"})).expect(200).json();
    assert_eq!(done["planes"][0]["purged"], 3);
    world.post("/admin/cache/purge", &json!({"all": true})).expect(200);
    world.post("/admin/cache/purge", &json!({"all": true, "key": "k"})).expect(422);
    world.post("/admin/cache/purge", &json!({})).expect(422);
    let purged = world.plane.purged.lock().unwrap();
    assert!(matches!(&purged[..], [PurgeScope::Model(_), PurgeScope::All]));
}

#[test]
fn history_is_asked_within_bounds() {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let world = world(&backend("b", "vllm", &upstream));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 10 * 10;
    let samples: Vec<Sample> = (1..=100)
        .map(|ago| Sample {
            subject: Subject::new("backend", "b"),
            metric: "requests".to_owned(),
            at: now - ago * 10,
            value: 2.0,
        })
        .collect();
    let written: Result<(), StoreError> =
        world.store.write_blocking(move |tx| tx.add_samples(&samples));
    written.unwrap();
    let path = "/admin/backends/b/metrics?metrics=requests";
    let measured = world.get(path).expect(200).json();
    let points = measured["series"][0]["points"].as_array().unwrap();
    assert_eq!(points.len(), 100);
    assert_eq!(points[0][1], 2.0);
    let coarse = world.get(&format!("{path}&step=100")).expect(200).json();
    assert!(coarse["series"][0]["points"].as_array().unwrap().len() <= 37);
    for wrong in ["&step=0", "&from=soon", "&more=1"] {
        world.get(&format!("{path}{wrong}")).expect(400);
    }
    world.get("/admin/backends/b/metrics?metrics=mood").expect(400);
    world.get("/admin/backends/x/metrics").expect(404);
}

#[test]
fn what_planes_count_becomes_history() {
    let upstream = Upstream::start(Profile::vllm(&["tiny"])).unwrap();
    let world = world(&backend("b", "vllm", &upstream));
    let (planes, source) = (Arc::new(One(Arc::clone(&world.plane))), world.store.clone());
    let every = Duration::from_millis(20);
    let _sampler = Sampler::start(planes, Arc::new(move || Ok(source.clone())), every).unwrap();
    let name = BackendName::try_from("b").unwrap();
    let found = wait_for("a rate", || {
        let mut totals = world.plane.totals.lock().unwrap();
        let requests = totals.backends.first().map_or(0, |(_, tally)| tally.requests) + 1;
        totals.backends = vec![(name.clone(), Tally { requests, ..Tally::default() })];
        drop(totals);
        let measured = world.get("/admin/backends/b/metrics?metrics=requests").json();
        measured["series"][0]["points"][0][1].as_f64().filter(|rate| *rate > 0.0)
    });
    assert!(found > 0.0);
    assert!(world.ask("GET", "/admin/backends/b/metrics", TOKEN, None).status == 200);
}
