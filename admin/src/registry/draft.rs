//! One change on its way: what every write may read and does to the state, inside of the transaction.

use serde_json::Value;

use super::change::Change;
use super::credentials::{SHA256, Sealer, key_secret, new_key};
use super::desired::Desired;
use super::error::RegistryError;
use super::object::{Body, Object, Origin};
use super::patch::{merge_patch, without_nulls};
use super::problem::Problem;
use super::referrers::referrers;
use super::render::member;
use super::state::State;
use crate::outbound;
use crate::store::{ObjectKind, StoredObject, StoredOverride, new_id};
use router::spec::Secret;

/// What of an object that is not stored the API may change (DESIGN 9).
pub(super) const fn overridable(kind: ObjectKind) -> &'static [&'static str] {
    match kind {
        ObjectKind::Model => &["region", "priority_head", "heads"],
        ObjectKind::Backend => &["weight", "enabled", "draining"],
        _ => &[],
    }
}

/// A state that is being changed.
pub(super) struct Draft<'a> {
    /// What is in force before the change.
    pub(super) before: &'a Desired,
    pub(super) state: State,
    pub(super) sealer: Sealer<'a>,
    pub(super) change: &'a Change,
    /// A new key's secret.
    pub(super) secret: Option<Secret>,
}

/// What a write was about.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// The object, when it was one.
    pub(super) object: Option<(ObjectKind, String)>,
    /// For the version: `create backend "a"`.
    pub(super) summary: String,
    /// The parts of a change of many objects, each like a summary.
    pub(super) parts: Vec<String>,
    /// Whether conflicts that it makes are accepted; what takes no part is then reported as such.
    pub(super) lenient: bool,
}

impl Target {
    /// A change of many objects.
    pub(super) const fn many(summary: String, parts: Vec<String>, lenient: bool) -> Self {
        Self { object: None, summary, parts, lenient }
    }

    pub(super) fn one(action: &str, kind: ObjectKind, name: &str) -> Self {
        let summary = format!("{action} {} {name:?}", kind.as_str());
        Self { object: Some((kind, name.to_owned())), summary, parts: Vec::new(), lenient: false }
    }
}

type Outcome = Result<Target, RegistryError>;

impl Draft<'_> {
    /// The object, if the caller's condition holds.
    fn find(&self, kind: ObjectKind, id: &str) -> Result<Object, RegistryError> {
        let object = self.before.object(kind, id, &self.change.catalog);
        let object = object.ok_or_else(|| RegistryError::missing(kind, id))?;
        match &self.change.if_match {
            Some(condition) if !condition.holds(&object.etag) => {
                Err(RegistryError::Stale { etag: object.etag })
            }
            _ => Ok(object),
        }
    }

    pub(super) fn create(&mut self, kind: ObjectKind, body: Body) -> Outcome {
        let name = name_of(&body)?;
        match self.before.object(kind, &name, &self.change.catalog) {
            Some(object) if object.name == name && object.origin != Origin::Discovered => {
                return Err(RegistryError::Exists { kind, name });
            }
            _ => {}
        }
        self.insert(kind, &name, body)?;
        Ok(Target::one("create", kind, &name))
    }

    pub(super) fn insert(
        &mut self,
        kind: ObjectKind,
        name: &str,
        mut body: Body,
    ) -> Result<(), RegistryError> {
        let id = new_id(kind.as_str(), &mut self.sealer.rng);
        check_url(kind, &body)?;
        self.sealer.take(kind, &id, &mut body, None, false)?;
        without_nulls(&mut body);
        if kind == ObjectKind::Key {
            self.secret = key_secret(&mut body, None)?;
        }
        self.state.objects.push(StoredObject {
            id,
            kind,
            name: name.to_owned(),
            body,
            revision: 0,
            created_at: self.sealer.now,
            updated_at: self.sealer.now,
            disabled: None,
        });
        Ok(())
    }

    pub(super) fn replace(&mut self, kind: ObjectKind, id: &str, mut body: Body) -> Outcome {
        let object = self.find(kind, id)?;
        if !body.contains_key("name") {
            body.insert("name".to_owned(), object.name.clone().into());
        }
        match &object.origin {
            Origin::Stored => self.update(&object, body, true),
            Origin::Discovered if name_of(&body)? == object.name => self.create(kind, body),
            Origin::Discovered => Err(renamed()),
            Origin::File { .. } | Origin::Builtin => Err(read_only(&object)),
        }
    }

    pub(super) fn patch(&mut self, kind: ObjectKind, id: &str, patch: &Body) -> Outcome {
        let object = self.find(kind, id)?;
        match &object.origin {
            Origin::Stored => {
                let stored = self.state.object(&object.id).map(|stored| stored.body.clone());
                let mut body = stored.unwrap_or_default();
                merge_patch(&mut body, patch);
                self.update(&object, body, false)
            }
            Origin::Discovered => {
                let mut body = object.body.clone();
                merge_patch(&mut body, patch);
                if name_of(&body)? != object.name {
                    return Err(renamed());
                }
                self.create(kind, body)
            }
            Origin::File { .. } | Origin::Builtin => {
                let mut body = object.overrides.clone().unwrap_or_default();
                merge_patch(&mut body, patch);
                // A null in a patch removes; that of a field which is not overridden changes nothing.
                self.put_over(&object, body, patch)
            }
        }
    }

    /// Puts a body in the place of a stored object's.
    pub(super) fn update(&mut self, object: &Object, mut body: Body, keeps: bool) -> Outcome {
        let kind = object.kind;
        let name = name_of(&body)?;
        if name != object.name {
            let taken = self.before.object(kind, &name, &Default::default());
            if taken.is_some_and(|other| other.id != object.id) {
                return Err(RegistryError::Exists { kind, name });
            }
            let by = referrers(kind, &object.name, &self.state);
            if !by.is_empty() {
                return Err(RegistryError::Referenced { by });
            }
        }
        check_url(kind, &body)?;
        let old = self.state.object(&object.id).map(|stored| stored.body.clone());
        self.sealer.take(kind, &object.id, &mut body, old.as_ref(), keeps)?;
        without_nulls(&mut body);
        if kind == ObjectKind::Key {
            self.secret = key_secret(&mut body, old.as_ref())?;
        }
        let stored = self.state.object_mut(&object.id);
        let stored = stored.ok_or_else(|| RegistryError::missing(kind, &object.name))?;
        stored.name.clone_from(&name);
        stored.body = body;
        Ok(Target::one("change", kind, &name))
    }

    pub(super) fn delete(&mut self, kind: ObjectKind, id: &str) -> Outcome {
        let object = self.find(kind, id)?;
        match &object.origin {
            Origin::Stored => {}
            Origin::Discovered => return Err(RegistryError::missing(kind, id)),
            Origin::File { .. } | Origin::Builtin => return Err(read_only(&object)),
        }
        // Where the file has an object of this name too, references mean that one.
        let by = match object.disabled {
            Some(_) => Vec::new(),
            None => referrers(kind, &object.name, &self.state),
        };
        if !by.is_empty() {
            return Err(RegistryError::Referenced { by });
        }
        self.state.objects.retain(|stored| stored.id != object.id);
        let mut target = Target::one("delete", kind, &object.name);
        target.object = None;
        Ok(target)
    }

    pub(super) fn set_override(&mut self, kind: ObjectKind, id: &str, body: Body) -> Outcome {
        let object = self.find(kind, id)?;
        match &object.origin {
            // An override of a discovered model declares it; a stored object is simply changed, but in no other field:
            // who may override may not do all that a patch can.
            Origin::Discovered | Origin::Stored => {
                let foreign = |key: &&String| !overridable(kind).contains(&key.as_str());
                let problems: Vec<Problem> = body.keys().filter(foreign).map(no_override).collect();
                if !problems.is_empty() {
                    return Err(RegistryError::Invalid(problems));
                }
                self.patch(kind, id, &body)
            }
            Origin::File { .. } | Origin::Builtin => {
                let asked = body.clone();
                self.put_over(&object, body, &asked)
            }
        }
    }

    pub(super) fn clear_override(&mut self, kind: ObjectKind, id: &str) -> Outcome {
        let object = self.find(kind, id)?;
        if self.state.over(kind, &object.name).is_none() {
            let what = format!("override of {} {:?}", kind.as_str(), object.name);
            return Err(RegistryError::NotFound { what });
        }
        self.state.overrides.retain(|over| over.kind != kind || over.name != object.name);
        Ok(Target::one("clear the override of", kind, &object.name))
    }

    pub(super) fn put_over(&mut self, object: &Object, mut body: Body, asked: &Body) -> Outcome {
        let kind = object.kind;
        // The name may be sent along as it is.
        let same_name = |key: &str, value: &Value| key == "name" && value == object.name.as_str();
        if asked.iter().any(|(key, value)| {
            !overridable(kind).contains(&key.as_str()) && !same_name(key, value)
        }) {
            return Err(read_only(object));
        }
        body.remove("name");
        without_nulls(&mut body);
        let (state, change) = (&mut self.state, self.change);
        state.overrides.retain(|over| over.kind != kind || over.name != object.name);
        if !body.is_empty() {
            state.overrides.push(StoredOverride {
                kind,
                name: object.name.clone(),
                body,
                revision: 0,
                updated_at: self.sealer.now,
                author: change.actor.clone(),
            });
        }
        Ok(Target::one("override", kind, &object.name))
    }

    /// Heads outside of a model's regions are refused, naming those that would do.
    pub(super) fn set_priority_head(&mut self, id: &str, head: &str) -> Outcome {
        let model = self.find(ObjectKind::Model, id)?;
        let spec = &self.before.spec;
        let found = spec.heads.iter().find(|one| one.name.as_str() == head);
        let text = |key: &str| model.body.get(key).and_then(Value::as_str);
        let home = text("region").or(spec.default_region.as_ref().map(|region| region.as_str()));
        let further = model.body.get("regions").and_then(Value::as_array);
        let further = further.into_iter().flatten().filter_map(Value::as_str);
        let allowed: Vec<&str> = home.into_iter().chain(further).collect();
        let inside = |region: &str| home.is_none() || allowed.contains(&region);
        if !found.is_some_and(|found| inside(found.region.as_str())) {
            let good = spec.heads.iter().filter(|one| inside(one.region.as_str()));
            let good: Vec<&str> = good.map(|one| one.name.as_str()).collect();
            let good = if good.is_empty() { "none".to_owned() } else { good.join(", ") };
            let why = match found {
                Some(found) => format!(
                    "the head {head:?} stands in {}, and the model allows {}",
                    found.region,
                    allowed.join(", ")
                ),
                None => format!("there is no head {head:?}"),
            };
            let code = if found.is_some() { "region-mismatch" } else { "unknown-reference" };
            let detail = format!("{why}; heads that would do: {good}");
            return Err(RegistryError::invalid(Problem::new("/priority_head", code, detail)));
        }
        let mut patch = Body::new();
        patch.insert("priority_head".to_owned(), head.into());
        self.patch(ObjectKind::Model, id, &patch)
    }

    pub(super) fn rotate_key(&mut self, id: &str) -> Outcome {
        let object = self.find(ObjectKind::Key, id)?;
        if object.origin != Origin::Stored {
            return Err(read_only(&object));
        }
        let (secret, digest) = new_key()?;
        if let Some(stored) = self.state.object_mut(&object.id) {
            stored.body.insert(SHA256.to_owned(), digest.into());
        }
        self.secret = Some(secret);
        Ok(Target::one("rotate", ObjectKind::Key, &object.name))
    }
}

fn name_of(body: &Body) -> Result<String, RegistryError> {
    match body.get("name") {
        Some(Value::String(name)) if !name.is_empty() => Ok(name.clone()),
        Some(Value::Null | Value::String(_)) | None => Err(RegistryError::invalid(Problem::new(
            "/name",
            "missing-key",
            "an object needs a name",
        ))),
        Some(_) => {
            Err(RegistryError::invalid(Problem::new("/name", "wrong-type", "a name is a text")))
        }
    }
}

/// Addresses at which clouds answer with credentials are no place for a backend, whoever asks for it here.
fn check_url(kind: ObjectKind, body: &Body) -> Result<(), RegistryError> {
    let url = body.get("url").filter(|_| kind == ObjectKind::Backend).and_then(Value::as_str);
    // What is wrong with the URL itself, config says.
    match url.and_then(|url| outbound::Target::parse(url).ok()?.forbidden()) {
        None => Ok(()),
        Some(found) => {
            Err(RegistryError::invalid(Problem::new("/url", "bad-url", found.to_string())))
        }
    }
}

fn no_override(key: &String) -> Problem {
    Problem::new(
        member("", key),
        "unknown-key",
        format!("`{key}` is none of what can be overridden"),
    )
}

fn renamed() -> RegistryError {
    let detail = "a discovered model is called what its backends call it; give it an alias by declaring another model";
    RegistryError::invalid(Problem::new("/name", "conflict", detail))
}

fn read_only(object: &Object) -> RegistryError {
    let (file, line) = match &object.origin {
        Origin::File { file, line } => (file.clone(), *line),
        _ => ("the built-in defaults".to_owned(), 0),
    };
    let fields = overridable(object.kind);
    let overridable = if fields.is_empty() { "nothing".to_owned() } else { fields.join(", ") };
    RegistryError::ReadOnly { name: object.name.clone(), file, line, overridable }
}
