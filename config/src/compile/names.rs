//! Which names exist, and what to say about those that do not.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::{Compiler, LOCAL_REGION};
use crate::diagnostic::{Code, Diagnostic, Place, SourceText};
use crate::nearest::nearest;
use crate::tree::{Node, Table};

/// Most diagnostics for which near names are looked up.
const SUGGESTIONS_MAX: usize = 100;

/// The names of one kind of object.
#[derive(Default)]
pub(super) struct Index<'a> {
    places: BTreeMap<&'a str, Place>,
    /// No object's name was refused, so that an unknown name is surely unknown.
    complete: bool,
}

impl<'a> Index<'a> {
    fn collect(kind: &str, tree: &'a Table, out: &mut Vec<Diagnostic>) -> Self {
        let mut index = Self { places: BTreeMap::new(), complete: true };
        for table in tree.tables(kind) {
            match table.get("name") {
                Some(node) => index.add(kind, node, out),
                None => index.complete = false,
            }
        }
        index
    }

    fn add(&mut self, kind: &str, node: &'a Node, out: &mut Vec<Diagnostic>) {
        let Some(name) = node.text() else { return };
        match self.places.entry(name) {
            Entry::Vacant(entry) => {
                entry.insert(node.place.clone());
            }
            Entry::Occupied(first) => {
                let (mut first, mut second) = (first.get().clone(), node.place.clone());
                // Aliases are looked at after names.
                if first.source == second.source && first.span.start > second.span.start {
                    std::mem::swap(&mut first, &mut second);
                }
                let message = format!("there are two {kind}s called `{}`", node.shown());
                out.push(
                    Diagnostic::error(Code::DuplicateName, second, message)
                        .label("the second one")
                        .related(first, "the first one"),
                );
            }
        }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }
}

/// The names of all objects of a file.
pub(super) struct Names<'a> {
    pub(super) regions: Index<'a>,
    pub(super) backends: Index<'a>,
    pub(super) heads: Index<'a>,
    /// Models and their aliases, which share one space.
    pub(super) models: Index<'a>,
    /// A file declares some `[[region]]`, so all have to be. Stored regions alone ask for nothing: the file was right before.
    pub(super) regions_declared: bool,
}

impl<'a> Names<'a> {
    pub(super) fn collect(
        tree: &'a Table,
        sources: &[SourceText],
        out: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut regions = Index::collect("region", tree, out);
        let of_a_file =
            |table: &Table| sources.get(table.place.source).is_some_and(|source| !source.made);
        let regions_declared = tree.tables("region").any(of_a_file);
        if !regions_declared {
            let server = tree.table("server").and_then(|table| table.get("region"));
            let redis = tree.table("redis").and_then(|table| table.get("region"));
            let backends = tree.tables("backend").filter_map(|table| table.get("region"));
            for node in
                tree.get("default_region").into_iter().chain(backends).chain(server).chain(redis)
            {
                if let Some(name) = node.text() {
                    regions.places.entry(name).or_insert_with(|| node.place.clone());
                }
            }
            let homeless = tree.tables("backend").any(|table| table.get("region").is_none());
            if homeless && tree.get("default_region").is_none() {
                regions.places.insert(LOCAL_REGION, tree.place.clone());
            }
        }
        let mut models = Index::collect("model", tree, out);
        for table in tree.tables("model") {
            for alias in table.list("aliases") {
                if alias.text().is_some() && alias.text() == table.text("name") {
                    let message = "a model's name is no alias of itself";
                    out.push(Diagnostic::warning(Code::ListedTwice, alias.place.clone(), message));
                } else {
                    models.add("model", alias, out);
                }
            }
        }
        Index::collect("key", tree, out);
        Self {
            regions,
            backends: Index::collect("backend", tree, out),
            heads: Index::collect("head", tree, out),
            models,
            regions_declared,
        }
    }
}

/// What a name refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Referee {
    Region,
    Backend,
    Head,
    Model,
}

impl Compiler<'_> {
    /// Whether the object exists; says so if it does not.
    pub(super) fn refers(&mut self, to: Referee, node: &Node) -> bool {
        let Some(name) = node.text() else { return false };
        let (index, word) = match to {
            Referee::Region => (&self.names.regions, "region"),
            Referee::Backend => (&self.names.backends, "backend"),
            Referee::Head => (&self.names.heads, "head"),
            Referee::Model => (&self.names.models, "model"),
        };
        if index.contains(name) {
            return true;
        }
        if !index.complete {
            return false;
        }
        let shown = node.shown();
        let place = node.place.clone();
        let mut diagnostic = match to {
            Referee::Region if self.names.regions_declared => Diagnostic::error(
                Code::UndeclaredRegion,
                place,
                format!("the region `{shown}` is not declared"),
            )
            .help("once one [[region]] is declared, all that are used have to be"),
            Referee::Region => Diagnostic::error(
                Code::UnknownReference,
                place,
                format!("no backend stands in the region `{shown}`"),
            )
            .help("declare it with [[region]] if backends come later"),
            Referee::Model => Diagnostic::warning(
                Code::UnknownFallback,
                place,
                format!("no [[model]] is called `{shown}`"),
            )
            .help("it counts once it is discovered"),
            _ => Diagnostic::error(
                Code::UnknownReference,
                place,
                format!("no [[{word}]] is called `{shown}`"),
            ),
        };
        // Past this many, the comparisons cost more than they help.
        let few = self.out.len() < SUGGESTIONS_MAX;
        let found = if few { nearest(name, index.places.keys().copied()) } else { None };
        if let Some(found) = found {
            diagnostic = diagnostic.label(format!("did you mean `{found}`?"));
        } else if index.places.len() <= 10 && to != Referee::Model {
            let known: Vec<&str> = index.places.keys().copied().collect();
            let list =
                if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
            diagnostic = diagnostic.label(format!("known: {list}"));
        }
        self.out.push(diagnostic);
        false
    }

    /// Checks a list of references; the names that exist (or, of models, may come to exist), each once.
    pub(super) fn refer_all<T>(&mut self, to: Referee, list: &[Node]) -> Vec<T>
    where
        T: for<'t> TryFrom<&'t str> + PartialEq,
    {
        let mut found: Vec<T> = Vec::new();
        for node in list {
            let exists = self.refers(to, node) || to == Referee::Model;
            let Some(name) = node.text().and_then(|text| T::try_from(text).ok()) else { continue };
            if found.contains(&name) {
                let message = format!("`{}` is listed twice", node.shown());
                let place = node.place.clone();
                self.out.push(Diagnostic::warning(Code::ListedTwice, place, message));
            } else if exists {
                found.push(name);
            }
        }
        found
    }
}
