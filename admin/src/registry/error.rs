//! Why the registry did not do what it was asked for.

use super::object::Etag;
use super::problem::Problem;
use crate::store::{ObjectKind, StoreError};

/// Why the registry did not do what it was asked for; nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is no such object (or version).
    #[error("there is no {what}")]
    NotFound {
        /// For instance `backend "a"`.
        what: String,
    },
    /// An object of this name exists.
    #[error("there is already a {} called {name:?}", kind.as_str())]
    Exists {
        /// What it is.
        kind: ObjectKind,
        /// Its name.
        name: String,
    },
    /// A file declares the object; only overrides change it.
    #[error(
        "{name:?} is declared in {file}:{line} and is changed there; only {overridable} can be overridden here"
    )]
    ReadOnly {
        /// The object.
        name: String,
        /// The file.
        file: String,
        /// The line.
        line: usize,
        /// Which fields the API can override, or `nothing`.
        overridable: String,
    },
    /// The object changed since the caller read it.
    #[error("the object has changed; its tag is now {etag}")]
    Stale {
        /// Its tag now.
        etag: Etag,
    },
    /// Other objects refer to it.
    #[error("still used by {}", by.join(", "))]
    Referenced {
        /// For instance `head "eu"`.
        by: Vec<String>,
    },
    /// What was sent, or what would come of it, is wrong.
    #[error("{}", texts(.0))]
    Invalid(Vec<Problem>),
    /// A credential cannot be kept.
    #[error(
        "credentials are kept sealed only: set `store.master_key`, for instance by the environment variable \
         FOREBAY_MASTER_KEY, to 32 random bytes as hex or base64 (`openssl rand -hex 32`)"
    )]
    NoMasterKey,
    /// A key was stored once, and whether callers need one is not said.
    #[error(
        "keys were made here, so `auth.mode` has to be said: write mode = \"keys\" or mode = \"open\" under [auth]"
    )]
    AuthUnsaid,
    /// This process only follows the store.
    #[error("this process follows the store and does not write it")]
    Follower,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A credential cannot be sealed or opened.
    #[error("{0}")]
    Vault(String),
    /// The data plane refused what was valid here; the registry is as it was.
    #[error("the data plane refused it: {}", .0.join("; "))]
    Publish(Vec<String>),
    /// Something that is kept cannot be read.
    #[error("{0}")]
    Damaged(String),
}

impl RegistryError {
    pub(super) fn invalid(problem: Problem) -> Self {
        Self::Invalid(vec![problem])
    }

    pub(super) fn missing(kind: ObjectKind, name: &str) -> Self {
        Self::NotFound { what: format!("{} {name:?}", kind.as_str()) }
    }
}

fn texts(problems: &[Problem]) -> String {
    let texts: Vec<String> = problems.iter().map(Problem::to_string).collect();
    texts.join("; ")
}
