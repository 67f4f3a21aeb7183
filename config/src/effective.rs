//! What is in force and where it comes from, and what differs between two configurations.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::diagnostic::{Place, SourceText};
use crate::keys::ROOT;
use crate::load::{DEFAULT_SOURCE, Loaded};
use crate::redact::{HIDDEN, names_a_secret};
use crate::scalar::{show_duration, show_moment, show_size};
use crate::settings::Config;
use crate::tree::{Node, Table, Value};
use crate::ty::{Key, Type};

/// The whole configuration as TOML with defaults filled in; a comment says where each value comes from. Credentials are
/// hidden, and texts with `${..}` are shown unexpanded.
#[must_use]
pub fn effective(loaded: &Loaded) -> String {
    let mut out = String::new();
    section(&mut out, "", ROOT, &loaded.tree, &loaded.sources);
    out
}

fn section(
    out: &mut String,
    path: &str,
    keys: &'static [Key],
    table: &Table,
    sources: &[SourceText],
) {
    let of = |key: &Key| table.get(key.name).map(|node| (&node.value, node));
    for key in keys {
        match (&key.ty, of(key)) {
            (Type::Table(_) | Type::Tables { .. }, _)
            | (Type::Map { of: Type::TableOr(..), .. }, _) => {}
            (_, Some((_, node))) => line(out, key.name, &shown(node), &origin(node, sources)),
            (_, None) => {
                if let Some(default) = key.default {
                    line(out, key.name, default, "default");
                }
            }
        }
    }
    for key in keys {
        let path =
            if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
        match (&key.ty, of(key)) {
            (Type::Table(inner), Some((Value::Table(table), _))) => {
                let _ = writeln!(out, "\n[{path}]");
                section(out, &path, inner, table, sources);
            }
            (Type::Tables { keys: inner, .. }, Some((Value::List(items), _))) => {
                for item in items {
                    if let Value::Table(table) = &item.value {
                        let _ = writeln!(out, "\n[[{path}]]");
                        section(out, &path, inner, table, sources);
                    }
                }
            }
            (Type::Map { of: Type::TableOr(..), .. }, Some((Value::Table(map), _))) => {
                let _ = writeln!(out, "\n[{path}]");
                for (name, entry) in &map.entries {
                    line(
                        out,
                        &quoted_key(name),
                        &shown(&entry.node),
                        &origin(&entry.node, sources),
                    );
                }
            }
            _ => {}
        }
    }
}

fn line(out: &mut String, name: &str, value: &str, origin: &str) {
    let _ = writeln!(out, "{name} = {value}  # {origin}");
}

fn origin(node: &Node, sources: &[SourceText]) -> String {
    if let (Value::Socket(_), Some(raw)) = (&node.value, &node.raw)
        && let Some(variable) =
            raw.strip_prefix("${FOREBAY_").and_then(|rest| rest.strip_suffix("_LISTEN}"))
    {
        return format!("environment FOREBAY_{variable}_LISTEN");
    }
    if let (Value::Socket(_), Some("${FOREBAY_LISTEN}")) = (&node.value, node.raw.as_deref()) {
        return "environment FOREBAY_LISTEN".to_owned();
    }
    place(&node.place, sources)
}

fn place(place: &Place, sources: &[SourceText]) -> String {
    match sources.get(place.source) {
        Some(source) if source.made => source.name.escape_debug().to_string(),
        Some(source) if place.source != DEFAULT_SOURCE => {
            format!("{}:{}", source.name.escape_debug(), source.position(place.span.start).0)
        }
        _ => "default".to_owned(),
    }
}

fn quoted_key(name: &str) -> String {
    if name.contains('.') { format!("{name:?}") } else { name.to_owned() }
}

/// A value as TOML, without anything secret.
fn shown(node: &Node) -> String {
    match (&node.value, &node.raw) {
        (Value::Secret(secret), _) if secret.expose().is_empty() => "\"\"".to_owned(),
        (Value::Secret(_), _) => format!("{HIDDEN:?}"),
        // Numbers, addresses and the like cannot hold a credential; texts could.
        (Value::Text(_) | Value::Path(_), Some(raw)) => toml_text(raw),
        (Value::Text(text), None) => toml_text(text),
        (Value::Path(path), None) => toml_text(&path.display().to_string()),
        (Value::Bool(v), _) => v.to_string(),
        (Value::Integer(v), _) => v.to_string(),
        (Value::Number(v), _) => v.to_string(),
        (Value::Duration(None), _) => "\"off\"".to_owned(),
        (Value::Duration(Some(v)), _) => format!("{:?}", show_duration(*v)),
        (Value::Size(v), _) => format!("{:?}", show_size(*v)),
        (Value::Socket(v), _) => format!("\"{v}\""),
        (Value::Moment(v), _) => show_moment(*v),
        (Value::List(items), _) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", items.join(", "))
        }
        (Value::Table(table), _) => {
            let entries: Vec<String> = table
                .entries
                .iter()
                .map(|(name, entry)| {
                    let free = matches!(entry.node.value, Value::Text(_)) && names_a_secret(name);
                    let value = if free { format!("{HIDDEN:?}") } else { shown(&entry.node) };
                    format!("{} = {value}", quoted_key(name))
                })
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}

fn toml_text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// What differs: one line per key, `+` added, `-` removed, `~` changed; objects are told apart by name. Credentials are
/// hidden, but a changed one is listed.
#[must_use]
pub fn diff(a: &Loaded, b: &Loaded) -> String {
    let (old, new) = (flat(&a.tree), flat(&b.tree));
    let mut out = String::new();
    let mut paths: Vec<&String> = old.keys().chain(new.keys()).collect();
    paths.sort();
    paths.dedup();
    for path in paths {
        let _ = match (old.get(path), new.get(path)) {
            (Some(old), Some(new)) if old.value == new.value => Ok(()),
            (Some(old), Some(new)) => writeln!(out, "~ {path}: {} -> {}", shown(old), shown(new)),
            (Some(old), None) => writeln!(out, "- {path} = {}", shown(old)),
            (None, Some(new)) => writeln!(out, "+ {path} = {}", shown(new)),
            (None, None) => Ok(()),
        };
    }
    out
}

/// Keys whose change takes effect only with a restart, of those that differ.
#[must_use]
pub fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let mut keys = Vec::new();
    if old.server.threads != new.server.threads {
        keys.push("server.threads");
    }
    if old.store.path != new.store.path {
        keys.push("store.path");
    }
    if old.admin.mode != new.admin.mode {
        keys.push("admin.mode");
    }
    if old.log.format != new.log.format {
        keys.push("log.format");
    }
    keys
}

fn flat(tree: &Table) -> BTreeMap<String, &Node> {
    fn descend<'a>(path: &str, table: &'a Table, out: &mut BTreeMap<String, &'a Node>) {
        for (name, entry) in &table.entries {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match &entry.node.value {
                Value::Table(inner) => descend(&path, inner, out),
                Value::List(items)
                    if items.iter().any(|item| matches!(item.value, Value::Table(_))) =>
                {
                    for item in items {
                        if let Value::Table(inner) = &item.value {
                            let name = inner.get("name").map_or("?", Node::shown);
                            descend(&format!("{path}.{name}"), inner, out);
                        }
                    }
                }
                _ => {
                    out.insert(path, &entry.node);
                }
            }
        }
    }
    let mut out = BTreeMap::new();
    descend("", tree, &mut out);
    out
}
