//! A file after [`crate::walk`]: every value has its type and its place.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use router::spec::Secret;

use crate::diagnostic::{Code, Diagnostic, Place};

/// A typed value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    Integer(i64),
    Number(f64),
    /// `None` = `"off"`.
    Duration(Option<Duration>),
    Size(u64),
    Text(String),
    Secret(Secret),
    Socket(SocketAddr),
    Path(PathBuf),
    /// Unix seconds.
    Moment(u64),
    List(Vec<Node>),
    Table(Table),
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) place: Place,
    /// The text before expansion, where `${..}` was expanded: messages and renderings show this.
    pub(crate) raw: Option<String>,
    pub(crate) value: Value,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Node {
    /// The text to show to people; credentials have none.
    pub(crate) fn shown(&self) -> &str {
        match (&self.raw, &self.value) {
            (Some(raw), _) => raw,
            (None, Value::Text(text)) => text,
            (None, _) => "",
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// One key with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Place,
    pub(crate) node: Node,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node
    }
}

/// A table with only known keys.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    /// Its header, or the value itself.
    pub(crate) place: Place,
    pub(crate) entries: BTreeMap<String, Entry>,
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Table {
    pub(crate) const fn new(place: Place) -> Self {
        Self { place, entries: BTreeMap::new() }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries.get(key).map(|entry| &entry.node)
    }

    /// Where a key's value is, or else the table's own place.
    pub(crate) fn place_of(&self, key: &str) -> Place {
        self.get(key).map_or_else(|| self.place.clone(), |node| node.place.clone())
    }

    pub(crate) fn table(&self, key: &str) -> Option<&Self> {
        match self.get(key).map(|node| &node.value) {
            Some(Value::Table(table)) => Some(table),
            _ => None,
        }
    }

    pub(crate) fn list(&self, key: &str) -> &[Node] {
        match self.get(key).map(|node| &node.value) {
            Some(Value::List(items)) => items,
            _ => &[],
        }
    }

    pub(crate) fn tables(&self, key: &str) -> impl Iterator<Item = &Self> {
        self.list(key).iter().filter_map(|node| match &node.value {
            Value::Table(table) => Some(table),
            _ => None,
        })
    }

    /// The value of a key in the type that the caller wants; `None` when it is absent (or was refused before).
    pub(crate) fn read<T: FromValue>(&self, key: &str) -> Option<T> {
        self.get(key).and_then(|node| T::from_value(&node.value))
    }

    /// Puts the value of a key over a default.
    pub(crate) fn fill<T: FromValue>(&self, key: &str, target: &mut T) {
        if let Some(value) = self.read(key) {
            *target = value;
        }
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Node::text)
    }

    /// Takes in another file's keys. Objects of arrays add up; any other key may be set only once.
    pub(crate) fn merge(&mut self, other: Self, out: &mut Vec<Diagnostic>) {
        for (name, entry) in other.entries {
            let Some(mine) = self.entries.get_mut(&name) else {
                self.entries.insert(name, entry);
                continue;
            };
            match (&mut mine.node.value, entry.node.value) {
                (Value::Table(mine), Value::Table(theirs)) => mine.merge(theirs, out),
                (Value::List(mine), Value::List(theirs)) if objects(mine) && objects(&theirs) => {
                    mine.extend(theirs);
                }
                _ if name == "version" || name == "include" => {}
                _ => out.push(
                    Diagnostic::error(
                        Code::SetTwice,
                        entry.key,
                        format!("`{name}` is set in more than one file"),
                    )
                    .label("set again here")
                    .related(mine.key.clone(), "first set here")
                    .help("keep one of the two"),
                ),
            }
        }
    }

    /// These keys, and below them those of `defaults` that are missing.
    pub(crate) fn over(mut self, defaults: Self) -> Self {
        for (name, default) in defaults.entries {
            match (self.entries.get_mut(&name), default.node.value.clone()) {
                (
                    Some(Entry { node: Node { value: Value::Table(mine), .. }, .. }),
                    Value::Table(below),
                ) => {
                    let taken = std::mem::replace(mine, Self::new(below.place.clone()));
                    *mine = taken.over(below);
                }
                (Some(_), _) => {}
                (None, _) => {
                    self.entries.insert(name, default);
                }
            }
        }
        self
    }
}

fn objects(list: &[Node]) -> bool {
    list.iter().all(|node| matches!(node.value, Value::Table(_)))
}

/// Types that a value can be read as.
pub(crate) trait FromValue: Sized {
    /// `None` when the value is of another type or does not fit.
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! from_value {
    ($($type:ty: $pattern:pat => $out:expr;)+) => {
        $(impl FromValue for $type {
            fn from_value(value: &Value) -> Option<Self> {
                match value { $pattern => $out, _ => None }
            }
        })+
    };
}

from_value! {
    bool: Value::Bool(v) => Some(*v);
    u16: Value::Integer(v) => Self::try_from(*v).ok();
    u32: Value::Integer(v) => Self::try_from(*v).ok();
    i32: Value::Integer(v) => Self::try_from(*v).ok();
    f64: Value::Number(v) => Some(*v);
    String: Value::Text(v) => Some(v.clone());
    Secret: Value::Secret(v) => Some(v.clone());
    SocketAddr: Value::Socket(v) => Some(*v);
    PathBuf: Value::Path(v) => Some(v.clone());
    Duration: Value::Duration(v) => *v;
}

impl FromValue for u64 {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Integer(v) => Self::try_from(*v).ok(),
            Value::Size(v) | Value::Moment(v) => Some(*v),
            _ => None,
        }
    }
}

/// An absent value and a value of `"off"` are both `None`; [`Table::fill`] tells them apart.
impl FromValue for Option<Duration> {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Duration(v) => Some(*v),
            _ => None,
        }
    }
}
