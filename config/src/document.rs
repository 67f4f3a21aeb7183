//! The words of `default.toml` about each key, for the schema and the reference.

use std::collections::BTreeMap;

use crate::load::DEFAULT_TOML;

/// What `default.toml` says about one key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Description {
    /// The comment above it.
    pub(crate) words: String,
    /// The value behind it, as TOML; empty for a table.
    pub(crate) value: String,
    /// It is in force: no `#` before it.
    pub(crate) live: bool,
}

/// Every described key by its path in dots; the parts of a table with free keys are called `NAME`.
pub(crate) fn descriptions() -> BTreeMap<String, Description> {
    let mut all = BTreeMap::new();
    let mut section = String::new();
    let mut words = String::new();
    for line in DEFAULT_TOML.lines() {
        let (live, code) = match line.strip_prefix('#') {
            Some(text) if text.starts_with(' ') || text.is_empty() => {
                words.push_str(text);
                continue;
            }
            Some(code) => (false, code),
            None => (true, line),
        };
        if let Some(header) = code.strip_prefix('[') {
            section = header.trim_matches(['[', ']']).to_owned();
            let mut path = section.clone();
            if let Some((map, _)) = section.split_once(".deployments.") {
                path = format!("{map}.deployments");
                section = format!("{path}.NAME");
            }
            all.insert(path, Description { words: taken(&mut words), value: String::new(), live });
        } else if let Some((name, value)) = code.split_once(" = ") {
            let path =
                if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
            all.insert(
                path,
                Description { words: taken(&mut words), value: value.to_owned(), live },
            );
        } else {
            words.clear();
        }
    }
    all
}

fn taken(words: &mut String) -> String {
    std::mem::take(words).trim().to_owned()
}

/// The text with every key that it mentions in force.
#[cfg(test)]
pub(crate) fn uncommented() -> String {
    let code = |c: char| c.is_ascii_lowercase() || c == '[';
    DEFAULT_TOML
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| rest.starts_with(code)).unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::environment::ProcessEnvironment;
    use crate::keys;
    use crate::tree::{Table, Value};
    use crate::ty::Type;
    use crate::walk::Walk;

    fn paths(prefix: &str, table: &Table, out: &mut BTreeSet<String>) {
        for (name, entry) in &table.entries {
            let name = if prefix.ends_with("deployments") { "NAME" } else { name.as_str() };
            let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
            out.insert(path.clone());
            match &entry.node.value {
                Value::Table(inner) => paths(&path, inner, out),
                Value::List(items) => {
                    for item in items {
                        if let Value::Table(inner) = &item.value {
                            paths(&path, inner, out);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    #[test]
    fn default_toml_holds_every_key_and_no_other() {
        let text = uncommented();
        let (table, errors) = toml::de::DeTable::parse_recoverable(&text);
        assert!(errors.is_empty(), "{errors:?}");
        let mut out = Vec::new();
        let mut walk = Walk {
            source: 0,
            base: Path::new(""),
            env: &ProcessEnvironment,
            out: &mut out,
            secrets: Vec::new(),
            files: Vec::new(),
        };
        let tree = walk.table("", keys::ROOT, table.get_ref(), 0..0);
        assert!(out.is_empty(), "{out:?}");
        let mut present = BTreeSet::new();
        paths("", &tree, &mut present);
        let free = |path: &String| {
            !path.contains("labels.") && !path.contains("metadata.") && !path.ends_with("NAME")
        };
        present.retain(free);
        let mut known = BTreeSet::new();
        keys::each(&mut |path, _, _| {
            known.insert(path.to_owned());
        });
        assert_eq!(present, known);
    }

    #[test]
    fn every_key_has_words_and_objects_show_their_defaults() {
        let all = descriptions();
        keys::each(&mut |path, key, object| {
            let inline = path.matches('.').count() > 1
                && !path.starts_with("server.")
                && !path.contains("NAME");
            if inline {
                return;
            }
            let described = all.get(path);
            assert!(described.is_some_and(|d| !d.words.is_empty()), "{path} has no words");
            let value = described.map_or("", |d| d.value.as_str());
            if let Some(default) = key.default {
                assert_eq!(value, default, "{path}");
            }
            if !object && !matches!(key.ty, Type::Table(_)) {
                assert_eq!(
                    key.default.is_some(),
                    path == "redis.timeout",
                    "{path}: default.toml says it"
                );
            }
        });
    }
}
