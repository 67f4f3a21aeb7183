//! From parsed TOML to a typed tree, with every mistake on the way.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use router::RegionName;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Code, Diagnostic, Place};
use crate::environment::Environment;
use crate::keys;
use crate::load::DIAGNOSTICS_MAX;
use crate::nearest::nearest;
use crate::redact::names_a_secret;
use crate::tree::{Entry, Node, Table, Value};
use crate::ty::{Key, Type};

/// One file on its way.
pub(crate) struct Walk<'a> {
    pub(crate) source: usize,
    pub(crate) base: &'a Path,
    pub(crate) env: &'a dyn Environment,
    pub(crate) out: &'a mut Vec<Diagnostic>,
    /// Where credentials stand.
    pub(crate) secrets: Vec<Range<usize>>,
    /// Files that values were read from.
    pub(crate) files: Vec<PathBuf>,
}

impl Walk<'_> {
    pub(crate) fn place(&self, span: Range<usize>) -> Place {
        Place { source: self.source, span }
    }

    /// A table against its keys; `path` is for messages, `""` at the top.
    pub(crate) fn table(
        &mut self,
        path: &str,
        keys: &'static [Key],
        table: &DeTable<'_>,
        span: Range<usize>,
    ) -> Table {
        let mut out = Table::new(self.place(span.clone()));
        let mut meant: Vec<&str> = Vec::new();
        for (name, value) in table {
            if self.out.len() >= DIAGNOSTICS_MAX {
                break;
            }
            let Some(key) = keys.iter().find(|key| key.name == name.get_ref().as_ref()) else {
                meant.extend(self.unknown(path, keys, name, value));
                continue;
            };
            meant.push(key.name);
            if let Some(node) = self.value(&join(path, key.name), &key.ty, value) {
                let entry = Entry { key: self.place(name.span()), node };
                out.entries.insert(key.name.to_owned(), entry);
            }
        }
        for key in keys.iter().filter(|key| key.required) {
            // A key that is there but wrong, or mistyped, was already reported.
            if !meant.contains(&key.name) {
                let message = format!("{} needs `{}`", described(path), key.name);
                self.out.push(
                    Diagnostic::error(Code::MissingKey, self.place(span.clone()), message)
                        .label(format!("`{}` is missing", key.name))
                        .help(format!("{}: {}", key.name, key.ty.expected())),
                );
            }
        }
        out
    }

    fn unknown(
        &mut self,
        path: &str,
        keys: &'static [Key],
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<&'static str> {
        let text = name.get_ref().as_ref();
        self.hide(text, value);
        let place = self.place(name.span());
        let shown: String = text.chars().take(64).collect();
        let inside = inside(path);
        if let Some(key) = keys.iter().find(|key| key.former.contains(&text)) {
            self.hide_if_secret(key, value);
            let message = format!("`{shown}` is called `{}` {inside}", key.name);
            let mut diagnostic = Diagnostic::error(Code::RenamedKey, place, message)
                .label(format!("write `{}`", key.name));
            if key.ty.keys().is_none() {
                diagnostic = diagnostic.help(key.ty.expected());
            }
            self.out.push(diagnostic);
            return Some(key.name);
        }
        let message = format!("unknown key `{shown}` {inside}");
        let diagnostic = Diagnostic::error(Code::UnknownKey, place, message);
        let found = nearest(text, keys.iter().map(|key| key.name));
        let diagnostic = if let Some(found) = found {
            if let Some(key) = keys.iter().find(|key| key.name == found) {
                self.hide_if_secret(key, value);
                if key.ty.keys().is_none() && matches!(value.get_ref(), DeValue::Table(_)) {
                    self.hide_all(value);
                }
            }
            diagnostic.label(format!("did you mean `{found}`?"))
        } else {
            // Nothing says that it is none.
            self.hide_all(value);
            let known: Vec<&str> = keys.iter().map(|key| key.name).collect();
            let known = || format!("known keys: {}", known.join(", "));
            diagnostic.label("not a key of this table").help(elsewhere(text).unwrap_or_else(known))
        };
        self.out.push(diagnostic);
        found
    }

    /// What stands under an unknown key may be a credential all the same.
    fn hide(&mut self, name: &str, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => {
                for (name, value) in table {
                    self.hide(name.get_ref(), value);
                }
            }
            DeValue::Array(items) => items.iter().for_each(|item| self.hide(name, item)),
            _ if names_a_secret(name) => self.secrets.push(value.span()),
            _ => {}
        }
    }

    fn hide_all(&mut self, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            // The place of a table may be its key.
            DeValue::Table(table) => table.iter().for_each(|(_, value)| self.hide_all(value)),
            DeValue::Array(items) => items.iter().for_each(|item| self.hide_all(item)),
            _ => self.secrets.push(value.span()),
        }
    }

    fn hide_if_secret(&mut self, key: &Key, value: &Spanned<DeValue<'_>>) {
        if matches!(key.ty, Type::Secret) {
            self.secrets.push(value.span());
        }
    }

    fn value(&mut self, path: &str, ty: &Type, value: &Spanned<DeValue<'_>>) -> Option<Node> {
        if matches!(ty, Type::Secret) {
            self.secrets.push(value.span());
        }
        let span = value.span();
        let place = self.place(span.clone());
        let node = |value| Some(Node { place: place.clone(), raw: None, value });
        match (ty, value.get_ref()) {
            (Type::Table(keys), DeValue::Table(table)) => {
                node(Value::Table(self.table(path, keys, table, span)))
            }
            (Type::Tables { keys, max }, DeValue::Array(items)) => {
                self.bounded(path, items.len(), *max, &place)?;
                let list = items.iter().filter_map(|item| self.object(path, keys, item)).collect();
                node(Value::List(list))
            }
            (Type::Tables { keys, .. }, DeValue::Table(table)) => {
                // `[backend]` for `[[backend]]`: say so, but look inside all the same.
                let message = format!("`{path}` is an array of tables");
                self.out.push(
                    Diagnostic::error(Code::WrongType, place.clone(), message)
                        .label(format!("write [[{path}]]")),
                );
                let table = self.table(path, keys, table, span);
                let item = Node { place: place.clone(), raw: None, value: Value::Table(table) };
                node(Value::List(vec![item]))
            }
            (Type::TableOr(keys, _), DeValue::Table(table)) => {
                node(Value::Table(self.table(path, keys, table, span)))
            }
            (Type::TableOr(_, other), _) => self.value(path, other, value),
            (Type::List { of, max }, DeValue::Array(items)) => {
                self.bounded(path, items.len(), *max, &place)?;
                let list = items.iter().filter_map(|item| self.value(path, of, item)).collect();
                node(Value::List(list))
            }
            (Type::Map { of, max }, DeValue::Table(table)) => {
                self.bounded(path, table.len(), *max, &place)?;
                node(Value::Table(self.map(path, of, table, span)))
            }
            _ => self.scalar(path, ty, value),
        }
    }

    fn object(
        &mut self,
        path: &str,
        keys: &'static [Key],
        item: &Spanned<DeValue<'_>>,
    ) -> Option<Node> {
        let place = self.place(item.span());
        let DeValue::Table(table) = item.get_ref() else {
            self.wrong_type(path, &Type::Table(keys), item);
            return None;
        };
        let table = self.table(path, keys, table, item.span());
        Some(Node { place, raw: None, value: Value::Table(table) })
    }

    fn map(&mut self, path: &str, of: &Type, table: &DeTable<'_>, span: Range<usize>) -> Table {
        let mut entries = BTreeMap::new();
        for (name, value) in table {
            let text = name.get_ref().as_ref();
            let key = self.place(name.span());
            if let Err(error) = RegionName::try_from(text) {
                let message = format!("this key of `{path}` cannot be used: {error}");
                self.out.push(Diagnostic::error(Code::BadName, key, message));
                continue;
            }
            if names_a_secret(text) && !matches!(of, Type::TableOr(..)) {
                self.secrets.push(value.span());
            }
            if let Some(node) = self.value(&join(path, text), of, value) {
                entries.insert(text.to_owned(), Entry { key, node });
            }
        }
        Table { place: self.place(span), entries }
    }

    fn bounded(&mut self, path: &str, len: usize, max: usize, place: &Place) -> Option<()> {
        if len <= max {
            return Some(());
        }
        let message = format!("`{path}` has {len} entries, at most {max} are allowed");
        self.out.push(Diagnostic::error(Code::OutOfRange, place.clone(), message));
        None
    }

    pub(crate) fn wrong_type(&mut self, path: &str, ty: &Type, value: &Spanned<DeValue<'_>>) {
        let found = match value.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        let place = self.place(value.span());
        let message = format!("`{path}` cannot be {found}");
        let mut diagnostic =
            Diagnostic::error(Code::WrongType, place, message).label(ty.expected());
        if let (Type::Duration { .. } | Type::Size { .. }, DeValue::Integer(number)) =
            (ty, value.get_ref())
        {
            let unit = if matches!(ty, Type::Size { .. }) { "B" } else { "s" };
            diagnostic = diagnostic.help(format!("give the unit: \"{}{unit}\"", number.as_str()));
        }
        self.out.push(diagnostic);
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn inside(path: &str) -> String {
    if path.is_empty() { "at the top level".to_owned() } else { format!("in {}", described(path)) }
}

fn described(path: &str) -> String {
    match path {
        "" => "the top level".to_owned(),
        "region" | "backend" | "head" | "model" | "key" => format!("[[{path}]]"),
        _ => format!("[{path}]"),
    }
}

/// Where a key of this name does exist.
fn elsewhere(name: &str) -> Option<String> {
    let mut places: Vec<String> = Vec::new();
    keys::each(&mut |path, key, _| {
        let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
        if (key.name == name || key.former.contains(&name))
            && key.name.len() > 2
            && places.len() < 3
        {
            places.push(format!("`{}` {}", key.name, inside(parent)));
        }
    });
    (!places.is_empty()).then(|| format!("there is {}", places.join(", ")))
}
