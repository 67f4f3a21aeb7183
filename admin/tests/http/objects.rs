//! The objects over HTTP: made, read, changed and removed under their tags.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Value, json};

use crate::client::Client;
use crate::server::{EMPTY, FILE, Server, TOKEN, backend, routes};

#[test]
fn a_backend_from_its_making_to_its_end() {
    let server = Server::start(EMPTY);
    let client = server.client();
    let made = client.post("/admin/backends", &backend("b-1"));
    assert_eq!(made.status, 201, "{made:?}");
    let object = made.json();
    assert_eq!((&object["name"], &object["origin"]), (&json!("b-1"), &json!("stored")));
    let place = made.header("location").unwrap().to_owned();
    assert_eq!(place, format!("/admin/backends/{}", object["id"].as_str().unwrap()));
    assert!(server.plane.world.load().backend("b-1").is_some(), "in force before the answer");
    let status = &object["status"][0];
    assert_eq!((&status["plane"], &status["breaker"]), (&json!("pid-1"), &json!("closed")));

    let read = client.get("/admin/backends/b-1");
    assert_eq!((read.status, read.etag()), (200, made.etag()));
    assert_eq!(client.get(&place).json()["name"], "b-1");
    let known = client.clone().header("If-None-Match", &read.etag()).get("/admin/backends/b-1");
    assert_eq!((known.status, known.body.len()), (304, 0));

    let bare = client.call("DELETE", &place, None);
    assert_eq!(bare.code(), "precondition_required");
    let stale = client.patch(&place, "\"stale\"", &json!({"weight": 2}));
    assert_eq!((stale.code().as_str(), stale.etag()), ("stale", made.etag()));
    let changed = client.patch(&place, &made.etag(), &json!({"weight": 2}));
    assert_eq!((changed.status, &changed.json()["weight"]), (200, &json!(2)), "{changed:?}");
    assert_ne!(changed.etag(), made.etag());
    // What was read can be sent back as it is.
    let mut whole = client.get(&place).json();
    whole["weight"] = json!(5);
    let replaced = client.put(&place, &changed.etag(), &whole);
    assert_eq!((replaced.status, &replaced.json()["weight"]), (200, &json!(5)), "{replaced:?}");
    assert_eq!(client.post("/admin/backends", &backend("b-1")).code(), "exists");
    assert_eq!(client.delete(&place, &changed.etag()).code(), "stale");
    assert_eq!(client.delete(&place, &replaced.etag()).status, 204);
    assert_eq!(client.get(&place).code(), "not_found");
    assert!(server.plane.world.load().backend("b-1").is_none());
}

#[test]
fn mistakes_are_named_where_they_are() {
    let server = Server::start(EMPTY);
    let client = server.client();
    let wrong = json!({"name": "b", "kind": "vlm", "url": "ftp://x", "wieght": 1, "region": "eu"});
    let refused = client.post("/admin/backends", &wrong);
    assert_eq!(refused.code(), "invalid", "{refused:?}");
    let errors = refused.json()["errors"].clone();
    let pointers: BTreeSet<&str> =
        errors.as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    for pointer in ["/kind", "/url", "/wieght"] {
        assert!(pointers.contains(pointer), "{pointer}: {errors}");
    }
    let head =
        client.post("/admin/heads", &json!({"name": "h", "region": "eu", "backends": ["gone"]}));
    assert_eq!(head.code(), "invalid");
    assert_eq!(head.json()["errors"][0]["pointer"], "/backends/0", "{head:?}");
    assert!(client.get("/admin/backends").json()["data"].as_array().unwrap().is_empty());
}

#[test]
fn objects_of_a_file_can_be_overridden_and_nothing_else() {
    let server = Server::start(FILE);
    let client = server.client();
    let read = client.get("/admin/backends/file-1");
    let object = read.json();
    assert_eq!(object["origin"], "file");
    assert_eq!(object["declared_in"]["file"], "forebay.toml");
    assert_eq!(object["api_key"]["set"], true);
    let refused = client.put("/admin/backends/file-1", &read.etag(), &backend("file-1"));
    assert_eq!(refused.code(), "read_only", "{refused:?}");
    assert!(refused.json()["detail"].as_str().unwrap().contains("forebay.toml"));
    assert_eq!(client.delete("/admin/backends/file-1", "*").code(), "read_only");
    let over = client.put("/admin/backends/file-1/override", &read.etag(), &json!({"weight": 7}));
    assert_eq!((over.status, &over.json()["overrides"]["weight"]), (200, &json!(7)), "{over:?}");
    assert_eq!(server.plane.world.load().backend("file-1").unwrap().spec.weight, 7);
    let cleared = client.delete("/admin/backends/file-1/override", &over.etag());
    assert_eq!(
        (cleared.status, cleared.json().get("overrides").cloned()),
        (200, None),
        "{cleared:?}"
    );
    assert_eq!(server.plane.world.load().backend("file-1").unwrap().spec.weight, 1);
}

#[test]
fn a_model_moves_between_heads_and_regions() {
    let server = Server::start(FILE);
    let client = server.client();
    let read = client.get("/admin/models/file-m");
    let served = read.json()["status"]["backends"].clone();
    assert_eq!(
        (&served[0]["backend"], &served[0]["priority"]),
        (&json!("file-1"), &json!(true)),
        "{read:?}"
    );
    let path = "/admin/models/file-m/priority-head";
    assert_eq!(
        client.call("PUT", path, Some(("application/json", b"{}"))).code(),
        "precondition_required"
    );
    let moved = client.put(path, &read.etag(), &json!({"priority_head": "h-us"}));
    assert_eq!(moved.status, 200, "{moved:?}");
    assert_eq!(moved.json()["status"]["backends"][0]["backend"], "file-2");
    assert_eq!(client.put(path, &read.etag(), &json!({"priority_head": "h-eu"})).code(), "stale");
    assert_eq!(client.put(path, "*", &json!({"priority_head": "gone"})).code(), "invalid");
    let region = client.put("/admin/models/file-m/region", "*", &json!({"region": "us"}));
    assert_eq!((region.status, &region.json()["region"]), (200, &json!("us")), "{region:?}");
    let head = client.get("/admin/heads/h-eu").json();
    assert_eq!(head["status"]["members"][0]["backend"], "file-1");
    assert!(client.get("/admin/regions/codes").text().contains("Brazil"));
}

#[test]
fn names_of_models_may_hold_slashes_and_colons() {
    let server = Server::start(EMPTY);
    let client = server.client();
    let made = client.post("/admin/models", &json!({"name": "mistralai/Mistral-7B:latest"}));
    assert_eq!(made.status, 201, "{made:?}");
    let read = client.get("/admin/models/mistralai%2FMistral-7B%3Alatest");
    assert_eq!((read.status, &read.json()["name"]), (200, &json!("mistralai/Mistral-7B:latest")));
    assert_eq!(client.get("/admin/models/mistralai/Mistral-7B").code(), "not_found");
}

#[test]
fn what_was_asked_for_twice_is_done_once() {
    let server = Server::start(EMPTY);
    let client = server.client().header("Idempotency-Key", "one");
    let first = client.post("/admin/backends", &backend("b"));
    let again = client.post("/admin/backends", &backend("b"));
    assert_eq!((first.status, again.status), (201, 201), "{again:?}");
    assert_eq!((first.json(), first.etag()), (again.json(), again.etag()));
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(
        (first.header("idempotent-replayed"), again.header("idempotent-replayed")),
        (None, Some("true"))
    );
    assert_eq!(client.post("/admin/backends", &backend("c")).code(), "idempotency_key_reused");
    // Another's key of the same text is another key, and so is that of another route.
    let other = server
        .as_role("admin")
        .header("Idempotency-Key", "one")
        .post("/admin/backends", &backend("b"));
    assert_eq!(other.code(), "exists");
    assert_eq!(client.post("/admin/regions", &json!({"name": "lab"})).status, 201);
    // A refusal is not kept: once its cause is gone the same request works.
    let retry = server.client().header("Idempotency-Key", "two");
    let head = json!({"name": "h", "region": "eu", "backends": ["d"]});
    assert_eq!(retry.post("/admin/heads", &head).status, 422);
    assert_eq!(server.client().post("/admin/backends", &backend("d")).status, 201);
    assert_eq!(retry.post("/admin/heads", &head).status, 201);
    assert_eq!(
        server
            .client()
            .header("Idempotency-Key", &"x".repeat(256))
            .post("/admin/backends", &backend("e"))
            .status,
        400
    );
}

#[test]
fn a_key_is_shown_once_also_to_those_who_repeat() {
    let server = Server::start(EMPTY);
    let client = server.client().header("Idempotency-Key", "k");
    let made = client.post("/admin/keys", &json!({"name": "team-a", "tenant": "acme"}));
    assert_eq!(made.status, 201, "{made:?}");
    let secret = made.json()["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("fb-"), "{secret}");
    let again = client.post("/admin/keys", &json!({"name": "team-a", "tenant": "acme"}));
    assert_eq!((again.status, again.json().get("secret").cloned()), (201, None));
    assert!(!client.get("/admin/keys/team-a").text().contains(&secret));
    let keys = server.registry.desired().config().keys.len();
    assert_eq!(keys, 1);
}

#[test]
fn no_answer_and_no_file_shows_a_credential() {
    let server = Server::start(FILE);
    let client = server.client();
    let mut made = backend("b");
    made["api_key"] = json!("sk-canary-sealed-0123456789");
    let reply = client.post("/admin/backends", &made);
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(reply.json()["api_key"]["last4"], "6789");
    // Sent back as it is shown, it stays what it is.
    let mut whole = client.get("/admin/backends/b").json();
    whole["weight"] = json!(2);
    let put = client.put("/admin/backends/b", &reply.etag(), &whole);
    assert_eq!(put.status, 200, "{put:?}");
    let key = server.plane.world.load().backend("b").unwrap().spec.api_key.clone();
    assert_eq!(key.unwrap().expose(), "sk-canary-sealed-0123456789");
    client.post("/admin/backends", &json!({"name": "x", "kind": "vllm", "url": "http://h", "api_key": ["sk-canary-in-a-list"]}));
    client.post(
        "/admin/backends",
        &json!({"name": "x", "kind": "vllm", "api_key": "sk-canary-of-a-refused-one"}),
    );
    for (method, path, _) in routes() {
        if method == "GET" {
            let text = String::from_utf8_lossy(&client.get(&path).body).into_owned();
            assert!(!text.contains("canary"), "{path}: {text}");
        }
    }
    for path in [
        "/admin/backends/b",
        "/admin/backends/file-1",
        "/admin/config/diff?from=1&to=2",
        "/admin/config/versions/2",
    ] {
        assert!(!client.get(path).text().contains("canary"), "{path}");
    }
    let mut files = 0;
    let mut folders = vec![server.folder()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(6).any(|six| six == b"canary"), "{}", path.display());
        }
    }
    assert!(files >= 2);
}

#[test]
fn a_credential_does_not_follow_to_another_server() {
    let server = Server::start(FILE);
    let client = server.client();
    let mut made = backend("b");
    made["api_key"] = json!("sk-canary-sealed-0123456789");
    assert_eq!(client.post("/admin/backends", &made).status, 201);
    let moved = json!({"url": "http://elsewhere.test:8000"});
    let refused = client.patch("/admin/backends/b", "*", &moved);
    assert_eq!(refused.status, 422, "{refused:?}");
    assert_eq!(refused.json()["errors"][0]["pointer"], "/api_key");
    let url = |path: &str| json!({"url": format!("{}{path}", made["url"].as_str().unwrap())});
    assert_eq!(client.patch("/admin/backends/b", "*", &url("/other")).status, 200);
    for key in [json!("sk-canary-for-elsewhere-01"), json!(null)] {
        let with_key = json!({"url": "http://elsewhere.test:8000", "api_key": key});
        assert_eq!(client.patch("/admin/backends/b", "*", &with_key).status, 200);
    }
}

#[test]
fn without_a_master_key_no_credential_is_kept() {
    let server = Server::with(EMPTY, Some(TOKEN), None);
    let mut made = backend("b");
    made["api_key"] = json!("sk-canary");
    let refused = server.client().post("/admin/backends", &made);
    assert_eq!((refused.status, refused.code().as_str()), (409, "no_master_key"));
    assert!(refused.json()["detail"].as_str().unwrap().contains("FOREBAY_MASTER_KEY"));
    assert_eq!(server.client().post("/admin/backends", &backend("b")).status, 201);
}

#[test]
fn pages_hold_while_objects_come_and_go() {
    let server = Server::start(EMPTY);
    let client = server.client();
    for number in 0..12 {
        assert_eq!(
            client.post("/admin/regions", &json!({"name": format!("r-{number:02}")})).status,
            201
        );
    }
    let mut seen = Vec::new();
    let mut path = "/admin/regions?limit=5&name=r-".to_owned();
    loop {
        let page = client.get(&path).json();
        let names = page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned());
        seen.extend(names);
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/admin/regions?limit=5&name=r-&cursor={cursor}");
        let new = format!("r-{:02}a", seen.len());
        assert_eq!(client.post("/admin/regions", &json!({"name": new})).status, 201);
        assert_eq!(
            client.delete(&format!("/admin/regions/{}", seen[0]), "*").status,
            if seen.len() == 5 { 204 } else { 404 }
        );
    }
    let once: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(once.len(), seen.len(), "{seen:?}");
    assert!((0..12).all(|number| once.contains(&format!("r-{number:02}"))), "{seen:?}");
}

#[test]
fn lists_are_filtered() {
    let server = Server::start(FILE);
    let client = server.client();
    client.post("/admin/backends", &backend("other"));
    let names = |query: &str| -> Vec<String> {
        let page = client.get(&format!("/admin/backends?{query}")).json();
        page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(""), ["file-1", "file-2", "other"]);
    assert_eq!(names("name=file"), ["file-1", "file-2"]);
    assert_eq!(names("origin=stored"), ["other"]);
    assert_eq!(names("region=us"), ["file-2"]);
    assert_eq!(names("kind=ollama"), [""; 0]);
    assert_eq!(names("state=online"), [""; 0]);
    assert_eq!(client.get("/admin/backends?origin=mars").status, 400);
}

#[test]
fn versions_can_be_compared_and_gone_back_to() {
    let server = Server::start(EMPTY);
    let client = server.client();
    client.post("/admin/backends", &backend("b"));
    let first = client.get("/admin/config/versions").json()["data"][0]["number"].as_u64().unwrap();
    assert_eq!(client.patch("/admin/backends/b", "*", &json!({"weight": 9})).status, 200);
    let diff = client.get(&format!("/admin/config/diff?from={first}&to={}", first + 1)).text();
    assert!(diff.contains("+weight = 9"), "{diff}");
    let back = client.post("/admin/config/rollback", &json!({"version": first}));
    assert_eq!(back.status, 200, "{back:?}");
    assert_eq!(client.get("/admin/backends/b").json().get("weight").cloned(), None);
    assert_eq!(client.post("/admin/config/rollback", &json!({"version": 999})).code(), "not_found");
    let export = client.get("/admin/export");
    assert_eq!(export.header("content-type"), Some("application/toml"));
    let text = export.text();
    let check = |text: &str| {
        client
            .call("POST", "/admin/config/validate", Some(("application/toml", text.as_bytes())))
            .json()
    };
    assert_eq!(check(&text)["valid"], true, "{text}");
    assert_eq!(check("version = 1\nfrobnicate = 2\n")["valid"], false);
    let import = |query: &str| {
        client.call(
            "POST",
            &format!("/admin/import{query}"),
            Some(("application/toml", text.as_bytes())),
        )
    };
    let tried = import("?dry_run=true");
    assert_eq!((tried.status, tried.json().get("version").cloned()), (200, None), "{tried:?}");
    assert!(client.get("/admin/config/effective").text().contains("[[backend]]"));
    assert_eq!(client.post("/admin/config/reload", &json!({})).code(), "conflict");
}

/// Two writers who read, add one, and write under the tag that they read: no addition is lost.
#[test]
fn racing_writers_lose_nothing() {
    const ROUNDS: u64 = 1000;
    let server = Server::start(EMPTY);
    let client = server.client();
    let mut made = backend("b");
    made["metadata"] = json!({"count": "0"});
    assert_eq!(client.post("/admin/backends", &made).status, 201);
    let add = |client: &Client| -> (u64, u64) {
        let (mut done, mut refused) = (0, 0);
        while done + refused < ROUNDS / 2 {
            let read = client.get("/admin/backends/b");
            let count: u64 = read.json()["metadata"]["count"].as_str().unwrap().parse().unwrap();
            let patch = json!({"metadata": {"count": (count + 1).to_string()}});
            match client.patch("/admin/backends/b", &read.etag(), &patch).status {
                200 => done += 1,
                412 => refused += 1,
                other => panic!("{other}"),
            }
        }
        (done, refused)
    };
    let begun = Instant::now();
    let (one, other) = std::thread::scope(|scope| {
        let one = scope.spawn(|| add(&client));
        let other = scope.spawn(|| add(&client));
        (one.join().unwrap(), other.join().unwrap())
    });
    let count = client.get("/admin/backends/b").json()["metadata"]["count"].clone();
    assert_eq!(count, json!((one.0 + other.0).to_string()));
    assert!(one.0 > 0 && other.0 > 0, "{one:?} {other:?}");
    println!("{ROUNDS} rounds, {} refused, {:?}", one.1 + other.1, begun.elapsed());
}

#[test]
fn a_large_registry_is_listed_quickly() {
    let mut text = EMPTY.to_owned();
    for number in 0..500 {
        text.push_str(&format!(
            "[[backend]]\nname = \"b-{number:03}\"\nkind = \"vllm\"\nurl = \"http://127.0.0.1:9\"\n"
        ));
    }
    for number in 0..2000 {
        text.push_str(&format!(
            "[[model]]\nname = \"m-{number:04}\"\n[model.deployments]\n\"b-{:03}\" = \"m\"\n",
            number % 500
        ));
    }
    let server = Server::start(&text);
    let client = server.client();
    let all = |path: &str| -> usize {
        let mut count = 0;
        let mut next = Some(format!("{path}?limit=500"));
        while let Some(at) = next {
            let page: Value = client.get(&at).json();
            count += page["data"].as_array().unwrap().len();
            next = page["next_cursor"]
                .as_str()
                .map(|cursor| format!("{path}?limit=500&cursor={cursor}"));
        }
        count
    };
    assert_eq!((all("/admin/backends"), all("/admin/models")), (500, 2000));
    let begun = Instant::now();
    all("/admin/backends");
    let backends = begun.elapsed();
    all("/admin/models");
    println!(
        "500 backends: {backends:?}; 2,000 models in four pages: {:?}",
        begun.elapsed() - backends
    );
}
