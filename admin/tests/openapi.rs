//! The committed OpenAPI document and the table of problems against the code.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document() -> Value {
    serde_json::from_str(&admin::api::openapi()).unwrap()
}

#[test]
fn the_committed_document_is_what_the_code_says() {
    let path = root().join("docs/openapi.json");
    let made = admin::api::openapi();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "docs/openapi.json is old: UPDATE_EXPECT=1 cargo test -p admin --test openapi"
    );
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_used() {
    let document = document();
    let mut references = BTreeSet::new();
    collect(&document, &mut references);
    for reference in &references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(references.contains(&format!("#/components/schemas/{name}")), "{name} is not used");
    }
}

fn collect(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                into.insert(reference.clone());
            }
            map.values().for_each(|value| collect(value, into));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
        _ => {}
    }
}

#[test]
fn operations_are_told_apart_and_described() {
    let document = document();
    let mut ids = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned(), path.clone()).is_none(), "{id} comes twice");
            assert!(!operation["summary"].as_str().unwrap().ends_with('.'), "{id}");
            assert!(operation["description"].as_str().unwrap().ends_with('.'), "{id}");
            let answers = operation["responses"].as_object().unwrap();
            assert!(answers.keys().any(|status| status.starts_with('2')), "{id}");
            let public = operation["security"].is_array();
            assert_eq!(answers.contains_key("401"), !public, "{id} {method}");
        }
    }
}

/// The table of `docs/admin-errors.md` has a row for each problem, with its status.
#[test]
fn every_problem_is_documented() {
    let text = std::fs::read_to_string(root().join("docs/admin-errors.md")).unwrap();
    let rows: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            Some((cells.next()?.trim_end_matches('`').to_owned(), cells.next()?.trim().to_owned()))
        })
        .collect();
    let document = document();
    let problems = document["x-forebay-problems"].as_array().unwrap();
    for problem in problems {
        let code = problem["code"].as_str().unwrap();
        assert_eq!(rows.get(code), Some(&problem["status"].to_string()), "{code}");
    }
    assert_eq!(rows.len(), problems.len());
}
