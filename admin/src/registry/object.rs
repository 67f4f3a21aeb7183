//! One object as the admin API shows it: what is in force, and where it comes from.

use std::fmt;

use serde_json::{Map, Value};

use super::problem::Problem;
use crate::store::ObjectKind;

/// A JSON object whose names are those of the TOML file.
pub type Body = Map<String, Value>;

/// Where an object is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file declares it; read-only but for overrides.
    File {
        /// The file as the operator wrote it.
        file: String,
        /// The line of its table, from 1.
        line: usize,
    },
    /// It was made through the API.
    Stored,
    /// No one declared it; a backend serves it.
    Discovered,
    /// It is looked for because there is no configuration file.
    Builtin,
}

impl Origin {
    /// The word in the API.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Stored => "stored",
            Self::Discovered => "discovered",
            Self::Builtin => "builtin",
        }
    }
}

/// A strong entity tag, with its quotes (RFC 9110 8.8.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etag(pub(crate) String);

impl Etag {
    /// The tag of a representation: it changes with the desired part of an object, never with its live part.
    pub(super) fn of(
        kind: ObjectKind,
        name: &str,
        revision: u64,
        body: &Body,
        over: &Body,
    ) -> Self {
        let mut hash = blake3::Hasher::new();
        for part in [kind.as_str(), name] {
            hash.update(part.as_bytes()).update(&[0]);
        }
        hash.update(&revision.to_le_bytes());
        for map in [body, over] {
            // Keys of a map are sorted, so equal maps have equal texts.
            hash.update(Value::Object(map.clone()).to_string().as_bytes()).update(&[0]);
        }
        Self(format!("\"{}\"", &hash.finalize().to_hex()[..24]))
    }

    /// The tag with its quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The condition of an `If-Match` header (RFC 9110 13.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`: whatever there is.
    Any,
    /// One of these tags, each with its quotes.
    One(Vec<String>),
}

impl IfMatch {
    /// Reads the header; weak tags never match strongly, so they are left out.
    #[must_use]
    pub fn parse(header: &str) -> Self {
        if header.trim() == "*" {
            return Self::Any;
        }
        let tags = header.split(',').map(str::trim).filter(|tag| tag.starts_with('"'));
        Self::One(tags.map(str::to_owned).collect())
    }

    /// Whether the object's tag is one that is asked for.
    #[must_use]
    pub fn holds(&self, etag: &Etag) -> bool {
        match self {
            Self::Any => true,
            Self::One(tags) => tags.contains(&etag.0),
        }
    }
}

/// One object of the registry.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// What it is.
    pub kind: ObjectKind,
    /// A stored object's own id; the name of any other.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where it is from.
    pub origin: Origin,
    /// What is in force, overrides included, defaults not filled in. A credential is `{"set": true, "last4", "fingerprint"}`,
    /// of which a file's has only `set`.
    pub body: Body,
    /// The part of `body` that overrides give.
    pub overrides: Option<Body>,
    /// Changes with everything above.
    pub etag: Etag,
    /// Unix milliseconds; `None` = it is not stored.
    pub created_at: Option<u64>,
    /// Unix milliseconds; `None` = neither it nor an override is stored.
    pub updated_at: Option<u64>,
    /// Why it takes no part now.
    pub disabled: Option<Problem>,
}
