//! Files in, configurations out.
#![expect(clippy::panic, reason = "a helper that fails a test")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::World;
use config::{AuthMode, Code, Config, Loaded, Report, RestrictionKind, Style, load, load_text};
use router::spec::{Policy, Residency, SessionSource};

fn accept(text: &str) -> Loaded {
    accept_in(&World::default(), text)
}

fn accept_in(world: &World, text: &str) -> Loaded {
    match load_text("forebay.toml", text, Path::new("/etc/forebay"), world) {
        Ok(loaded) => loaded,
        Err(report) => panic!("refused:\n{}", report.render(Style::default())),
    }
}

fn refuse(text: &str) -> Report {
    refuse_in(&World::default(), text)
}

fn refuse_in(world: &World, text: &str) -> Report {
    match load_text("forebay.toml", text, Path::new("/etc/forebay"), world) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(report) => report,
    }
}

fn codes(report: &Report) -> Vec<Code> {
    report.diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
}

const SAMPLE: &str = include_str!("sample.toml");

#[test]
fn a_sample_of_every_section_is_accepted_whole() {
    let loaded = accept(SAMPLE);
    let spec = &loaded.config.snapshot;
    assert_eq!(spec.regions.len(), 2);
    assert_eq!(spec.backends.len(), 2);
    assert_eq!(spec.backends[0].max_in_flight, Some(64));
    assert_eq!(spec.backends[0].weight, 2);
    assert_eq!(spec.backends[0].api_key, None, "an empty credential is none");
    let model = &spec.models[0];
    assert_eq!(model.residency, Residency::Strict);
    assert_eq!(model.priority_head.as_ref().unwrap().as_str(), "head-eu");
    assert_eq!(model.timeouts.first_event, Some(Duration::from_secs(60)));
    assert_eq!(loaded.config.auth.mode, AuthMode::Keys);
    let kinds: Vec<RestrictionKind> =
        config::restrictions(&loaded.config).iter().map(|one| one.what).collect();
    assert_eq!(
        kinds,
        [
            RestrictionKind::AuthKeys,
            RestrictionKind::KeyTable,
            RestrictionKind::StrictResidency,
            RestrictionKind::ModelCacheRegion,
        ]
    );
}

#[test]
fn the_defaults_are_those_of_the_types() {
    let loaded = config::defaults(&World::default());
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config, Config::default());
}

#[test]
fn one_backend_is_enough() {
    let loaded = accept("[[backend]]\nname = 'a'\nkind = 'vllm'\nurl = 'http://[::1]:8000/v1/'\n");
    let backend = &loaded.config.snapshot.backends[0];
    assert_eq!(backend.url, "http://[::1]:8000");
    assert_eq!(backend.region.as_str(), "local");
    assert_eq!(loaded.config.snapshot.regions[0].name.as_str(), "local");
    assert!(loaded.warnings.is_empty());
}

#[test]
fn variables_files_and_escapes_are_expanded_once() {
    let mut world = World::default();
    world.vars.insert("PORT".into(), "9000".into());
    world.vars.insert("CAP".into(), "7".into());
    world.vars.insert("ODD".into(), "${PORT}".into());
    world.files.insert("/etc/forebay/key.txt".into(), "sk-from-a-file\n".into());
    let loaded = accept_in(
        &world,
        r#"
        [[backend]]
        name = "a"
        kind = "openai"
        url = "http://10.0.0.1:${PORT}"
        api_key = "${file:key.txt}"
        max_in_flight = "${CAP}"
        labels = { a = "$${x}", b = "${ODD}", c = "${NONE:-fallback}" }
        "#,
    );
    let backend = &loaded.config.snapshot.backends[0];
    assert_eq!(backend.url, "http://10.0.0.1:9000");
    assert_eq!(backend.api_key.as_ref().unwrap().expose(), "sk-from-a-file");
    assert_eq!(backend.max_in_flight, Some(7));
    assert_eq!(backend.labels["a"], "${x}");
    assert_eq!(backend.labels["b"], "${PORT}", "what a variable holds is not expanded again");
    assert_eq!(backend.labels["c"], "fallback");
    assert!(loaded.files.contains(&PathBuf::from("/etc/forebay/key.txt")));
}

#[test]
fn relative_paths_start_at_the_file() {
    let loaded = accept("[store]\npath = 'x.db'\n[server.tls]\ncert = 'c.pem'\nkey = '/k.pem'\n");
    assert_eq!(loaded.config.store.path, Path::new("/etc/forebay/x.db"));
    let tls = loaded.config.server.tls.unwrap();
    assert_eq!(tls.cert, Path::new("/etc/forebay/c.pem"));
    assert_eq!(tls.key, Path::new("/k.pem"));
    assert!(loaded.files.contains(&tls.key), "certificates are watched");
}

#[test]
fn listeners_follow_the_environment() {
    let mut world = World::default();
    world.vars.insert("FOREBAY_LISTEN".into(), "0.0.0.0:80".into());
    world.vars.insert("FOREBAY_OPS_LISTEN".into(), ":9".into());
    let loaded = accept_in(&world, "[auth]\nmode = 'keys'\n[server]\nlisten = '127.0.0.1:1'\n");
    assert_eq!(loaded.config.server.listen.to_string(), "0.0.0.0:80");
    assert_eq!(loaded.config.ops.listen.to_string(), "0.0.0.0:9");
    world.vars.insert("FOREBAY_ADMIN_LISTEN".into(), "nonsense".into());
    assert!(codes(&refuse_in(&world, "auth.mode = 'keys'")).contains(&Code::WrongValue));
}

#[test]
fn master_keys_come_from_the_environment_unless_the_file_has_them() {
    let mut world = World::default();
    let none = accept_in(&world, "").config.store;
    assert_eq!((none.master_key, none.master_key_previous), (None, None));
    world.vars.insert("FOREBAY_MASTER_KEY".into(), "ab".repeat(32));
    world.vars.insert("FOREBAY_MASTER_KEY_PREVIOUS".into(), "cd".repeat(32));
    let store = accept_in(&world, "").config.store;
    assert_eq!(store.master_key.unwrap().expose(), "ab".repeat(32));
    assert_eq!(store.master_key_previous.unwrap().expose(), "cd".repeat(32));
    let own = format!("[store]\nmaster_key = '{}'\n", "ef".repeat(32));
    let store = accept_in(&world, &own).config.store;
    assert_eq!(store.master_key.unwrap().expose(), "ef".repeat(32));
    world.vars.insert("FOREBAY_MASTER_KEY_PREVIOUS".into(), "canary".into());
    let report = refuse_in(&world, "");
    assert_eq!(codes(&report), [Code::Secret]);
    assert!(!format!("{report:?}").contains("canary"));
}

#[test]
fn open_has_to_be_said_where_others_can_come_in() {
    let report = refuse("server.listen = '0.0.0.0:8080'");
    assert_eq!(codes(&report), [Code::AuthUnsaid]);
    let loaded = accept("server.listen = '0.0.0.0:8080'\nauth.mode = 'open'");
    assert_eq!(loaded.warnings[0].code, Code::OpenToAll);
    let report = refuse("[[key]]\nname = 'a'\nsecret = '0123456789abcdef'");
    assert_eq!(codes(&report), [Code::AuthUnsaid]);
    assert!(!accept("").config.auth.said);
}

#[test]
fn several_files_make_one_configuration() {
    let mut world = World::default();
    let backend = |name: &str| {
        format!("[[backend]]\nname = '{name}'\nkind = 'vllm'\nurl = 'http://{name}'\n")
    };
    world.files.insert(
        "/c/main.toml".into(),
        format!("include = ['d']\n[server]\nlisten = '127.0.0.1:1'\n{}", backend("a")),
    );
    world.files.insert("/c/d/1.toml".into(), backend("b"));
    world
        .files
        .insert("/c/d/2.toml".into(), format!("[server]\nmax_body = '1MiB'\n{}", backend("c")));
    let loaded = load(&["/c/main.toml".into()], &world).unwrap();
    let names: Vec<&str> =
        loaded.config.snapshot.backends.iter().map(|backend| backend.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(loaded.config.snapshot.service.max_body, 1 << 20);
    assert_eq!(loaded.files.len(), 4, "three files and the folder");
    let folder = load(&["/c/d".into()], &world).unwrap();
    assert_eq!(folder.config.snapshot.backends.len(), 2);
    world.files.insert(
        "/c/d/3.toml".into(),
        "include = ['../main.toml']\n[server]\nlisten = '127.0.0.1:2'".into(),
    );
    let report = load(&["/c/main.toml".into()], &world).unwrap_err();
    assert_eq!(codes(&report), [Code::Include, Code::SetTwice]);
    assert!(load(&["/none.toml".into()], &world).is_err());
}

#[test]
fn policies_and_caches_are_read() {
    let loaded = accept(
        r#"
        policy = "session"
        session_header = "X-Session"
        [timeouts]
        total = "1h30m"
        [[model]]
        name = "m"
        policy = "prefix_hash"
        cache = { ttl = "2h", scope = "shared" }
        timeouts = { total = "off" }
        [model.deployments]
        a = "upstream/a"
        b = { weight = 3 }
        [[backend]]
        name = "a"
        kind = "vllm"
        url = "http://a"
        [[backend]]
        name = "b"
        kind = "vllm"
        url = "http://b"
        "#,
    );
    let spec = &loaded.config.snapshot;
    assert_eq!(spec.policy, Policy::Session(SessionSource::Header("x-session".into())));
    assert_eq!(spec.timeouts.total, Some(Duration::from_secs(5400)));
    assert_eq!(spec.models[0].policy, Some(Policy::PrefixHash));
    assert_eq!(spec.models[0].deployments.len(), 2);
    assert_eq!(
        spec.models[0].deployments[0].upstream_model.as_ref().unwrap().as_str(),
        "upstream/a"
    );
    assert_eq!(spec.models[0].deployments[1].weight, Some(3));
    let cache = loaded.config.models.values().next().unwrap().cache;
    assert_eq!(cache.enabled, Some(true));
    assert_eq!(cache.ttl, Some(Duration::from_secs(7200)));
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_no_mistake() {
    let loaded = accept("\u{feff}[server]\r\nlisten = \"127.0.0.1:1\"\r\n");
    assert_eq!(loaded.config.server.listen.port(), 1);
    let report = refuse("\u{feff}[server]\r\nliten = 1\r\n");
    assert!(report.render(Style::default()).contains("forebay.toml:2:1\n"));
}

#[test]
fn a_broken_file_still_tells_where_the_store_is() {
    for broken in ["[server]\nliten = 1\n", "[server]\nlisten = \n"] {
        let report = refuse(&format!("[store]\npath = 'x.db'\n{broken}"));
        assert_eq!(report.store, Path::new("/etc/forebay/x.db"));
    }
    assert_eq!(refuse("x = 1").store, Path::new("/etc/forebay/data/forebay.db"));
}

#[test]
fn a_model_for_local_backends_alone_wants_one() {
    let text = "[[backend]]\nname = 'a'\nkind = 'vllm'\nurl = 'http://a'\n";
    let model = "[[model]]\nname = 'm'\nlocal_inference = true\n";
    let warned = |loaded: &Loaded| loaded.warnings.iter().any(|one| one.code == Code::NoWay);
    assert!(warned(&accept(&format!("{text}{model}"))));
    assert!(!warned(&accept(&format!("{text}local = true\n{model}"))));
}

#[test]
fn moments_are_unix_seconds() {
    for (text, seconds) in [
        ("2035-01-01T00:00:00Z", 2_051_222_400),
        ("'2024-02-29T12:00:00+01:00'", 1_709_204_400),
        ("1970-01-01T00:00:01Z", 1),
    ] {
        let key = format!(
            "auth.mode = 'keys'\n[[key]]\nname = 'a'\nsecret = '0123456789abcdef'\nexpires = {text}\n"
        );
        assert_eq!(accept(&key).config.keys[0].expires, Some(seconds));
    }
}

#[test]
fn json_has_places_and_no_secrets() {
    let report =
        refuse("[[backend]]\nname = 'a'\nkind = 'vlm'\nurl = 'http://x'\napi_kye = 'sk-canary'\n");
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!(json["errors"], 2);
    assert_eq!(json["diagnostics"][0]["place"]["line"], 3);
    assert_eq!(json["diagnostics"][0]["place"]["column"], 8);
    assert!(!report.to_json().contains("canary"));
    assert!(!report.render(Style { color: true }).contains("canary"));
    assert!(!format!("{report:?}").contains("canary"));
}

#[test]
fn a_large_file_is_loaded_and_its_time_printed() {
    use std::fmt::Write as _;
    let mut text = String::new();
    for at in 0..500 {
        let _ = write!(
            text,
            "[[backend]]\nname = 'b{at}'\nkind = 'vllm'\nurl = 'http://10.0.0.1:{}'\nregion = 'eu'\n\
             api_key = '${{K:-}}'\n[[head]]\nname = 'h{at}'\nregion = 'eu'\nbackends = ['b{at}']\n",
            1000 + at
        );
    }
    for at in 0..2000 {
        let _ = write!(
            text,
            "[[model]]\nname = 'm{at}'\nregion = 'eu'\nresidency = 'strict'\npriority_head = 'h{}'\n\
             heads = ['h{}']\nfallbacks = ['m{}']\n",
            at % 500,
            (at + 1) % 500,
            if at + 1 < 2000 { at + 1 } else { 2000 }
        );
    }
    let start = std::time::Instant::now();
    let loaded = accept(&text);
    println!("500 backends x 2,000 models: {:?}", start.elapsed());
    assert_eq!(loaded.config.snapshot.models.len(), 2000);
}
