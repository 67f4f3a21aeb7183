//! Credentials of stored objects: in their bodies stand references, the sealed values are rows of the store.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::Environment;
use router::spec::Secret;
use serde_json::{Value, json};

use super::error::RegistryError;
use super::object::Body;
use super::problem::Problem;
use super::render::member;
use crate::store::{ObjectKind, SealedRow, new_id};
use crate::vault::{RecordId, Vault};

/// What the names of variables begin with that stand for sealed credentials.
pub(super) const VARIABLE: &str = "FOREBAY_SEALED_";
/// The only member of a reference.
const MEMBER: &str = "$sealed";
/// The credential of a backend or of a deployment.
const API_KEY: &str = "api_key";
/// A key's digest, which is all that is kept of its secret.
pub(super) const SHA256: &str = "secret_sha256";
/// What a key's secret begins with.
const KEY_PREFIX: &str = "fb-";
/// Random bytes of a key's secret.
const KEY_BYTES: usize = 32;

/// The id of the sealed row that a value refers to.
pub(super) fn reference(value: &Value) -> Option<&str> {
    match value {
        Value::Object(map) if map.len() == 1 => map.get(MEMBER)?.as_str(),
        _ => None,
    }
}

/// What opens references, and what may be shown of them.
pub trait Credentials {
    /// The credential behind a reference.
    fn open(&self, id: &str) -> Option<Secret>;
    /// What a reader of the object sees: `{"set": true, "last4", "fingerprint"}`.
    fn shown(&self, id: &str) -> Value;
}

/// Sealed rows and the vault that opens them.
pub(super) struct SealedRows<'a> {
    pub(super) vault: &'a Vault,
    pub(super) rows: &'a BTreeMap<String, SealedRow>,
}

impl Credentials for SealedRows<'_> {
    fn open(&self, id: &str) -> Option<Secret> {
        self.vault.open_row(self.rows.get(id)?).ok()
    }

    fn shown(&self, id: &str) -> Value {
        let mut shown = json!({"set": true});
        if let Some(row) = self.rows.get(id) {
            shown["fingerprint"] = json!(row.fingerprint);
            if let Some(last4) = &row.last4 {
                shown["last4"] = json!(last4);
            }
        }
        shown
    }
}

/// The environment of stored objects: their own references, no variable and no file.
pub(super) struct Answers<'a>(pub(super) &'a dyn Credentials);

impl Environment for Answers<'_> {
    fn var(&self, name: &str) -> Option<String> {
        let secret = self.0.open(name.strip_prefix(VARIABLE)?)?;
        Some(secret.expose().to_owned())
    }

    fn read(&self, _: &Path) -> io::Result<String> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn list(&self, _: &Path) -> io::Result<Option<Vec<PathBuf>>> {
        Ok(None)
    }
}

/// Where an object may hold an `api_key`: the way to the table and the table.
fn holders(kind: ObjectKind, body: &mut Body) -> Vec<(Vec<String>, &mut Body)> {
    match kind {
        ObjectKind::Backend => vec![(Vec::new(), body)],
        ObjectKind::Model => {
            let deployments = body.get_mut("deployments").and_then(Value::as_object_mut);
            let entries = deployments.into_iter().flatten();
            let tables = entries.filter_map(|(name, value)| {
                Some((vec!["deployments".to_owned(), name.clone()], value.as_object_mut()?))
            });
            tables.collect()
        }
        _ => Vec::new(),
    }
}

/// Every reference of an object and the field that it stands in: `deployments/eu-1/api_key`.
pub(super) fn references(kind: ObjectKind, body: &Body) -> Vec<(String, String)> {
    let mut copy = body.clone();
    let found = holders(kind, &mut copy).into_iter().filter_map(|(mut path, table)| {
        let id = reference(table.get(API_KEY)?)?.to_owned();
        path.push(API_KEY.to_owned());
        Some((path.join("/"), id))
    });
    found.collect()
}

/// The body as it is shown: no reference and no digest.
pub(super) fn redact(kind: ObjectKind, body: &Body, credentials: &dyn Credentials) -> Body {
    let mut shown = body.clone();
    for (_, table) in holders(kind, &mut shown) {
        if let Some(value) = table.get_mut(API_KEY)
            && let Some(id) = reference(value)
        {
            *value = credentials.shown(id);
        }
    }
    if kind == ObjectKind::Key
        && let Some(value) = shown.get_mut(SHA256)
    {
        let text = value.as_str().unwrap_or_default();
        let mark = blake3::hash(text.as_bytes()).to_hex();
        *value = json!({"set": true, "fingerprint": &mark[..16]});
    }
    shown
}

/// A reference to what this id stands for.
pub(super) fn reference_to(id: &str) -> Value {
    json!({MEMBER: id})
}

/// Puts a reference in the place of every credential of a body that is shown; `name` makes it from the field.
pub(super) fn replace_shown(kind: ObjectKind, body: &mut Body, name: impl Fn(&str) -> String) {
    let is_set = |value: &Value| value.get("set") == Some(&Value::Bool(true));
    for (mut path, table) in holders(kind, body) {
        path.push(API_KEY.to_owned());
        match table.get_mut(API_KEY) {
            Some(value) if is_set(value) => *value = reference_to(&name(&path.join("/"))),
            Some(_) => drop(table.remove(API_KEY)),
            None => {}
        }
    }
    if kind == ObjectKind::Key {
        for field in ["secret", SHA256] {
            match body.get_mut(field) {
                Some(value) if is_set(value) => *value = reference_to(&name(field)),
                _ => drop(body.remove(field)),
            }
        }
    }
}

/// Seals what comes in.
pub(super) struct Sealer<'a> {
    pub(super) vault: &'a Vault,
    /// Unix milliseconds.
    pub(super) now: u64,
    pub(super) rng: fastrand::Rng,
    /// What has to be stored before the bodies that refer to it.
    pub(super) rows: Vec<SealedRow>,
}

impl Sealer<'_> {
    /// Calls back with every credential of a body, a key's digest included.
    pub(super) fn each(
        kind: ObjectKind,
        body: &mut Body,
        mut visit: impl FnMut(&str, &mut Value) -> Result<(), RegistryError>,
    ) -> Result<(), RegistryError> {
        if kind == ObjectKind::Key
            && let Some(value) = body.get_mut(SHA256)
        {
            visit(SHA256, value)?;
        }
        for (mut path, table) in holders(kind, body) {
            path.push(API_KEY.to_owned());
            if let Some(value) = table.get_mut(API_KEY) {
                visit(&path.join("/"), value)?;
            }
        }
        Ok(())
    }

    /// What a body holds in the field of a credential.
    pub(super) fn value_of(kind: ObjectKind, body: &Body, field: &str) -> Option<Value> {
        let (mut copy, mut found) = (body.clone(), None);
        let visited = Self::each(kind, &mut copy, |at, value| {
            if at == field {
                found = Some(value.clone());
            }
            Ok(())
        });
        visited.ok().and(found)
    }

    /// Takes the credentials out of a body and leaves references. Where one is absent, `old` gives it if `keeps`; one that is
    /// sent as it is shown stays; `null` and `""` remove it.
    pub(super) fn take(
        &mut self,
        kind: ObjectKind,
        owner: &str,
        body: &mut Body,
        old: Option<&Body>,
        keeps: bool,
    ) -> Result<(), RegistryError> {
        let moved = old.is_some_and(|old| origin(old) != origin(body));
        let old: BTreeMap<String, String> =
            old.map(|old| references(kind, old)).unwrap_or_default().into_iter().collect();
        for (mut path, table) in holders(kind, body) {
            path.push(API_KEY.to_owned());
            let field = path.join("/");
            let kept = old.get(&field);
            let value = match table.get(API_KEY) {
                None if keeps => kept.cloned(),
                None | Some(Value::Null) => None,
                Some(Value::String(text)) if text.is_empty() => None,
                Some(Value::String(text)) => Some(self.seal(kind, owner, &field, text)?),
                Some(Value::Object(map)) => match map.get("set") {
                    Some(Value::Bool(false)) => None,
                    Some(Value::Bool(true)) if kept.is_some() => kept.cloned(),
                    None if kept.is_some()
                        && reference(&Value::Object(map.clone())) == kept.map(String::as_str) =>
                    {
                        kept.cloned()
                    }
                    _ => return Err(not_text(&path)),
                },
                Some(_) => return Err(not_text(&path)),
            };
            // A credential is for the server that it was given for: who may not read it must not have it sent elsewhere.
            if moved && value.is_some() && value.as_ref() == kept {
                let detail =
                    "the address changes: give the credential for it again, or null for none";
                return Err(RegistryError::invalid(Problem::new(
                    pointer_to(&path),
                    "credential-needed",
                    detail,
                )));
            }
            match value {
                Some(id) => table.insert(API_KEY.to_owned(), reference_to(&id)),
                None => table.remove(API_KEY),
            };
        }
        Ok(())
    }

    fn seal(
        &mut self,
        kind: ObjectKind,
        owner: &str,
        field: &str,
        text: &str,
    ) -> Result<String, RegistryError> {
        if !self.vault.can_seal() {
            return Err(RegistryError::NoMasterKey);
        }
        let id = new_id("sec", &mut self.rng);
        // A former value stays for those versions that refer to it, so the field alone is not unique.
        let record = RecordId::new(kind.as_str(), owner, &format!("{field}@{id}"));
        let sealed = self
            .vault
            .seal(&record, &Secret::new(text))
            .map_err(|error| RegistryError::Vault(error.to_string()))?;
        self.rows.push(sealed.into_row(&id, &record, self.now));
        Ok(id)
    }
}

/// Where a backend's requests go: the scheme, the host and the port of its URL.
fn origin(body: &Body) -> Option<String> {
    let url = config::base_url(body.get("url")?.as_str()?).ok()?;
    let (scheme, rest) = url.split_once("://")?;
    Some(format!("{scheme}://{}", rest.split('/').next().unwrap_or_default()))
}

fn pointer_to(path: &[String]) -> String {
    path.iter().fold(String::new(), |parent, key| member(&parent, key))
}

fn not_text(path: &[String]) -> RegistryError {
    let detail = "a credential is a text; null removes it, leaving it out keeps it";
    RegistryError::invalid(Problem::new(pointer_to(path), "wrong-type", detail))
}

/// Sees to the digest of a key: the one that it has stays, a new key gets a secret, which is given back this once.
pub(super) fn key_secret(
    body: &mut Body,
    old: Option<&Body>,
) -> Result<Option<Secret>, RegistryError> {
    match body.remove("secret") {
        None | Some(Value::Null | Value::Object(_)) => {}
        Some(_) => {
            let detail = "a key's secret is made here and shown once; leave it out, or give the `secret_sha256` of one \
                          that exists";
            return Err(RegistryError::invalid(Problem::new("/secret", "read-only", detail)));
        }
    }
    if body.get(SHA256).is_some_and(Value::is_string) {
        return Ok(None);
    }
    if let Some(digest) = old.and_then(|old| old.get(SHA256)) {
        body.insert(SHA256.to_owned(), digest.clone());
        return Ok(None);
    }
    let (secret, digest) = new_key()?;
    body.insert(SHA256.to_owned(), json!(digest));
    Ok(Some(secret))
}

/// A new key's secret and its SHA-256 in hexadecimal digits.
pub(super) fn new_key() -> Result<(Secret, String), RegistryError> {
    let mut bytes = zeroize::Zeroizing::new([0_u8; KEY_BYTES]);
    rand::fill(&mut *bytes)
        .map_err(|_| RegistryError::Vault("the system gives no random bytes".to_owned()))?;
    let text = zeroize::Zeroizing::new(format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(*bytes)));
    Ok((Secret::new(&text), sha256_hex(&text)))
}

/// SHA-256 of a text in hexadecimal digits.
pub(super) fn sha256_hex(text: &str) -> String {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
