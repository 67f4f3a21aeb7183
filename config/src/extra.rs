//! Objects that no file declares, put over a configuration: the same tables, the same checks, the same diagnostics.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::diagnostic::{Code, Diagnostic, Place, SourceText};
use crate::environment::Environment;
use crate::load::{Loaded, Read, Report};
use crate::parse::parse;
use crate::tree::{Node, Table, Value};

/// One object in a text of its own, so that each diagnostic's source says which object it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extra {
    /// What stands for a file name where its values are shown, for instance `stored`.
    pub name: String,
    /// One array of tables with one table: `[[backend]]`, then its keys.
    pub text: String,
    /// Its keys are put over those of the object of the same name; otherwise it is an object of its own.
    pub over: bool,
}

impl Loaded {
    /// This configuration with further objects and with values put over its own. Source `sources.len() + i` of the outcome is
    /// `extras[i]`. `${..}` in the extra texts is answered by `secrets` alone; `env` is for what was always in the files.
    ///
    /// # Errors
    /// Everything that is wrong with the whole.
    pub fn with(
        &self,
        extras: &[Extra],
        secrets: &dyn Environment,
        env: &dyn Environment,
    ) -> Result<Self, Report> {
        let mut read = Read {
            tree: self.tree.clone(),
            sources: self.sources.clone(),
            files: self.files.clone(),
            diagnostics: Vec::new(),
            broken: false,
        };
        for extra in extras {
            let source = read.sources.len();
            let mut parsed = parse(&extra.name, &extra.text, source, Path::new(""), secrets);
            if extra.over {
                // The object that it is put over has what is required.
                parsed.diagnostics.retain(|diagnostic| diagnostic.code != Code::MissingKey);
            }
            read.broken |= parsed.source.broken;
            read.diagnostics.append(&mut parsed.diagnostics);
            parsed.source.made = true;
            read.sources.push(parsed.source);
            if extra.over {
                put_over(&mut read.tree, parsed.tree, &mut read.diagnostics);
            } else {
                append(&mut read.tree, parsed.tree);
            }
        }
        read.compile(&Accepted { env, roots: self.roots() })
    }

    /// The roots that backends of the files trust, as they were read, by their files.
    fn roots(&self) -> BTreeMap<&Path, &str> {
        let backends = &self.config.snapshot.backends;
        let read: BTreeMap<&str, &str> = backends
            .iter()
            .filter_map(|spec| Some((spec.name.as_str(), spec.ca_pem.as_deref()?)))
            .collect();
        let tables = self.tree.tables("backend");
        let known = tables.filter_map(|table| match &table.get("ca")?.value {
            Value::Path(path) => Some((path.as_path(), *read.get(table.text("name")?)?)),
            _ => None,
        });
        known.collect()
    }

    /// The number of texts that are files, the defaults among them; the sources after these are extra ones.
    #[must_use]
    pub fn files_len(&self) -> usize {
        self.sources.iter().filter(|source| !source.made).count()
    }

    /// Every object of a kind (`backend`, `model`, `head`, `region`, `key`) that a file declares, in the order of its declaration;
    /// what was put over it is in it.
    pub fn declared(&self, kind: &str) -> impl Iterator<Item = Declared> {
        let of_a_file =
            |table: &&Table| self.sources.get(table.place.source).is_some_and(|text| !text.made);
        let tables = self.tree.tables(kind).filter(of_a_file);
        tables.filter_map(|table| declared(table, &self.sources))
    }
}

/// The environment of a configuration that was accepted: what its files named is as it was read then. A certificate that is
/// just being replaced is no reason to refuse what is put over it; whoever watches the files loads them anew.
struct Accepted<'a> {
    env: &'a dyn Environment,
    roots: BTreeMap<&'a Path, &'a str>,
}

impl Environment for Accepted<'_> {
    fn var(&self, name: &str) -> Option<String> {
        self.env.var(name)
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        match self.roots.get(path) {
            Some(text) => Ok((*text).to_owned()),
            None => self.env.read(path),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Option<Vec<PathBuf>>> {
        self.env.list(path)
    }
}

impl SourceText {
    /// It is no file but was made from a stored object.
    #[must_use]
    pub const fn is_made(&self) -> bool {
        self.made
    }
}

/// Adds an object to those of the files. All that an extra text holds is one array of tables.
fn append(tree: &mut Table, extra: Table) {
    for (kind, entry) in extra.entries {
        match (tree.entries.get_mut(&kind).map(|mine| &mut mine.node.value), &entry.node.value) {
            (Some(Value::List(mine)), Value::List(theirs)) => mine.extend_from_slice(theirs),
            (Some(_), _) => {}
            (None, _) => drop(tree.entries.insert(kind, entry)),
        }
    }
}

/// Puts the values of an override over the object that it names.
fn put_over(tree: &mut Table, over: Table, out: &mut Vec<Diagnostic>) {
    for (kind, entry) in over.entries {
        let Value::List(items) = entry.node.value else { continue };
        for item in items {
            let Value::Table(item) = item.value else { continue };
            let Some(name) = item.text("name").map(str::to_owned) else { continue };
            match target(tree, &kind, &name) {
                Some(table) => {
                    let values = item.entries.into_iter().filter(|(key, _)| key != "name");
                    table.entries.extend(values);
                }
                None => out.push(Diagnostic::error(
                    Code::UnknownReference,
                    item.place_of("name"),
                    format!("there is no {kind} called `{name}` any more"),
                )),
            }
        }
    }
}

fn target<'a>(tree: &'a mut Table, kind: &str, name: &str) -> Option<&'a mut Table> {
    let Value::List(items) = &mut tree.entries.get_mut(kind)?.node.value else { return None };
    items.iter_mut().find_map(|item| match &mut item.value {
        Value::Table(table) if table.text("name") == Some(name) => Some(table),
        _ => None,
    })
}

/// One object of a configuration, as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// The text that declares it: an index into [`Loaded::sources`].
    pub source: usize,
    /// The line of its table, from 1.
    pub line: usize,
    /// What is said of it, defaults not filled in. A credential is `{"set": true}`; a text that came from a variable is shown
    /// unexpanded where it is free text, because it may hold one.
    pub body: serde_json::Map<String, serde_json::Value>,
}

fn declared(table: &Table, sources: &[SourceText]) -> Option<Declared> {
    let Place { source, span } = table.place.clone();
    let text = sources.get(source)?;
    Some(Declared {
        name: table.text("name")?.to_owned(),
        source,
        line: text.position(span.start).0,
        body: object(table),
    })
}

fn object(table: &Table) -> serde_json::Map<String, serde_json::Value> {
    let entries = table.entries.iter();
    entries.map(|(name, entry)| (name.clone(), json(name, &entry.node))).collect()
}

/// Keys whose values are free text.
const FREE: &[&str] = &["url", "ca", "labels", "metadata"];

fn json(key: &str, node: &Node) -> serde_json::Value {
    use serde_json::json;

    use crate::scalar::{show_duration, show_moment, show_size};
    match (&node.value, &node.raw) {
        (Value::Text(_) | Value::Path(_), Some(raw)) if FREE.contains(&key) => json!(raw),
        (Value::Text(text), _) => json!(text),
        (Value::Path(path), _) => json!(path.display().to_string()),
        (Value::Bool(v), _) => json!(v),
        (Value::Integer(v), _) => json!(v),
        (Value::Number(v), _) => json!(v),
        (Value::Duration(None), _) => json!("off"),
        (Value::Duration(Some(v)), _) => json!(show_duration(*v)),
        (Value::Size(v), _) => json!(show_size(*v)),
        (Value::Socket(v), _) => json!(v.to_string()),
        (Value::Moment(v), _) => json!(show_moment(*v)),
        (Value::Secret(secret), _) => json!({"set": !secret.expose().is_empty()}),
        (Value::List(items), _) => items.iter().map(|item| json(key, item)).collect(),
        (Value::Table(table), _) if FREE.contains(&key) => {
            // Labels and metadata have free names; all of their values are free text.
            let entries = table.entries.iter();
            let entries = entries.map(|(name, entry)| (name.clone(), free(name, &entry.node)));
            serde_json::Value::Object(entries.collect())
        }
        (Value::Table(table), _) => serde_json::Value::Object(object(table)),
    }
}

/// A free text under a free name.
fn free(name: &str, node: &Node) -> serde_json::Value {
    if crate::redact::names_a_secret(name) {
        return serde_json::Value::from(crate::redact::HIDDEN);
    }
    serde_json::Value::from(node.shown())
}
