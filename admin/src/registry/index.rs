//! Every object of the merged state as it is shown, by kind, name and id.

use std::collections::{BTreeMap, HashMap};

use config::Loaded;
use router::spec::{Catalog, SnapshotSpec};
use serde_json::json;

use super::base::Base;
use super::credentials::{Credentials, redact};
use super::desired::Conflict;
use super::object::{Body, Etag, Object, Origin};
use crate::store::{ObjectKind, StoredObject, StoredOverride};

/// Every object that is declared or stored.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By name.
    objects: BTreeMap<ObjectKind, Vec<Object>>,
    names: HashMap<(ObjectKind, String), usize>,
    ids: HashMap<(ObjectKind, String), usize>,
}

impl Index {
    pub(super) fn build(
        base: &Base,
        loaded: &Loaded,
        stored: &[StoredObject],
        overrides: &[StoredOverride],
        conflicts: &[Conflict],
        credentials: &dyn Credentials,
    ) -> Self {
        let left_out = |id: Option<&str>, kind, name: &str| {
            conflicts.iter().find(|c| c.id.as_deref() == id && c.kind == kind && c.name == name)
        };
        let overrides: HashMap<(ObjectKind, &str), &StoredOverride> = overrides
            .iter()
            .filter(|over| left_out(None, over.kind, &over.name).is_none())
            .map(|over| ((over.kind, over.name.as_str()), over))
            .collect();
        let mut index = Self::default();
        for kind in ObjectKind::ALL {
            let based = loaded.declared(kind.as_str()).filter_map(|declared| {
                let source = loaded.sources.get(declared.source).filter(|s| !s.is_made())?;
                let origin = if base.builtin {
                    Origin::Builtin
                } else {
                    Origin::File { file: source.name.clone(), line: declared.line }
                };
                let over = overrides.get(&(kind, declared.name.as_str())).copied();
                Some(of_base(kind, declared.name, origin, declared.body, over))
            });
            let kept = stored.iter().filter(|object| object.kind == kind).map(|object| {
                let conflict = left_out(Some(&object.id), kind, &object.name);
                of_store(object, conflict, credentials)
            });
            let mut objects: Vec<Object> = based.chain(kept).collect();
            // One that takes part comes before its disabled namesake.
            objects.sort_by(|a, b| {
                (&a.name, a.disabled.is_some()).cmp(&(&b.name, b.disabled.is_some()))
            });
            for (at, object) in objects.iter().enumerate() {
                index.names.entry((kind, object.name.clone())).or_insert(at);
                index.ids.insert((kind, object.id.clone()), at);
            }
            index.objects.insert(kind, objects);
        }
        index
    }

    pub(super) fn find(&self, kind: ObjectKind, id_or_name: &str) -> Option<&Object> {
        let key = (kind, id_or_name.to_owned());
        // The id of a file's object is its name, which a stored namesake may have too.
        let at = self.names.get(&key).or_else(|| self.ids.get(&key))?;
        self.objects.get(&kind)?.get(*at)
    }

    pub(super) fn all(&self, kind: ObjectKind) -> &[Object] {
        self.objects.get(&kind).map_or(&[], Vec::as_slice)
    }
}

fn of_base(
    kind: ObjectKind,
    name: String,
    origin: Origin,
    body: Body,
    over: Option<&StoredOverride>,
) -> Object {
    let overrides = over.map(|over| over.body.clone());
    let revision = over.map_or(0, |over| over.revision);
    let etag = Etag::of(kind, &name, revision, &body, &overrides.clone().unwrap_or_default());
    let updated_at = over.map(|over| over.updated_at);
    let id = name.clone();
    let (created_at, disabled) = (None, None);
    Object { kind, id, name, origin, body, overrides, etag, created_at, updated_at, disabled }
}

fn of_store(
    object: &StoredObject,
    conflict: Option<&Conflict>,
    credentials: &dyn Credentials,
) -> Object {
    let kind = object.kind;
    let body = redact(kind, &object.body, credentials);
    Object {
        kind,
        id: object.id.clone(),
        name: object.name.clone(),
        origin: Origin::Stored,
        etag: Etag::of(kind, &object.id, object.revision, &body, &Body::new()),
        body,
        overrides: None,
        created_at: Some(object.created_at),
        updated_at: Some(object.updated_at),
        disabled: conflict.and_then(|conflict| conflict.problems.first().cloned()),
    }
}

/// Models that backends serve and nobody declared, by name.
pub(super) fn discovered(spec: &SnapshotSpec, catalog: &Catalog) -> BTreeMap<String, Object> {
    let mut taken: std::collections::HashSet<&str> = std::collections::HashSet::new();
    for model in &spec.models {
        let names = std::iter::once(&model.name).chain(&model.aliases).chain(&model.upstream_model);
        let deployed = model.deployments.iter().filter_map(|d| d.upstream_model.as_ref());
        taken.extend(names.chain(deployed).map(|name| name.as_str()));
    }
    let mut found = BTreeMap::new();
    for backend in &spec.backends {
        for model in catalog.get(&backend.name).map(|models| &**models).unwrap_or_default() {
            let name = model.name.as_str();
            if taken.contains(name) || (model.remote && !backend.allow_cloud) {
                continue;
            }
            found.entry(name.to_owned()).or_insert_with(|| undeclared(name));
        }
    }
    found
}

/// A model of which only the name is known.
fn undeclared(name: &str) -> Object {
    let mut body = Body::new();
    body.insert("name".to_owned(), json!(name));
    Object {
        kind: ObjectKind::Model,
        id: name.to_owned(),
        name: name.to_owned(),
        origin: Origin::Discovered,
        etag: Etag::of(ObjectKind::Model, name, 0, &body, &Body::new()),
        body,
        overrides: None,
        created_at: None,
        updated_at: None,
        disabled: None,
    }
}
