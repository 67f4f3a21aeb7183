//! Objects and overrides that no file holds, put over a configuration.
#![expect(clippy::unwrap_used, reason = "helpers that fail a test")]

mod common;

use std::path::Path;

use common::World;
use config::{Code, Extra, Loaded, Report, effective, load_text};

const FILE: &str = "version = 1\ndefault_region = \"eu\"\n\
    [[backend]]\nname = \"a\"\nkind = \"vllm\"\nurl = \"http://a\"\napi_key = \"sk-file-secret\"\n\
    [[model]]\nname = \"m\"\nregion = \"eu\"\ntimeouts = { idle = \"90s\" }\n";

fn base() -> Loaded {
    load_text("f.toml", FILE, Path::new(""), &World::default()).unwrap()
}

fn world(name: &str, value: &str) -> World {
    World { vars: [(name.to_owned(), value.to_owned())].into(), ..World::default() }
}

fn object(text: &str) -> Extra {
    Extra { name: "stored".into(), text: text.into(), over: false }
}

fn over(text: &str) -> Extra {
    Extra { name: "override".into(), text: text.into(), over: true }
}

fn with(extras: &[Extra]) -> Result<Loaded, Report> {
    base().with(extras, &World::default(), &World::default())
}

#[test]
fn objects_add_up_and_overrides_win() {
    let extras = [
        object(
            "[[backend]]\nname = \"b\"\nkind = \"ollama\"\nurl = \"http://b\"\nregion = \"us\"\n",
        ),
        object("[[region]]\nname = \"us\"\n"),
        over("[[backend]]\nname = \"a\"\nweight = 7\n"),
        over("[[model]]\nname = \"m\"\nregion = \"us\"\n"),
    ];
    let loaded = with(&extras).unwrap();
    let spec = &loaded.config.snapshot;
    assert_eq!(spec.backends.len(), 2);
    assert_eq!(spec.backends[0].weight, 7);
    assert_eq!(spec.models[0].region.as_ref().unwrap().as_str(), "us");
    let mut regions: Vec<&str> = spec.regions.iter().map(|region| region.name.as_str()).collect();
    regions.sort_unstable();
    // The file's own region stays implied although one is stored.
    assert_eq!(regions, ["eu", "us"]);
    let shown = effective(&loaded);
    assert!(shown.contains("weight = 7  # override"), "{shown}");
    assert!(shown.contains("name = \"b\"  # stored"), "{shown}");
    assert!(!shown.contains("sk-file"), "{shown}");
    // The base is as it was.
    assert_eq!(base().config.snapshot.backends[0].weight, 1);
}

#[test]
fn what_is_wrong_is_told_in_its_own_text() {
    let extras = [
        object("[[head]]\nname = \"h\"\nregion = \"eu\"\nbackends = [\"a\", \"gone\"]\n"),
        object("[[backend]]\nname = \"a\"\nkind = \"vllm\"\nurl = \"http://c\"\n"),
        over("[[model]]\nname = \"absent\"\nregion = \"eu\"\n"),
        over("[[backend]]\nname = \"a\"\nweight = 0\n"),
    ];
    let report = with(&extras).unwrap_err();
    let first = base().sources.len();
    let mut found: Vec<(usize, Code)> = report
        .diagnostics
        .iter()
        .map(|d| (d.place.as_ref().unwrap().source - first, d.code))
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            (0, Code::UnknownReference),
            (1, Code::DuplicateName),
            (2, Code::UnknownReference),
            (3, Code::OutOfRange)
        ]
    );
}

#[test]
fn extra_texts_are_expanded_by_their_own_environment_alone() {
    let secrets = world("SEALED_1", "sk-opened");
    let env = world("HOME_KEY", "sk-home");
    let backend = |key: &str| {
        object(&format!(
            "[[backend]]\nname = \"b\"\nkind = \"vllm\"\nurl = \"http://b\"\napi_key = \"{key}\"\n"
        ))
    };
    let loaded = base().with(&[backend("${SEALED_1}")], &secrets, &env).unwrap();
    let key = loaded.config.snapshot.backends[1].api_key.as_ref().unwrap();
    assert_eq!(key.expose(), "sk-opened");
    for key in ["${HOME_KEY}", "${file:/etc/hostname}"] {
        let report = base().with(&[backend(key)], &secrets, &env).unwrap_err();
        assert_eq!(report.diagnostics.len(), 1, "{key}");
    }
}

#[test]
fn declared_objects_are_json_without_credentials() {
    let loaded = base();
    let model = loaded.declared("model").next().unwrap();
    assert_eq!((model.name.as_str(), model.line), ("m", 8));
    assert_eq!(
        serde_json::Value::Object(model.body),
        serde_json::json!({"name": "m", "region": "eu", "timeouts": {"idle": "90s"}})
    );
    let backend = loaded.declared("backend").next().unwrap();
    assert_eq!(backend.body["api_key"], serde_json::json!({"set": true}));
}

#[test]
fn a_certificate_that_is_gone_spoils_nothing_that_is_put_over() {
    let text = "version = 1\ndefault_region = \"eu\"\n[[backend]]\nname = \"a\"\nkind = \"vllm\"\n\
        url = \"https://a\"\nca = \"ca.pem\"\n";
    let pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    let there = World { files: [("ca.pem".into(), pem.to_owned())].into(), ..World::default() };
    let base = load_text("f.toml", text, Path::new(""), &there).unwrap();
    let gone = World::default();
    let stored = |ca: &str| {
        object(&format!(
            "[[backend]]\nname = \"b\"\nkind = \"vllm\"\nurl = \"https://b\"\nca = \"{ca}\"\n"
        ))
    };
    let loaded = base.with(&[stored("ca.pem")], &gone, &gone).unwrap();
    let roots: Vec<_> =
        loaded.config.snapshot.backends.iter().map(|b| b.ca_pem.as_deref()).collect();
    assert_eq!(roots, [Some(pem), Some(pem)]);
    let report = base.with(&[stored("other.pem")], &gone, &gone).unwrap_err();
    assert_eq!(report.diagnostics[0].code, Code::Unreadable);
}
