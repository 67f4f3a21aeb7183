//! An exported text taken in again: all of it or nothing.

use std::sync::Arc;

use serde_json::Value;

use super::change::{Change, Imported};
use super::credentials::{SHA256, Sealer, reference, reference_to, sha256_hex};
use super::draft::{Draft, Target, overridable};
use super::error::RegistryError;
use super::export::{AS_WRITTEN, exported_body, placeholder};
use super::merge::warnings;
use super::object::{Body, Object, Origin};
use super::problem::Problem;
use super::render::member;
use super::{Inner, Registry};
use crate::store::{ObjectKind, StoreError};

/// What a placeholder begins with.
const PLACEHOLDER: &str = "${file:secrets/";

impl Registry {
    /// Takes in a text as [`Registry::export`] gives it: makes and changes the objects that it names and leaves all others as they are.
    /// Placeholders keep credentials that are here. Objects of the files have to be as they are, but for what can be overridden.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`] with pointers such as `/backend/0/url`; as for [`Registry::create`].
    pub async fn import(
        &self,
        toml: String,
        dry_run: bool,
        change: Change,
    ) -> Result<Imported, RegistryError> {
        let toml: Arc<str> = toml.into();
        let inner = Arc::clone(&self.inner);
        let (text, by) = (Arc::clone(&toml), change.clone());
        // Always tried first, so that an import that changes nothing makes no version.
        let store = self.writer()?;
        let tried = store.write(move |tx| match try_it(&inner, tx, &by, &text) {
            Ok(tried) => Err::<(), _>(Tried::Would(Box::new(tried))),
            Err(error) => Err(Tried::Failed(error)),
        });
        let imported = match tried.await {
            Ok(()) => return Err(RegistryError::Damaged("a dry run was not undone".to_owned())),
            Err(Tried::Failed(error)) => return Err(error),
            Err(Tried::Would(imported)) => *imported,
        };
        if dry_run || imported.changes.is_empty() {
            return Ok(imported);
        }
        let written = self.write("import", change, move |draft| draft.import(&toml)).await?;
        Ok(Imported { written: Some(written), ..imported })
    }
}

/// The end of a dry run; being an error, it undoes the transaction.
enum Tried {
    Would(Box<Imported>),
    Failed(RegistryError),
}

impl From<StoreError> for Tried {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

fn try_it(
    inner: &Inner,
    tx: &crate::store::Tx,
    change: &Change,
    text: &str,
) -> Result<Imported, RegistryError> {
    let done = inner.transact(tx, "import", change, |draft| draft.import(text))?;
    Ok(Imported { changes: done.target.parts, warnings: warnings(&done.desired), written: None })
}

impl Draft<'_> {
    pub(super) fn import(&mut self, text: &str) -> Result<Target, RegistryError> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            let detail = format!("line {line}: {}", error.message());
            RegistryError::invalid(Problem::new("", "syntax", detail))
        })?;
        let mut parts = Vec::new();
        for kind in ObjectKind::ALL {
            let Some(items) = table.get(kind.as_str()).and_then(toml::Value::as_array) else {
                continue;
            };
            for (at, item) in items.iter().enumerate() {
                let place = format!("/{}/{at}", kind.as_str());
                let part = self.import_one(kind, item).map_err(|error| below(&place, error))?;
                parts.extend(part);
            }
        }
        let summary = format!("import {} changes", parts.len());
        Ok(Target::many(summary, parts, false))
    }

    fn import_one(
        &mut self,
        kind: ObjectKind,
        item: &toml::Value,
    ) -> Result<Option<String>, RegistryError> {
        let name = item.get("name").and_then(toml::Value::as_str).unwrap_or_default();
        let object = self.before.object(kind, name, &self.change.catalog);
        let object = object.filter(|object| object.name == name);
        let of_base =
            |object: &&Object| matches!(object.origin, Origin::File { .. } | Origin::Builtin);
        if let Some(object) = object.as_ref().filter(of_base) {
            let body = body_of(item, AS_WRITTEN)?;
            return self.import_over(object, &body);
        }
        let mut body = body_of(item, &[])?;
        if kind == ObjectKind::Region && self.is_implied(name, &body) {
            return Ok(None);
        }
        if kind == ObjectKind::Key
            && let Some(Value::String(secret)) = body.remove("secret")
        {
            body.insert(SHA256.to_owned(), sha256_hex(&secret).into());
        }
        match object.filter(|object| object.origin == Origin::Stored) {
            None => {
                if let Some(pointer) = first_placeholder(&body, "") {
                    let detail = "there is no credential here that this placeholder could keep; write it in its place";
                    return Err(RegistryError::invalid(Problem::new(pointer, "expansion", detail)));
                }
                self.insert(kind, name, body)?;
                // Its secret is somewhere else, or nobody was shown it.
                self.secret = None;
                Ok(Some(format!("create {kind} {name:?}")))
            }
            Some(object) => {
                self.keep_credentials(&object, &mut body)?;
                let same = normal(&body) == normal(&self.stored_body(&object.id));
                if same {
                    return Ok(None);
                }
                self.update(&object, body, false)?;
                Ok(Some(format!("change {kind} {name:?}")))
            }
        }
    }

    fn stored_body(&self, id: &str) -> Body {
        self.state.object(id).map(|stored| stored.body.clone()).unwrap_or_default()
    }

    /// Puts the references of the stored object in the place of its own placeholders.
    fn keep_credentials(&self, object: &Object, body: &mut Body) -> Result<(), RegistryError> {
        let stored = self.stored_body(&object.id);
        Sealer::each(object.kind, body, |field, value| {
            let Some(file) = reference(value) else { return Ok(()) };
            let kept = Sealer::value_of(object.kind, &stored, field);
            match kept.filter(|_| file == placeholder(object.kind, &object.name, field)) {
                Some(kept) => {
                    *value = kept;
                    Ok(())
                }
                None => {
                    let detail = "there is no credential here that this placeholder could keep";
                    let pointer = field.split('/').fold(String::new(), |at, key| member(&at, key));
                    Err(RegistryError::invalid(Problem::new(pointer, "expansion", detail)))
                }
            }
        })
    }

    /// An object of the files: what differs has to be what can be overridden.
    fn import_over(
        &mut self,
        object: &Object,
        body: &Body,
    ) -> Result<Option<String>, RegistryError> {
        let (old, new) = (normal(&exported_body(object)), normal(body));
        let keys = new.keys().chain(old.keys().filter(|key| !new.contains_key(*key)));
        let differing: Vec<&String> = keys.filter(|key| new.get(*key) != old.get(*key)).collect();
        if differing.is_empty() {
            return Ok(None);
        }
        let mut over = object.overrides.clone().unwrap_or_default();
        let mut asked = Body::new();
        for key in differing {
            // What the text leaves out cannot be overridden away, unless an override gave it.
            let value = new.get(key).cloned().unwrap_or(Value::Null);
            if !overridable(object.kind).contains(&key.as_str()) {
                asked.insert(key.clone(), value);
            } else if value.is_null() {
                over.remove(key);
            } else {
                over.insert(key.clone(), value);
            }
        }
        self.put_over(object, over, &asked)?;
        Ok(Some(format!("override {} {:?}", object.kind, object.name)))
    }

    /// An export names the regions that no one declares as well.
    fn is_implied(&self, name: &str, body: &Body) -> bool {
        let declared = self.before.object(ObjectKind::Region, name, &Default::default()).is_some();
        let exists = self.before.spec.regions.iter().any(|region| region.name.as_str() == name);
        exists && !declared && normal(body).len() == 1
    }
}

/// The same object without lists that say what leaving them out says.
fn normal(body: &Body) -> Body {
    let empty = |key: &str, value: &Value| {
        key == "neighbours" && value.as_array().is_some_and(Vec::is_empty)
    };
    body.iter()
        .filter(|(key, value)| !empty(key, value))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

/// Moves the pointers of an error below a place.
fn below(place: &str, error: RegistryError) -> RegistryError {
    match error {
        RegistryError::Invalid(problems) => {
            let moved = problems.into_iter().map(|problem| Problem {
                pointer: format!("{place}{}", problem.pointer),
                ..problem
            });
            RegistryError::Invalid(moved.collect())
        }
        other => other,
    }
}

fn body_of(item: &toml::Value, as_written: &[&str]) -> Result<Body, RegistryError> {
    let Some(table) = item.as_table() else {
        return Err(RegistryError::invalid(Problem::new("", "wrong-type", "expected a table")));
    };
    let entries = table.iter().map(|(key, value)| {
        let raw = as_written.contains(&key.as_str());
        Ok((key.clone(), json_of(value, raw, &member("", key))?))
    });
    entries.collect()
}

fn json_of(value: &toml::Value, raw: bool, pointer: &str) -> Result<Value, RegistryError> {
    Ok(match value {
        toml::Value::String(text) if raw => Value::from(text.as_str()),
        toml::Value::String(text) => text_of(text, pointer)?,
        toml::Value::Integer(v) => Value::from(*v),
        toml::Value::Float(v) => Value::from(*v),
        toml::Value::Boolean(v) => Value::from(*v),
        toml::Value::Datetime(v) => Value::from(v.to_string()),
        toml::Value::Array(items) => {
            let items = items.iter().enumerate();
            let items = items.map(|(at, item)| json_of(item, raw, &format!("{pointer}/{at}")));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        toml::Value::Table(table) => {
            let entries = table
                .iter()
                .map(|(key, value)| Ok((key.clone(), json_of(value, raw, &member(pointer, key))?)));
            Value::Object(entries.collect::<Result<_, RegistryError>>()?)
        }
    })
}

/// A text: a placeholder, or one in which nothing is to be expanded.
fn text_of(text: &str, pointer: &str) -> Result<Value, RegistryError> {
    let inner = text.strip_prefix(PLACEHOLDER).and_then(|rest| rest.strip_suffix('}'));
    if let Some(file) = inner.filter(|file| !file.contains(['{', '}', '$'])) {
        return Ok(reference_to(file));
    }
    let plain = text.replace("$${", "");
    if plain.contains("${") {
        let detail = "variables and files are not read by an import; write the value, or `$${` for a plain `${`";
        return Err(RegistryError::invalid(Problem::new(pointer, "expansion", detail)));
    }
    Ok(Value::from(text.replace("$${", "${")))
}

/// The first placeholder of a body.
fn first_placeholder(body: &Body, at: &str) -> Option<String> {
    body.iter().find_map(|(key, value)| {
        let pointer = member(at, key);
        match value {
            value if reference(value).is_some() => Some(pointer),
            Value::Object(inner) => first_placeholder(inner, &pointer),
            _ => None,
        }
    })
}
