//! Who may depend on whom. The planes meet in the `forebay` command alone; the core knows no I/O.
#![expect(clippy::unwrap_used, reason = "a failed test is how these tests report")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Every crate, and the crates of ours that it may use. A crate that is missing here is an error; so is an edge.
const EDGES: [(&str, &[&str]); 6] = [
    ("router", &[]),
    ("config", &["router"]),
    ("adapters", &["router"]),
    ("admin", &["adapters", "config", "router"]),
    ("gateway", &["adapters", "router"]),
    ("loadtest", &[]),
];
/// What only the command joins: optional dependencies of `gateway`, off in its library.
const COMMAND_ONLY: [&str; 3] = ["admin", "config", "loadtest"];
/// Packages that may use anything.
const FREE: [&str; 2] = ["benches", "tests"];
/// Packages that a crate must not reach, however indirectly.
const UNREACHABLE: [(&str, &[&str]); 4] = [
    ("router", &["tokio", "hyper", "http", "serde_json", "toml", "metrics"]),
    ("adapters", &["tokio", "hyper", "http", "toml", "config"]),
    ("config", &["tokio", "hyper", "adapters"]),
    ("gateway", &["admin", "config", "loadtest", "toml", "clap"]),
];

fn cargo(arguments: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The normal dependencies of each package on others of the workspace: mandatory ones, then optional ones.
fn edges() -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps", "--locked"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let mut edges = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let (mut mandatory, mut optional) = (BTreeSet::new(), BTreeSet::new());
        for dependency in package["dependencies"].as_array().unwrap() {
            // Dependencies of tests have the kind "dev", those of build scripts "build".
            if dependency["path"].is_null() || dependency["kind"] == "dev" {
                continue;
            }
            let name = dependency["name"].as_str().unwrap().to_owned();
            let kind = if dependency["optional"] == true { &mut optional } else { &mut mandatory };
            kind.insert(name);
        }
        edges.insert(package["name"].as_str().unwrap().to_owned(), (mandatory, optional));
    }
    edges
}

#[test]
fn the_crates_depend_in_one_direction() {
    for (package, (mandatory, optional)) in edges() {
        if FREE.contains(&package.as_str()) {
            continue;
        }
        let pinned = EDGES.iter().find(|(name, _)| *name == package);
        let (_, allowed) = pinned.unwrap_or_else(|| panic!("{package} is not in the crate graph"));
        let allowed: BTreeSet<String> = allowed.iter().map(ToString::to_string).collect();
        assert_eq!(mandatory, allowed, "what {package} always depends on");
        let joins = package == "gateway";
        let stray: Vec<_> = optional
            .iter()
            .filter(|name| !joins || !COMMAND_ONLY.contains(&name.as_str()))
            .collect();
        assert!(stray.is_empty(), "{package} depends on {stray:?}");
    }
}

#[test]
fn what_a_crate_must_not_know_is_out_of_its_reach() {
    for (package, forbidden) in UNREACHABLE {
        let tree = cargo(&[
            "tree",
            "--package",
            package,
            "--no-default-features",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{lib}",
            "--locked",
        ]);
        // A package that was listed before is marked behind its name.
        let reached: BTreeSet<&str> =
            tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert!(reached.contains(package), "cargo tree did not list {package}: {tree}");
        let wrong: Vec<_> = forbidden.iter().filter(|name| reached.contains(*name)).collect();
        assert!(wrong.is_empty(), "{package} reaches {wrong:?}");
    }
}
