//! However a file is replaced, the gateway notices; whatever it then says, the gateway goes on.

#[expect(dead_code, reason = "each test file uses its part of the harness")]
mod support;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;

use support::edits::{edit, file, refuse, reloads, text};
use support::{Gateway, TempDir, command, tiny, tiny_backend, wait_until};

const SUCCESSFUL: &str = "forebay_config_last_reload_successful";

/// A gateway, and its file's text with another alias each time.
struct Named {
    gateway: Gateway,
    text: String,
    n: usize,
}

impl Named {
    fn start() -> Self {
        let (upstream, table) = tiny_backend();
        // Nothing is asked of it here.
        drop(upstream);
        let gateway =
            Gateway::start(&format!("{table}[[model]]\nname = \"tiny\"\naliases = [\"name-0\"]\n"));
        let text = text(&gateway);
        Self { gateway, text, n: 0 }
    }

    /// Writes the next text in the way that is given, and waits until it holds.
    fn next(&mut self, way: &str, write: impl FnOnce(&str)) {
        self.n += 1;
        let name = format!("name-{}", self.n);
        write(&self.text.replace("name-0", &name));
        wait_until(&format!("{way}: {name}"), || {
            self.gateway.client().get(&format!("/v1/models/{name}")).status == 200
        });
        assert_eq!(reloads(&self.gateway, "refused"), 0, "{way}: {}", self.gateway.log());
    }
}

#[test]
fn every_way_to_save_a_file_is_noticed() {
    let mut named = Named::start();
    let file = file(&named.gateway);
    let swap = file.with_extension("swp");
    let backup = file.with_extension("toml~");
    for _ in 0..2 {
        named.next("rename over it", |text| {
            fs::write(&swap, text).unwrap();
            fs::rename(&swap, &file).unwrap();
        });
        named.next("vim with a backup", |text| {
            fs::rename(&file, &backup).unwrap();
            fs::write(&file, text).unwrap();
            fs::remove_file(&backup).unwrap();
        });
        named.next("cp", |text| {
            fs::write(&swap, text).unwrap();
            fs::copy(&swap, &file).unwrap();
        });
        named.next("truncate, then write in pieces", |text| {
            let mut open = fs::File::create(&file).unwrap();
            open.sync_all().unwrap();
            text.as_bytes().chunks(50).for_each(|piece| open.write_all(piece).unwrap());
        });
        named.next("delete and create", |text| {
            fs::remove_file(&file).unwrap();
            fs::write(&file, text).unwrap();
        });
    }
}

#[test]
fn a_mounted_folder_whose_symlink_is_swapped_is_noticed() {
    let mut named = Named::start();
    let dir = named.gateway.dir.path().to_owned();
    let file = file(&named.gateway);
    let put = |version: &str, text: &str| {
        fs::create_dir(dir.join(version)).unwrap();
        fs::write(dir.join(version).join("forebay.toml"), text).unwrap();
        symlink(version, dir.join("..tmp")).unwrap();
        fs::rename(dir.join("..tmp"), dir.join("..data")).unwrap();
    };
    // As Kubernetes mounts it: the file is a link into a link to a folder.
    named.next("becoming a link", |text| {
        put("..1", text);
        fs::remove_file(&file).unwrap();
        symlink("..data/forebay.toml", &file).unwrap();
    });
    for version in ["..2", "..3"] {
        named.next("a swapped link", |text| put(version, text));
    }
}

#[test]
fn a_signal_reloads_and_a_file_that_is_gone_changes_nothing() {
    let (_upstream, gateway) = tiny("");
    gateway.signal("HUP");
    wait_until("a reload", || reloads(&gateway, "applied") == 1);
    let kept = text(&gateway);
    fs::remove_file(file(&gateway)).unwrap();
    gateway.signal("HUP");
    wait_until("a refusal", || reloads(&gateway, "refused") > 0);
    assert_eq!(gateway.client().chat("tiny", "").status, 200);
    fs::write(file(&gateway), kept).unwrap();
    wait_until("a reload", || reloads(&gateway, "applied") == 2);
}

#[test]
fn a_bad_file_changes_nothing_and_says_where_it_is_wrong() {
    let (_upstream, gateway) = tiny("");
    assert!(gateway.metric(SUCCESSFUL) > 0.5);
    let since = gateway.metric("forebay_config_last_reload_timestamp_seconds");
    let good = text(&gateway);
    refuse(&gateway, &good.replacen("[server]", "[servre]", 1));
    assert!(gateway.metric(SUCCESSFUL) < 0.5);
    let line = good.lines().position(|line| line == "[server]").unwrap() + 1;
    for word in
        [&*format!("forebay.toml:{line}:2"), "E010", "servre", "`server`", "the old one stays"]
    {
        wait_until(word, || gateway.log().contains(word));
    }
    // Well-formed, and impossible: the listener cannot be had.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let asked = format!("[server]\nlisten = \"{addr}\"\nmax_body = \"1KiB\"\n");
    refuse(&gateway, &good.replacen("[server]\nlisten = \"127.0.0.1:0\"\n", &asked, 1));
    wait_until("the address", || gateway.log().contains(&format!("cannot listen on {addr}")));
    let long = format!(",\"user\":\"{}\"", "x".repeat(4096));
    assert_eq!(gateway.client().chat("tiny", &long).status, 200, "the rest is not applied either");
    assert!(gateway.metric(SUCCESSFUL) < 0.5);
    let unchanged = gateway.metric("forebay_config_last_reload_timestamp_seconds");
    assert!((unchanged - since).abs() < 1e-6, "{since} {unchanged}");
    edit(&gateway, &asked, "[server]\nlisten = \"127.0.0.1:0\"\nmax_body = \"1KiB\"\n");
    assert!(gateway.metric(SUCCESSFUL) > 0.5);
    assert_eq!(gateway.client().chat("tiny", &long).status, 413);
}

#[test]
fn the_last_good_configuration_serves_until_the_file_is_mended() {
    let (_upstream, mut gateway) = tiny("drain = { grace = \"0s\" }\nmax_body = \"2KiB\"");
    edit(&gateway, "2KiB", "3KiB");
    refuse(&gateway, &text(&gateway).replacen("[server]", "[servre]", 1));
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    let kept = gateway.dir.path().join("last-good.json");
    assert!(fs::read_to_string(&kept).unwrap().contains("3KiB"));

    // The same folder, kept alive by its first owner.
    let config = file(&gateway);
    let config = config.to_str().unwrap();
    let refused = command().args(["serve", "--config", config]).output().unwrap();
    assert_eq!(refused.status.code(), Some(78));
    let again = Gateway::spawn(&["serve", "--config", config, "--last-good"], TempDir::new());
    again.wait_for_model("tiny");
    let long = |bytes: usize| {
        let extra = format!(",\"user\":\"{}\"", "x".repeat(bytes));
        again.client().chat("tiny", &extra).status
    };
    assert_eq!((long(2500), long(4000)), (200, 413));
    // What was offered is refused, and what is kept stays.
    wait_until("the refusal", || reloads(&again, "refused") == 1);
    assert!(again.metric(SUCCESSFUL) < 0.5);
    let mended = fs::read_to_string(&kept).unwrap();
    let document: serde_json::Value = serde_json::from_str(&mended).unwrap();
    let mended = document["files"][0]["text"].as_str().unwrap().replace("3KiB", "5KiB");
    fs::write(Path::new(config), mended).unwrap();
    wait_until("the mended file", || reloads(&again, "applied") == 1);
    assert_eq!(long(4000), 200);
    assert!(again.metric(SUCCESSFUL) > 0.5);
}

#[test]
fn the_examples_start() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/examples");
    // Nobody ever answers there: it is served all the same.
    let redis = TcpListener::bind("127.0.0.1:0").unwrap();
    let redis_url = format!("redis://{}", redis.local_addr().unwrap());
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let serve = |name: &str| {
        let dir = TempDir::new();
        fs::create_dir(dir.path().join("tls")).unwrap();
        fs::write(dir.path().join("tls/fullchain.pem"), certified.cert.pem()).unwrap();
        fs::write(dir.path().join("tls/privkey.pem"), certified.signing_key.serialize_pem())
            .unwrap();
        let config = dir.path().join(name);
        fs::copy(examples.join(name), &config).unwrap();
        let mut command = command();
        command.args(["serve", "--config", config.to_str().unwrap()]);
        for variable in ["FOREBAY_LISTEN", "FOREBAY_OPS_LISTEN", "FOREBAY_ADMIN_LISTEN"] {
            command.env(variable, "127.0.0.1:0");
        }
        command.env("REDIS_URL", &redis_url);
        Gateway::run(command, dir)
    };
    for (name, model) in
        [("homelab.toml", "gpt-4o-mini"), ("lab.toml", "large"), ("regions.toml", "mistral-7b")]
    {
        let gateway = serve(name);
        assert_eq!(gateway.client().get(&format!("/v1/models/{model}")).status, 200, "{name}");
        let ready = support::Client::new(gateway.ops).get("/readyz");
        assert_eq!(ready.status, 200, "{name}: {}", ready.text());
    }
    let production = serve("production.toml");
    let ready = support::Client::new(production.ops).get("/readyz");
    assert_eq!(ready.status, 200, "{}", ready.text());
}
