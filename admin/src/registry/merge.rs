//! The base, the stored objects and the overrides as one configuration. What does not fit takes no part: the base always holds.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{
    Code, Diagnostic, Environment, Extra, Loaded, Place, ProcessEnvironment, Report, Severity,
};

use router::spec::SnapshotSpec;

use super::Compile;
use super::base::Base;
use super::credentials::{Answers, Credentials};
use super::desired::{Conflict, Desired};
use super::index::Index;
use super::problem::Problem;
use super::render::{Rendered, render};
use crate::store::{ObjectKind, StoredObject, StoredOverride};

/// A stored object or an override on its way into the configuration.
struct Item {
    kind: ObjectKind,
    name: String,
    /// `None` = an override.
    id: Option<String>,
    revision: u64,
    rendered: Rendered,
    extra: Extra,
}

/// Merges. The same arguments give the same outcome. What conflicts with the base, or with what was stored before it, is left out and
/// reported; each round of compiling leaves out at least one, so that it ends.
#[must_use]
pub fn merge(
    base: &Base,
    stored: &[StoredObject],
    overrides: &[StoredOverride],
    credentials: &dyn Credentials,
    compile: &Compile,
    revision: u64,
) -> Desired {
    let mut active = items(stored, overrides);
    let mut conflicts = Vec::new();
    let loaded = loop {
        let extras: Vec<Extra> = active.iter().map(|item| item.extra.clone()).collect();
        match base.loaded.with(&extras, &Answers(credentials), &Files) {
            Ok(loaded) => break loaded,
            // The base was accepted by itself.
            Err(_) if active.is_empty() => break base.loaded.clone(),
            Err(report) => leave_out(base, &report, &mut active, &mut conflicts),
        }
    };
    conflicts.sort_by(|a: &Conflict, b| (a.kind, &a.name, &a.id).cmp(&(b.kind, &b.name, &b.id)));
    let index = Index::build(base, &loaded, stored, overrides, &conflicts, credentials);
    let spec = SnapshotSpec { revision, ..compile(&loaded.config) };
    Desired { revision, spec, conflicts, loaded: Arc::new(loaded), index }
}

/// The files that stored objects name: a pipe would never end, and the store's lock is held meanwhile.
struct Files;

impl Environment for Files {
    fn var(&self, name: &str) -> Option<String> {
        ProcessEnvironment.var(name)
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        if std::fs::metadata(path)?.is_file() {
            return ProcessEnvironment.read(path);
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
    }

    fn list(&self, path: &Path) -> io::Result<Option<Vec<PathBuf>>> {
        ProcessEnvironment.list(path)
    }
}

fn items(stored: &[StoredObject], overrides: &[StoredOverride]) -> Vec<Item> {
    let objects = stored.iter().map(|object| {
        let rendered = render(object.kind, &object.body);
        let text = rendered.text.clone();
        let extra = Extra { name: "stored".to_owned(), text, over: false };
        let (name, id) = (object.name.clone(), Some(object.id.clone()));
        Item { kind: object.kind, name, id, revision: object.revision, rendered, extra }
    });
    let overrides = overrides.iter().map(|over| {
        let mut body = over.body.clone();
        body.insert("name".to_owned(), over.name.clone().into());
        let rendered = render(over.kind, &body);
        let text = rendered.text.clone();
        let extra = Extra { name: format!("override by {}", over.author), text, over: true };
        let name = over.name.clone();
        Item { kind: over.kind, name, id: None, revision: over.revision, rendered, extra }
    });
    let mut items: Vec<Item> = objects.chain(overrides).collect();
    // Of two that exclude each other, the first one stays; overrides come last because objects may be what they are put over.
    items.sort_by(|a, b| (a.extra.over, a.kind, &a.name).cmp(&(b.extra.over, b.kind, &b.name)));
    items
}

/// Takes those out of `active` that a report blames.
fn leave_out(base: &Base, report: &Report, active: &mut Vec<Item>, conflicts: &mut Vec<Conflict>) {
    let files = base.loaded.sources.len();
    let mut blamed: BTreeMap<usize, Vec<Problem>> = BTreeMap::new();
    let errors = report.diagnostics.iter().filter(|d| d.severity == Severity::Error);
    for diagnostic in errors.clone() {
        if let Some((at, span)) = culprit(base, diagnostic, active, files) {
            let pointer = span.map_or("", |place| active[at].rendered.pointer(&place.span));
            let problem = problem(pointer, diagnostic, report, files, active);
            blamed.entry(at).or_default().push(problem);
        }
    }
    if blamed.is_empty() {
        // No object can be named, so those that came last go.
        let mut newest: Vec<usize> = (0..active.len()).collect();
        newest.sort_by_key(|at| std::cmp::Reverse(active[*at].revision));
        let first = errors.clone().next();
        for at in newest.into_iter().take(active.len().div_ceil(2)) {
            let problem = first.map(|d| problem("", d, report, files, active));
            blamed.insert(at, problem.into_iter().collect());
        }
    }
    for (at, problems) in blamed.into_iter().rev() {
        let Item { kind, name, id, .. } = active.remove(at);
        conflicts.push(Conflict { kind, name, id, problems });
    }
}

/// Which item a diagnostic is about, and its place in that item's text.
fn culprit<'a>(
    base: &Base,
    diagnostic: &'a Diagnostic,
    active: &[Item],
    files: usize,
) -> Option<(usize, Option<&'a Place>)> {
    let extra = |place: &'a Place| {
        let at = place.source.checked_sub(files).filter(|at| *at < active.len())?;
        Some((at, Some(place)))
    };
    let places = diagnostic.place.iter().chain(diagnostic.related.iter().rev().map(|(p, _)| p));
    let found = places.clone().find_map(extra);
    // A value of the file that an override made wrong: the object's override is to blame.
    found.or_else(|| {
        let (kind, name) = places.clone().find_map(|place| owner(&base.loaded, place))?;
        let over = |item: &Item| item.extra.over && item.kind == kind && item.name == name;
        Some((active.iter().position(over)?, None))
    })
}

/// The object of the base in whose table a place is.
fn owner(loaded: &Loaded, place: &Place) -> Option<(ObjectKind, String)> {
    let line = loaded.sources.get(place.source)?.position(place.span.start).0;
    let all = ObjectKind::ALL
        .into_iter()
        .flat_map(|kind| loaded.declared(kind.as_str()).map(move |declared| (kind, declared)));
    let before = all.filter(|(_, d)| d.source == place.source && d.line <= line);
    before.max_by_key(|(_, d)| d.line).map(|(kind, declared)| (kind, declared.name))
}

/// A diagnostic without its source lines.
fn problem(
    pointer: &str,
    diagnostic: &Diagnostic,
    report: &Report,
    files: usize,
    active: &[Item],
) -> Problem {
    let code = diagnostic.code.name();
    if diagnostic.code == Code::UndefinedVariable {
        let detail = "its credential cannot be opened: the sealed value is gone, or its master key is not set";
        return Problem::new(pointer, code, detail);
    }
    let mut detail = diagnostic.message.clone();
    if !diagnostic.label.is_empty() {
        detail = format!("{detail}: {}", diagnostic.label);
    }
    for (place, text) in &diagnostic.related {
        let at = match place.source.checked_sub(files).and_then(|at| active.get(at)) {
            Some(item) => format!("{} `{}`", item.kind.as_str(), item.name),
            None => match report.sources.get(place.source) {
                Some(source) => format!("{}:{}", source.name, source.position(place.span.start).0),
                None => continue,
            },
        };
        detail = format!("{detail} ({text}: {at})");
    }
    if let Some(help) = &diagnostic.help {
        detail = format!("{detail}; {help}");
    }
    Problem::new(pointer, code, detail)
}

/// What is doubtful about a merged configuration, of what is stored.
pub(super) fn warnings(desired: &Desired) -> Vec<Problem> {
    let loaded = &desired.loaded;
    let made = |d: &&Diagnostic| {
        d.place.as_ref().is_some_and(|p| loaded.sources.get(p.source).is_some_and(|s| s.is_made()))
    };
    let texts = loaded.warnings.iter().filter(made);
    texts.map(|d| Problem::new("", d.code.name(), d.message.clone())).collect()
}
