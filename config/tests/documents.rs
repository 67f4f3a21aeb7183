//! What is generated from the table of keys is committed, and the examples hold. `UPDATE_EXPECT=1` writes anew.
#![expect(clippy::unwrap_used, reason = "helpers that fail a test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::World;
use config::{
    Loaded, ProcessEnvironment, Style, diff, effective, load, load_text, reference, schema,
};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn committed(path: &str, now: &str) {
    let path = here(path);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, now).unwrap();
    }
    let then = fs::read_to_string(&path).unwrap_or_default();
    assert!(then == now, "{} has drifted; UPDATE_EXPECT=1 writes it anew", path.display());
}

fn text(text: &str) -> Loaded {
    load_text("forebay.toml", text, Path::new("/etc/forebay"), &World::default()).unwrap()
}

#[test]
fn the_schema_is_the_one_of_this_build() {
    committed("forebay.schema.json", &schema());
}

#[test]
fn the_reference_is_the_one_of_this_build() {
    let path = here("../docs/config.md");
    let page = fs::read_to_string(&path).unwrap();
    let (start, end) = ("<!-- keys: generated -->\n", "<!-- end of keys -->");
    let from = page.find(start).unwrap() + start.len();
    let to = page.find(end).unwrap();
    let now = format!("{}{}{}", &page[..from], reference(), &page[to..]);
    committed("../docs/config.md", &now);
}

#[test]
fn the_page_lists_every_code() {
    let page = fs::read_to_string(here("../docs/config.md")).unwrap();
    for code in config::Code::ALL {
        let row = format!("| {} | {} | {} |", code.number(), code.name(), code.meaning());
        assert!(page.contains(&row), "docs/config.md lacks: {row}");
    }
}

#[test]
fn every_example_is_accepted_without_a_warning() {
    let names = ["homelab", "lab", "regions", "production"];
    for name in names {
        let path = here(&format!("examples/{name}.toml"));
        let loaded =
            load(std::slice::from_ref(&path), &World::of_disk()).unwrap_or_else(|report| {
                panic!("{}", report.render(Style::default()));
            });
        let warnings: Vec<_> = loaded.warnings.iter().map(|warning| warning.code).collect();
        assert_eq!(warnings, [], "{name}: {}", loaded.report().render(Style::default()));
    }
    let count = fs::read_dir(here("examples")).unwrap().count();
    assert_eq!(count, names.len(), "an example is not tested");
}

#[test]
fn default_toml_is_accepted_as_a_file() {
    let loaded = load(&[here("default.toml")], &ProcessEnvironment).unwrap();
    assert_eq!(loaded.config.snapshot, config::Config::default().snapshot);
}

#[test]
fn the_effective_configuration_says_where_values_come_from_and_no_secrets() {
    let mut world = World::default();
    world.vars.insert("FOREBAY_LISTEN".into(), "127.0.0.1:9999".into());
    world.vars.insert("VALUE".into(), "canary".into());
    let text = r#"
        [admin]
        token = "canary"
        [[backend]]
        name = "a"
        kind = "vllm"
        url = "http://10.0.0.1:8000"
        api_key = "${VALUE}"
        labels = { note = "${VALUE}", password = "canary" }
        [[model]]
        name = "m"
        [model.deployments]
        a = { api_key = "canary", weight = 2 }
    "#;
    let loaded = load_text("forebay.toml", text, Path::new("/etc"), &world).unwrap();
    let shown = effective(&loaded);
    assert!(!shown.contains("canary"), "{shown}");
    for line in [
        "listen = \"127.0.0.1:9999\"  # environment FOREBAY_LISTEN",
        "token = \"***\"  # forebay.toml:3",
        "weight = 1  # default",
        "max_body = \"64MiB\"  # default",
        "api_key = \"***\"  # forebay.toml:8",
        "total = \"off\"  # default",
        "a = { api_key = \"***\", weight = 2 }  # forebay.toml:13",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "lacks {line}:\n{shown}");
    }
    // What is shown is TOML again.
    let table: toml::Table = shown.parse().unwrap();
    assert_eq!(table["server"]["limits"]["headers"].as_integer(), Some(100));
}

#[test]
fn a_difference_names_objects_and_hides_secrets() {
    let backend =
        |rest: &str| format!("[[backend]]\nname = 'a'\nkind = 'vllm'\nurl = 'http://x'\n{rest}\n");
    let a = text(&backend("weight = 1\napi_key = 'canary-1'"));
    let b = text(&format!(
        "head_hold = '5s'\n{}",
        backend("weight = 3\napi_key = 'canary-2'\nlocal = true")
    ));
    assert_eq!(
        diff(&a, &b),
        "~ backend.a.api_key: \"***\" -> \"***\"\n\
         + backend.a.local = true\n\
         ~ backend.a.weight: 1 -> 3\n\
         ~ head_hold: \"30s\" -> \"5s\"\n"
    );
    assert_eq!(diff(&a, &a), "");
}
