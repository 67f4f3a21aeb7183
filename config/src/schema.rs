//! The JSON Schema of the file, and the reference for people; both come from [`crate::keys`] and `default.toml`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::document::{Description, descriptions};
use crate::keys::{self, ROOT};
use crate::scalar::{show_duration, show_size};
use crate::ty::{Key, Type};

/// The JSON Schema (draft 7, which editors' TOML tools know) of a configuration file, as pretty JSON.
#[must_use]
pub fn schema() -> String {
    let all = descriptions();
    let mut root = Writer { all: &all, variables: true }.table("", ROOT);
    root["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    root["title"] = json!("forebay configuration");
    let mut text = serde_json::to_string_pretty(&root).unwrap_or_default();
    text.push('\n');
    text
}

/// The JSON Schemas (draft 7, and later drafts read them the same) of the objects of a kind (`backend`, `model`, `head`,
/// `region`, `key`) where no variables are expanded; `None` for a word that is no kind.
#[must_use]
pub fn object_schema(kind: &str) -> Option<Value> {
    let key = ROOT.iter().find(|key| key.name == kind)?;
    let Type::Tables { keys, .. } = key.ty else { return None };
    let all = descriptions();
    Some(Writer { all: &all, variables: false }.table(kind, keys))
}

/// A text with a `${..}` in it, which may stand for any scalar.
const VARIABLE: &str = r"\$\{";

/// Writes the schemas of types.
struct Writer<'a> {
    all: &'a BTreeMap<String, Description>,
    /// A `${..}` may stand for any scalar.
    variables: bool,
}

impl Writer<'_> {
    fn table(&self, path: &str, keys: &'static [Key]) -> Value {
        let mut properties = Map::new();
        for key in keys {
            let path =
                if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
            let mut property = self.of_type(&path, &key.ty);
            if let Some(described) = self.all.get(&path) {
                property["description"] = json!(described.words);
            }
            if let Some(default) =
                default_of(&path, key, self.all).and_then(|text| toml_value(&text))
            {
                property["default"] = default;
            }
            properties.insert(key.name.to_owned(), property);
        }
        let mut object = json!({
            "type": "object",
            "additionalProperties": false,
            "properties": properties,
        });
        let required: Vec<&str> =
            keys.iter().filter(|key| key.required).map(|key| key.name).collect();
        if !required.is_empty() {
            object["required"] = json!(required);
        }
        object
    }

    fn of_type(&self, path: &str, ty: &Type) -> Value {
        let or_variable = |value: Value| match self.variables {
            true => json!({"anyOf": [value, {"type": "string", "pattern": VARIABLE}]}),
            false => value,
        };
        let text = |pattern: &str| match self.variables {
            true => json!({"type": "string", "pattern": format!("{pattern}|{VARIABLE}")}),
            false => json!({"type": "string", "pattern": pattern}),
        };
        match ty {
            Type::Bool => or_variable(json!({"type": "boolean"})),
            Type::Integer { min, max } => {
                let mut value = json!({"type": "integer", "minimum": min});
                if *max != i64::MAX {
                    value["maximum"] = json!(max);
                }
                or_variable(value)
            }
            Type::Number { min, max } => {
                or_variable(json!({"type": "number", "minimum": min, "maximum": max}))
            }
            Type::Duration { off, .. } => {
                let off = if *off { "|off" } else { "" };
                text(&format!("^(([0-9]+(ms|s|m|h|d))+{off})$"))
            }
            Type::Size { .. } => text("^[0-9]+ ?(B|[KMGT]iB|[KMGT]B)$"),
            Type::Word(words) => or_variable(json!({"enum": words})),
            Type::Socket => text(":[0-9]+$"),
            Type::Url => text("^https?://"),
            Type::Name => text("^[A-Za-z0-9._-]{1,64}$"),
            Type::Moment => json!({"type": "string", "format": "date-time"}),
            Type::Text | Type::Secret | Type::Path | Type::Model | Type::Header => {
                json!({"type": "string"})
            }
            Type::List { of, max } => {
                json!({"type": "array", "maxItems": max, "items": self.of_type(path, of)})
            }
            Type::Table(keys) => self.table(path, keys),
            Type::Tables { keys, max } => {
                json!({"type": "array", "maxItems": max, "items": self.table(path, keys)})
            }
            Type::Map { of, .. } => {
                let inner = self.of_type(&format!("{path}.NAME"), of);
                json!({"type": "object", "additionalProperties": inner})
            }
            Type::TableOr(keys, other) => {
                json!({"anyOf": [self.of_type(path, other), self.table(path, keys)]})
            }
        }
    }
}

fn default_of(path: &str, key: &Key, all: &BTreeMap<String, Description>) -> Option<String> {
    let live = all.get(path).filter(|described| described.live && !described.value.is_empty());
    key.default.map(str::to_owned).or_else(|| live.map(|described| described.value.clone()))
}

fn toml_value(text: &str) -> Option<Value> {
    let table: toml::Table = format!("value = {text}").parse().ok()?;
    serde_json::to_value(table.get("value")?).ok()
}

/// The reference of all keys, in Markdown: one table per section.
#[must_use]
pub fn reference() -> String {
    let all = descriptions();
    let mut out = String::from("### Top level\n\n");
    let mut sections: Vec<(String, String)> = Vec::new();
    header(&mut out);
    keys::each(&mut |path, key, _| {
        let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
        // Tables written inline have the keys of a section that is listed already.
        let inline = !all.contains_key(path);
        let words = all.get(path).map_or("", |described| described.words.as_str());
        if matches!(key.ty, Type::Table(_) | Type::Tables { .. }) && !path.ends_with(".timeouts") {
            let title = match key.ty {
                Type::Tables { .. } => format!("[[{path}]]"),
                _ => format!("[{path}]"),
            };
            let mut text = format!("\n### `{title}`\n\n{words}\n\n");
            header(&mut text);
            sections.push((path.to_owned(), text));
            return;
        }
        if inline {
            return;
        }
        let default = default_of(path, key, &all);
        let default = match (&default, key.required) {
            (_, true) => "required".to_owned(),
            (Some(text), _) => format!("`{text}`"),
            (None, _) => String::new(),
        };
        let name = path.strip_prefix(parent).unwrap_or(path).trim_start_matches('.');
        let name = if parent.ends_with("NAME") {
            format!("deployments.NAME.{name}")
        } else {
            name.to_owned()
        };
        let row = format!(
            "| `{name}` | {} | {default} | {} |\n",
            type_words(&key.ty),
            words.replace('|', "\\|")
        );
        let parent = parent.strip_suffix(".deployments.NAME").unwrap_or(parent);
        match sections.iter_mut().find(|(section, _)| section == parent) {
            Some((_, text)) => text.push_str(&row),
            None => out.push_str(&row),
        }
    });
    sections.iter().for_each(|(_, text)| out.push_str(text));
    out
}

fn header(out: &mut String) {
    out.push_str("| key | value | default | meaning |\n|---|---|---|---|\n");
}

fn type_words(ty: &Type) -> String {
    let mut out = String::new();
    let ms = |ms: &u64| show_duration(std::time::Duration::from_millis(*ms));
    let _ = match ty {
        Type::Bool => write!(out, "true, false"),
        Type::Integer { min, max } if *max == i64::MAX => write!(out, "number from {min}"),
        Type::Integer { min, max } => write!(out, "number, {min} to {max}"),
        Type::Number { min, max } => write!(out, "number, {min} to {max}"),
        Type::Duration { min, max, off } => {
            let off = if *off { ", or off" } else { "" };
            write!(out, "duration, {} to {}{off}", ms(min), ms(max))
        }
        Type::Size { min, max } => write!(out, "size, {} to {}", show_size(*min), show_size(*max)),
        Type::Text => write!(out, "text"),
        Type::Secret => write!(out, "secret"),
        Type::Word(words) => write!(out, "{}", words.join(", ")),
        Type::Socket => write!(out, "address:port"),
        Type::Path => write!(out, "path"),
        Type::Url => write!(out, "URL"),
        Type::Name => write!(out, "name"),
        Type::Model => write!(out, "model name"),
        Type::Header => write!(out, "header name"),
        Type::Moment => write!(out, "date and time"),
        Type::List { of, max } => write!(out, "list of {}, at most {max}", type_words(of)),
        Type::Table(_) | Type::Map { .. } | Type::Tables { .. } => write!(out, "table"),
        Type::TableOr(_, other) => write!(out, "{}, or a table", type_words(other)),
    };
    out
}
