//! The registry as TOML. Credentials are placeholders for files that whoever imports it has to provide.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use config::AuthMode;
use router::spec::Secret;
use serde_json::{Value, json};

use super::Registry;
use super::credentials::{Credentials, VARIABLE, redact, references, replace_shown};
use super::desired::Desired;
use super::object::{Body, Object, Origin};
use super::render::{push_text, render};
use super::state::State;
use crate::store::ObjectKind;

/// The order in which objects are written.
const ORDER: [ObjectKind; 5] =
    [ObjectKind::Region, ObjectKind::Backend, ObjectKind::Head, ObjectKind::Model, ObjectKind::Key];
/// Keys whose texts a file's object is shown with as they stand in the file, `${..}` and all.
pub(super) const AS_WRITTEN: &[&str] = &["url", "ca", "labels", "metadata"];

impl Registry {
    /// The whole registry as one TOML file that `forebay check` accepts once the files of its placeholders are there:
    /// `${file:secrets/backend-eu-1-api_key}`.
    #[must_use]
    pub fn export(&self) -> String {
        export(&self.desired())
    }
}

fn export(desired: &Desired) -> String {
    let mut out = "# The registry. Credentials are in files of their own, one line each: see secrets/.\nversion = 1\n".to_owned();
    if let Some(region) = &desired.spec.default_region {
        let _ = writeln!(out, "default_region = \"{region}\"");
    }
    let mode = match desired.config().auth.mode {
        AuthMode::Keys => "keys",
        AuthMode::Open => "open",
    };
    let _ = writeln!(out, "\n[auth]\nmode = \"{mode}\"");
    // Regions that are only implied have to be said once others are declared.
    for region in &desired.spec.regions {
        let neighbours: Vec<&str> = region.neighbours.iter().map(|name| name.as_str()).collect();
        let body = json!({"name": region.name.as_str(), "neighbours": neighbours});
        object_text(
            &mut out,
            ObjectKind::Region,
            body.as_object().cloned().unwrap_or_default(),
            &[],
        );
    }
    for kind in ORDER.into_iter().filter(|kind| *kind != ObjectKind::Region) {
        for object in desired.index.all(kind).iter().filter(|object| object.disabled.is_none()) {
            let body = exported_body(object);
            object_text(&mut out, kind, body, as_written(object));
        }
    }
    out
}

/// The body of an object with placeholders in the place of its credentials.
pub(super) fn exported_body(object: &Object) -> Body {
    let mut body = object.body.clone();
    let placeholder = |field: &str| placeholder(object.kind, &object.name, field);
    replace_shown(object.kind, &mut body, placeholder);
    body
}

/// The name of the file that stands for a credential.
pub(super) fn placeholder(kind: ObjectKind, name: &str, field: &str) -> String {
    let text = format!("{}-{name}-{}", kind.as_str(), field.replace('/', "-"));
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    text.chars().map(plain).collect()
}

/// Which keys of an object are written without escaping `${`.
fn as_written(object: &Object) -> &'static [&'static str] {
    if object.origin == Origin::Stored { &[] } else { AS_WRITTEN }
}

/// Writes one object. Every placeholder and the keys named by `plain` keep their `${`; in all other texts it is escaped.
fn object_text(out: &mut String, kind: ObjectKind, mut body: Body, plain: &[&str]) {
    let name = body.remove("name").unwrap_or_default();
    let _ = write!(out, "\n[[{}]]\nname = ", kind.as_str());
    push_text(out, name.as_str().unwrap_or_default());
    out.push('\n');
    let rendered = render(kind, &body).text;
    for line in rendered.lines().skip(1) {
        let key = line.split('"').nth(1).unwrap_or_default();
        // Names of keys are plain words, so their quotes are only noise.
        let line = line.replacen(&format!("\"{key}\" = "), &format!("{key} = "), 1);
        let line = if plain.contains(&key) { line.replace("$${", "${") } else { line };
        // Only a reference begins like this: any other text has its `${` escaped.
        let line = line.replace(&format!("\"${{{VARIABLE}"), "\"${file:secrets/");
        let _ = writeln!(out, "{line}");
    }
}

/// Shows references as what they are, for texts that only people read.
struct Named;

impl Credentials for Named {
    fn open(&self, _: &str) -> Option<Secret> {
        None
    }

    fn shown(&self, _: &str) -> Value {
        json!({"set": true})
    }
}

/// Stored objects and overrides of a version, by kind and name.
pub(super) fn state_text(state: &State) -> String {
    let mut texts: BTreeMap<(usize, &str), String> = BTreeMap::new();
    for object in &state.objects {
        let mut body = redact(object.kind, &object.body, &Named);
        // The id of the sealed value tells a new one from the former.
        let ids: BTreeMap<String, String> =
            references(object.kind, &object.body).into_iter().collect();
        replace_shown(object.kind, &mut body, |field| {
            let text = placeholder(object.kind, &object.name, field);
            ids.get(field).map_or(text.clone(), |id| format!("{text} {id}"))
        });
        let mut text = String::new();
        object_text(&mut text, object.kind, body, &[]);
        let order = ORDER.iter().position(|kind| *kind == object.kind).unwrap_or(ORDER.len());
        texts.insert((order, &object.name), text);
    }
    let mut out: String = texts.into_values().collect();
    for over in &state.overrides {
        let mut text = String::new();
        let mut body = over.body.clone();
        body.insert("name".to_owned(), over.name.clone().into());
        object_text(&mut text, over.kind, body, &[]);
        let _ = write!(out, "\n# override{}", text.replacen("\n", "\n# ", 1).replace('\n', "\n# "));
        out.truncate(out.trim_end_matches(['#', ' ']).len());
    }
    out
}
