//! The documents hold what the code holds, no more and no less.

use std::collections::BTreeSet;

use crate::tree::{files, has_extension, none, read, root};

type Names = BTreeSet<String>;

/// What stands between `before` and the next `after`, each time.
fn between<'t>(text: &'t str, before: &str, after: char) -> impl Iterator<Item = &'t str> {
    text.split(before)
        .skip(1)
        .filter_map(move |rest| rest.split_once(after).map(|(found, _)| found))
}

/// The first column of a document's tables, where it is set as code.
fn documented(text: &str) -> Names {
    between(text, "\n| `", '`').map(str::to_owned).collect()
}

fn same(code: &Names, document: &Names, path: &str) {
    assert!(!code.is_empty(), "nothing was found in the code");
    let missing: Vec<_> = code.difference(document).collect();
    let invented: Vec<_> = document.difference(code).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "{path}: missing {missing:?}, invented {invented:?}"
    );
}

#[test]
fn every_metric_is_documented() {
    let source = read("gateway/src/telemetry.rs");
    let (_, list) = source.split_once("pub const METRICS").unwrap();
    let (list, _) = list.split_once("];").unwrap();
    let metrics: Names =
        between(list, "\"forebay_", '"').map(|name| format!("forebay_{name}")).collect();
    same(&metrics, &documented(&read("docs/metrics.md")), "docs/metrics.md");
}

#[test]
fn every_error_code_is_documented() {
    let source: String =
        read("gateway/src/error.rs").split_whitespace().collect::<Vec<_>>().join(" ");
    // A row is `(S::BAD_GATEWAY, "upstream_error", ...)`.
    let codes: Names = between(&source, "(S::", ')')
        .filter_map(|row| row.split('"').nth(1).map(str::to_owned))
        .collect();
    same(&codes, &documented(&read("docs/errors.md")), "docs/errors.md");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for file in files(|path| has_extension(path, "md")) {
        let folder = root().join(&file.path).parent().unwrap().to_owned();
        for target in between(&file.text, "](", ')') {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            if !folder.join(path).exists() {
                broken.push(format!("{}: {target}", file.path));
            }
        }
    }
    none(&broken, "a link leads nowhere");
}
