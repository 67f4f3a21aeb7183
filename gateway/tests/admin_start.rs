//! With what is stored, a start may need more than before: whether keys are asked for, and the key that opens credentials.

#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::sync::Arc;

use serde_json::json;
use support::admin::{Admin, Mode, Site, config};
use support::{Gateway, TempDir, command};

/// A wrong configuration, as `sysexits.h` numbers it.
const EX_CONFIG: i32 = 78;
const KEYS: &str = "[auth]\nmode = \"keys\"\n";

/// Both commands, on this configuration beside the store, end with 78 before they listen, and say all of `words`.
#[track_caller]
fn assert_refused(store: &TempDir, text: &str, words: &[&str]) {
    let path = store.path().join("forebay.toml");
    std::fs::write(&path, text).unwrap();
    for subcommand in ["serve", "admin"] {
        let mut command = command();
        let output = command.arg(subcommand).arg("--config").arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(EX_CONFIG), "{subcommand}: {said}");
        assert!(output.stdout.is_empty(), "{subcommand} listened: {:?}", output.stdout);
        for word in words {
            assert!(said.contains(word), "{subcommand}: {word:?} is missing: {said}");
        }
    }
}

fn models(gateway: &Gateway, secret: &str) -> u16 {
    let header = format!("authorization: Bearer {secret}\r\n");
    gateway.client().request("GET", "/v1/models", &header, b"").status
}

#[test]
fn once_a_key_was_made_the_mode_has_to_be_said() {
    let store = Arc::new(TempDir::new());
    let site = Site::on(&store, Mode::Embedded, KEYS);
    let made = site.admin.post("/admin/keys", &json!({"name": "team-a"}));
    let tag = made.header("etag").unwrap().to_owned();
    let secret = made.json()["secret"].as_str().unwrap().to_owned();
    assert_eq!((models(&site.gateway, &secret), models(&site.gateway, "other")), (200, 401));
    drop(site);
    let unsaid = config(Mode::Embedded, "", "forebay.db");
    let help = ["auth.mode", "mode = \"keys\"", "mode = \"open\"", "[auth]"];
    assert_refused(&store, &unsaid, &help);
    // Nor once the key is gone again: its holders expect to be told apart.
    let site = Site::on(&store, Mode::Embedded, KEYS);
    assert_eq!(models(&site.gateway, &secret), 200);
    let gone =
        site.admin.ask("DELETE", "/admin/keys/team-a", &format!("if-match: {tag}\r\n"), None);
    assert_eq!(gone.status, 204, "{}", gone.text());
    drop(site);
    assert_refused(&store, &unsaid, &help);
    let site = Site::on(&store, Mode::Embedded, "[auth]\nmode = \"open\"\n");
    assert_eq!(models(&site.gateway, "other"), 200);
}

#[test]
fn a_first_key_without_a_mode_is_refused_with_what_to_write() {
    let site = Site::start(Mode::Embedded);
    let refused = site.admin.ask("POST", "/admin/keys", "", Some(&json!({"name": "team-a"})));
    assert_eq!(refused.status, 422, "{}", refused.text());
    for word in ["auth.mode", "mode = \\\"keys\\\"", "[auth]"] {
        assert!(refused.text().contains(word), "{word:?} is missing: {}", refused.text());
    }
    assert_eq!(site.gateway.client().get("/v1/models").status, 200, "still open");
    // Nothing was kept, so nothing stands in the way of the next start.
    assert_eq!(site.admin.get("/admin/keys")["data"], json!([]));
}

/// The steps of docs/admin.md, from a start without any file.
#[test]
fn keys_are_possible_from_nothing() {
    let dir = TempDir::new();
    let start = |arguments: &[&str]| {
        let mut command = command();
        command.args(arguments);
        for name in ["FOREBAY_LISTEN", "FOREBAY_OPS_LISTEN", "FOREBAY_ADMIN_LISTEN"] {
            command.env(name, "127.0.0.1:0");
        }
        command.current_dir(dir.path());
        Gateway::run_in_place(command)
    };
    let gateway = start(&["serve"]);
    let token = gateway.said("admin token, shown only this once: ");
    let admin = Admin::at(gateway.admin()).with_token(token.clone());
    let body = json!({"name": "b", "kind": "vllm", "region": "local", "url": "http://127.0.0.1:9"});
    admin.post("/admin/backends", &body);
    let key = json!({"name": "team-a"});
    let refused = admin.ask("POST", "/admin/keys", "", Some(&key));
    assert!(refused.text().contains("[auth]"), "{}", refused.text());
    drop(gateway);

    let file = dir.path().join("forebay.toml");
    std::fs::write(&file, "version = 1\ndefault_region = \"local\"\n[auth]\nmode = \"keys\"\n")
        .unwrap();
    let gateway = start(&["serve", "--config", "forebay.toml"]);
    let admin = Admin::at(gateway.admin()).with_token(token);
    assert_eq!(admin.get("/admin/backends/b")["name"], "b", "what was made before is still there");
    assert_eq!(models(&gateway, "none"), 401);
    let secret = admin.post("/admin/keys", &key).json()["secret"].as_str().unwrap().to_owned();
    assert_eq!(models(&gateway, &secret), 200);
}

#[test]
fn credentials_need_the_master_key_that_sealed_them() {
    let store = Arc::new(TempDir::new());
    let site = Site::on(&store, Mode::Embedded, "");
    let body = json!({
        "name": "b", "kind": "vllm", "region": "eu", "url": "http://127.0.0.1:9", "api_key": "sk-upstream-1234",
    });
    site.admin.post("/admin/backends", &body);
    drop(site);
    let right = config(Mode::Embedded, "", "forebay.db");
    let key = "07".repeat(32);
    assert!(right.contains(&key));
    let help = ["master key", "FOREBAY_MASTER_KEY", "store.master_key"];
    assert_refused(&store, &right.replace(&key, &"08".repeat(32)), &help);
    assert_refused(&store, &right.replace(&key, ""), &help);
    assert_refused(&store, &right.replace(&key, "short"), &["32 bytes", "openssl rand -hex 32"]);
    let previous =
        right.replace(&key, &format!("{}\"\nmaster_key_previous = \"{key}", "08".repeat(32)));
    std::fs::write(store.path().join("forebay.toml"), previous).unwrap();
    let path = store.path().join("forebay.toml");
    let gateway = Gateway::spawn(&["serve", "--config", path.to_str().unwrap()], TempDir::new());
    let shown = Admin::at(gateway.admin()).get("/admin/backends/b");
    assert_eq!(shown["api_key"]["last4"], "1234", "{shown}");
}
