//! Who may call: tokens, roles, hosts and origins, on every route there is.

use std::collections::BTreeSet;

use serde_json::json;

use crate::client::Client;
use crate::server::{EMPTY, FILE, Server, TOKEN, backend, routes, wait_until};

const ROLES: [&str; 3] = ["viewer", "operator", "admin"];

#[test]
fn every_route_asks_for_a_token() {
    let server = Server::start(FILE);
    let nobody = Client::new(server.address);
    let mut bodies = BTreeSet::new();
    let all = routes();
    assert!(all.len() > 60, "{}", all.len());
    for (method, path, role) in &all {
        let reply = nobody.call(method, path, None);
        if role.is_none() {
            assert_eq!(reply.status, 200, "{method} {path}");
            continue;
        }
        assert_eq!(reply.code(), "unauthorized", "{method} {path}");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"forebay\""));
        let mut body = reply.json();
        body.as_object_mut().unwrap().remove("request_id");
        bodies.insert(body.to_string());
    }
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/admin"),
        ("GET", "/admin/nothing"),
        ("GET", "/admin/backends/"),
        ("GET", "/admin//backends"),
        ("GET", "/admin/docs/../backends"),
        ("GET", "/admin/docs%2f..%2fbackends"),
        ("GET", "/ADMIN/backends"),
        ("TRACE", "/admin/backends"),
        ("OPTIONS", "/admin/backends"),
        ("PUT", "/admin/openapi.json"),
        ("POST", "/admin/docs"),
        ("DELETE", "/admin/backends"),
    ] {
        assert_eq!(nobody.call(method, path, None).status, 401, "{method} {path}");
    }
    // Nobody learns what there is from how they are refused.
    assert_eq!(bodies.len(), 1, "{bodies:?}");
}

#[test]
fn tokens_that_are_not_good_are_all_the_same() {
    let server = Server::start(EMPTY);
    let mut answers = BTreeSet::new();
    let long = "x".repeat(8000);
    let hostile = [
        "",
        "Bearer",
        "Bearer ",
        "Basic Zm9v",
        "Bearer null",
        "Bearer ' OR 1=1 --",
        "Bearer \u{e4}",
        "Bearer %00",
        "Bearer fbt-canary-token-of-the-configuratio",
        "Bearer fbt-canary-token-of-the-configuration2",
        "Bearer fbt-canary-token-of-the-configuration fbt",
        &long,
    ];
    for value in hostile {
        let reply =
            Client::new(server.address).header("Authorization", value).get("/admin/backends");
        assert_eq!(reply.status, 401, "{value}");
        assert!(!reply.text().contains("canary"));
        answers.insert(reply.json()["title"].to_string());
    }
    assert_eq!(answers.len(), 1);
    let twice = server.client().header("Authorization", "Bearer other").get("/admin/backends");
    assert_eq!(twice.status, 401);
    assert_eq!(server.client().get("/admin/backends").status, 200);
}

#[test]
fn a_role_may_do_what_it_may_and_no_more() {
    let server = Server::start(FILE);
    let clients = ROLES.map(|role| server.as_role(role));
    for (method, path, role) in routes() {
        let Some(needed) = role else { continue };
        let needed = ROLES.iter().position(|role| *role == needed).unwrap();
        for (has, client) in clients.iter().enumerate() {
            let reply = client.call(&method, &path, None);
            assert_ne!(reply.status, 401, "{method} {path}");
            let refused = reply.status == 403;
            assert_eq!(refused, has < needed, "{method} {path} as {}: {reply:?}", ROLES[has]);
            assert!(reply.status < 500, "{method} {path}: {reply:?}");
        }
    }
}

#[test]
fn an_operator_switches_and_weighs_backends_but_sets_no_url() {
    let server = Server::start(FILE);
    let operator = server.as_role("operator");
    let made = server.client().post("/admin/backends", &backend("b"));
    assert_eq!(made.status, 201, "{made:?}");
    let done =
        operator.patch("/admin/backends/b", &made.etag(), &json!({"weight": 3, "enabled": false}));
    assert_eq!((done.status, done.json()["weight"].clone()), (200, json!(3)), "{done:?}");
    for patch in [
        json!({"url": "http://127.0.0.1:10"}),
        json!({"weight": 1, "api_key": "sk-1"}),
        json!({"ca": "/etc/passwd"}),
    ] {
        let reply = operator.patch("/admin/backends/b", "*", &patch);
        assert_eq!(reply.code(), "forbidden", "{patch}");
    }
    assert_eq!(
        operator.patch("/admin/models/file-m", "*", &json!({"region": "us"})).code(),
        "forbidden"
    );
    assert_eq!(operator.post("/admin/backends", &backend("c")).code(), "forbidden");
}

#[test]
fn pages_of_others_and_names_of_others_are_refused() {
    let server = Server::start(EMPTY);
    let port = server.address.port();
    for host in [
        format!("localhost:{port}"),
        format!("127.0.0.1:{port}"),
        "127.0.0.1".to_owned(),
        format!("[::1]:{port}"),
    ] {
        let reply = server.client().header("Host", &host).get("/admin/backends");
        assert_eq!(reply.status, 200, "{host}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "localhost.", "a@localhost"]
    {
        let reply = server.client().header("Host", host).get("/admin/backends");
        assert_eq!(reply.code(), "host_refused", "{host}");
        // Public pages too: a rebound name must not even see them.
        assert_eq!(server.client().header("Host", host).get("/admin/docs").status, 403);
    }
    for origin in ["http://evil.example", "null", "http://localhost:1"] {
        let reply = server.client().header("Origin", origin).post("/admin/backends", &backend("b"));
        assert_eq!(reply.code(), "origin_refused", "{origin}");
    }
    let own = format!("http://127.0.0.1:{port}");
    assert_eq!(server.client().header("Origin", &own).get("/admin/backends").status, 200);
    let absolute = format!(
        "GET http://evil.example/admin/backends HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\
        Authorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
    );
    let answer = String::from_utf8(server.client().send(absolute.as_bytes())).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
}

#[test]
fn every_answer_is_safe_for_browsers_and_none_is_kept() {
    let server = Server::start(EMPTY);
    for path in [
        "/admin/backends",
        "/admin/docs",
        "/admin/docs/app.js",
        "/admin/openapi.json",
        "/admin/nothing",
    ] {
        let reply = server.client().get(path);
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(reply.header("referrer-policy"), Some("no-referrer"), "{path}");
        assert!(reply.header("content-security-policy").unwrap().contains("default-src 'none'"));
        assert_eq!(reply.header("access-control-allow-origin"), None);
        assert_eq!(reply.header("x-request-id").unwrap().len(), 32);
    }
    let page = server.client().get("/admin/docs").text();
    assert!(
        !page.contains("http://") && !page.contains("https://") && !page.contains(" style="),
        "{page}"
    );
}

#[test]
fn methods_bodies_and_paths_that_do_not_fit() {
    let server = Server::start(EMPTY);
    let client = server.client();
    let wrong = client.call("DELETE", "/admin/backends", None);
    assert_eq!(wrong.code(), "method_not_allowed");
    let allow: BTreeSet<&str> = wrong.header("allow").unwrap().split(',').collect();
    assert_eq!(allow, ["GET", "HEAD", "POST"].into());
    assert_eq!(client.get("/admin/nothing").code(), "not_found");
    assert_eq!(client.get("/admin/backends/nobody").code(), "not_found");
    assert_eq!(client.get("/admin/backends?limit=0").code(), "invalid_request");
    assert_eq!(client.get("/admin/backends?limit=501").code(), "invalid_request");
    assert_eq!(client.get("/admin/backends?limit=x").code(), "invalid_request");
    assert_eq!(client.get("/admin/backends?frobnicate=1").code(), "invalid_request");
    assert_eq!(client.get("/admin/backends?cursor=x").code(), "invalid_request");
    assert_eq!(client.get("/admin/backends/%ff").code(), "invalid_request");
    let post = |media: &str, body: &[u8]| {
        client.call("POST", "/admin/backends", Some((media, body))).code()
    };
    assert_eq!(post("text/plain", b"{}"), "unsupported_media_type");
    assert_eq!(post("application/x-www-form-urlencoded", b"a=b"), "unsupported_media_type");
    assert_eq!(post("application/json", b"{"), "invalid_request");
    assert_eq!(post("application/json", b""), "invalid_request");
    assert_eq!(post("application/json", b"[]"), "invalid");
    assert_eq!(post("application/json", br#"{"name":"a","name":"b"}"#), "invalid");
    assert_eq!(post("application/json", &vec![b' '; (1 << 20) + 1]), "too_large");
    let deep = format!("{{\"name\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(post("application/json", deep.as_bytes()), "invalid_request");
    let head = client.call("HEAD", "/admin/backends", None);
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn a_token_is_shown_once_and_ends_at_once() {
    let server = Server::start(EMPTY);
    let client = server.client();
    let made = client.post(
        "/admin/tokens",
        &json!({"name": "ci", "role": "operator", "expires": "2099-01-01T00:00:00Z"}),
    );
    assert_eq!(made.status, 201, "{made:?}");
    let secret = made.json()["token"].as_str().unwrap().to_owned();
    let place = made.header("location").unwrap().to_owned();
    for path in ["/admin/tokens", &place, "/admin/tokens/ci", "/admin/audit", "/admin/events"] {
        assert!(!client.get(path).text().contains(&secret), "{path}");
    }
    let ci = Client::new(server.address).token(&secret);
    assert_eq!(ci.get("/admin/backends").status, 200);
    assert_eq!(ci.get("/admin/tokens").code(), "forbidden");
    wait_until("the last use is written down", || {
        client.get(&place).json()["last_used"].is_string()
    });
    assert_eq!(client.patch(&place, "\"other\"", &json!({"disabled": true})).code(), "stale");
    let disabled = client.patch(&place, &made.etag(), &json!({"disabled": true}));
    assert_eq!(disabled.status, 200, "{disabled:?}");
    assert_eq!(ci.get("/admin/backends").code(), "unauthorized");
    let again = client.patch(
        &place,
        &disabled.etag(),
        &json!({"disabled": false, "expires": "2001-01-01T00:00:00Z"}),
    );
    assert_eq!(again.status, 200);
    assert_eq!(ci.get("/admin/backends").code(), "unauthorized");
    let lasting = client.patch(&place, "*", &json!({"expires": null}));
    assert_eq!(lasting.json().get("expires"), None, "{lasting:?}");
    assert_eq!(ci.get("/admin/backends").status, 200);
    assert_eq!(client.delete(&place, &lasting.etag()).status, 204);
    assert_eq!(ci.get("/admin/backends").code(), "unauthorized");
    let audit = client.get("/admin/audit").text();
    for action in ["token.create", "token.patch", "token.delete"] {
        assert!(audit.contains(action), "{action}");
    }
    for (name, role, pointer) in [
        ("", "viewer", "/name"),
        ("a b", "viewer", "/name"),
        ("config", "viewer", "/name"),
        ("x", "root", "/role"),
    ] {
        let refused = client.post("/admin/tokens", &json!({"name": name, "role": role}));
        assert_eq!(refused.code(), "invalid");
        assert_eq!(refused.json()["errors"][0]["pointer"], pointer);
    }
}

#[test]
fn the_last_admin_cannot_lock_everyone_out() {
    let server = Server::with(EMPTY, None, None);
    let store =
        admin::store::Store::open(&server.folder().join("forebay.db"), admin::store::Role::Writer)
            .unwrap();
    let token = "fbt-by-hand";
    let digest: [u8; 32] = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes())
        .as_ref()
        .try_into()
        .unwrap();
    let stored = admin::store::StoredToken {
        id: "tok_1".to_owned(),
        name: "root".to_owned(),
        role: admin::role::Role::Admin,
        digest,
        created_at: 0,
        created_by: String::new(),
        expires: None,
        last_used: None,
        disabled: false,
    };
    store.write_blocking(move |tx| tx.add_token(&stored)).unwrap();
    let client = Client::new(server.address).token(token);
    for refused in [
        client.delete("/admin/tokens/root", "*"),
        client.patch("/admin/tokens/root", "*", &json!({"role": "viewer"})),
        client.patch("/admin/tokens/root", "*", &json!({"disabled": true})),
    ] {
        assert_eq!(refused.code(), "conflict");
    }
    assert_eq!(client.post("/admin/tokens", &json!({"name": "two", "role": "admin"})).status, 201);
    // A token that was made by another is never worth more than that one is now.
    let demoted = client.patch("/admin/tokens/root", "*", &json!({"role": "viewer"}));
    assert_eq!(demoted.code(), "conflict", "those that it made would be worth no more");
}

#[test]
fn no_token_outgrows_those_that_it_comes_from() {
    let server = Server::start(EMPTY);
    let config = server.client();
    let made_by = |client: &Client, name: &str| {
        let made = client.post("/admin/tokens", &json!({"name": name, "role": "admin"}));
        Client::new(server.address).token(made.json()["token"].as_str().unwrap())
    };
    let one = made_by(&config, "one");
    let two = made_by(&one, "two");
    let three = made_by(&two, "three");
    let worth =
        |client: &Client| (client.get("/admin/tokens").status, client.get("/admin/heads").status);
    assert_eq!(worth(&three), (200, 200));
    // A new name is no way out, and neither is a maker in between.
    assert_eq!(config.patch("/admin/tokens/one", "*", &json!({"name": "uno"})).status, 200);
    assert_eq!(config.patch("/admin/tokens/uno", "*", &json!({"role": "viewer"})).status, 200);
    assert_eq!((worth(&two), worth(&three)), ((403, 200), (403, 200)));
    // Nor is its end.
    assert_eq!(config.delete("/admin/tokens/uno", "*").status, 204);
    assert_eq!((worth(&two), worth(&three)), ((403, 200), (403, 200)));
    assert_eq!(config.get("/admin/tokens/two").json()["role"], "viewer");
}

#[test]
fn an_override_is_no_way_around_the_role() {
    let server = Server::start(FILE);
    let (admin, operator) = (server.client(), server.as_role("operator"));
    assert_eq!(admin.post("/admin/backends", &backend("b")).status, 201);
    let url = json!({"url": "http://evil.example"});
    for place in ["/admin/backends/b/override", "/admin/backends/file-1/override"] {
        assert_eq!(operator.put(place, "*", &url).code(), "forbidden");
    }
    assert_eq!(operator.put("/admin/backends/b/override", "*", &json!({"weight": 3})).status, 200);
    // Not for an admin either: it is no override.
    let refused = admin.put("/admin/backends/b/override", "*", &url);
    assert_eq!(
        (refused.code().as_str(), &refused.json()["errors"][0]["pointer"]),
        ("invalid", &json!("/url"))
    );
    assert_eq!(admin.get("/admin/backends/b").json()["url"], "http://127.0.0.1:9");
}

#[test]
fn no_backend_stands_where_clouds_give_credentials_away() {
    let server = Server::start(EMPTY);
    let client = server.client();
    for url in ["http://169.254.169.254", "http://[fd00:ec2::254]/v1", "https://[::ffff:a9fe:a9fe]"]
    {
        let mut one = backend("b");
        one["url"] = json!(url);
        let refused = client.post("/admin/backends", &one);
        assert_eq!(
            (refused.code().as_str(), &refused.json()["errors"][0]["pointer"]),
            ("invalid", &json!("/url"))
        );
    }
    assert_eq!(client.post("/admin/backends", &backend("b")).status, 201);
    let moved = client.patch("/admin/backends/b", "*", &json!({"url": "http://169.254.170.2"}));
    assert_eq!(moved.code(), "invalid");
}
