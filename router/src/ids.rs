//! Parsed names. A name that exists is a valid name.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is the empty string.
    #[error("a name cannot be empty")]
    Empty,
    /// The name is longer than the bound of its type.
    #[error("a name has at most {max} bytes, this one has {len}")]
    TooLong {
        /// Bytes in the refused name.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A character that the type does not allow.
    #[error("{found:?} is not allowed in a name (allowed: {allowed})")]
    Character {
        /// The first character that is not allowed.
        found: char,
        /// What is allowed, in words.
        allowed: &'static str,
    },
}

/// Longest identifier of an object of ours (backend, head, region, key, tenant), in bytes.
pub const IDENTIFIER_MAX_BYTES: usize = 64;
/// Longest public or upstream model name, in bytes.
pub const MODEL_NAME_MAX_BYTES: usize = 256;

fn identifier(text: &str) -> Result<(), NameError> {
    check(text, IDENTIFIER_MAX_BYTES, "letters, digits, '.', '_', '-'", |c| {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
    })
}

fn model_name(text: &str) -> Result<(), NameError> {
    check(text, MODEL_NAME_MAX_BYTES, "anything but control characters", |c| !c.is_control())
}

fn check(
    text: &str,
    max: usize,
    allowed: &'static str,
    ok: impl Fn(char) -> bool,
) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > max {
        return Err(NameError::TooLong { len: text.len(), max });
    }
    match text.chars().find(|c| !ok(*c)) {
        Some(found) => Err(NameError::Character { found, allowed }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The text of the name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&str> for $type {
            type Error = NameError;

            fn try_from(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(Arc::from(text)))
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::try_from(text.as_str())
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// Name of a backend: one inference server at one base URL.
    BackendName, identifier
);
name!(
    /// Short code of a region, for instance `eu` or `lab-2`.
    RegionName, identifier
);
name!(
    /// Name of a head: a group of backends in one region.
    HeadName, identifier
);
name!(
    /// Name of an API key (never its secret).
    KeyName, identifier
);
name!(
    /// Name of a tenant: who a key belongs to.
    TenantName, identifier
);
name!(
    /// A public model name, as clients send it, or an upstream's own name for a model.
    ModelName, model_name
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_refuse_what_would_break_headers_and_labels() {
        assert_eq!(BackendName::try_from(""), Err(NameError::Empty));
        assert!(BackendName::try_from("eu-vllm-1").is_ok());
        assert!(matches!(
            BackendName::try_from("a b"),
            Err(NameError::Character { found: ' ', .. })
        ));
        assert!(matches!(
            RegionName::try_from("x".repeat(65).as_str()),
            Err(NameError::TooLong { len: 65, max: 64 })
        ));
    }

    #[test]
    fn model_names_may_hold_slashes_colons_and_unicode() {
        for name in ["Qwen/Qwen3:8b", "hf.co/o/r:Q4", "modèle one", "a%2Fb"] {
            assert_eq!(ModelName::try_from(name).map(|n| n.to_string()), Ok(name.to_owned()));
        }
        assert!(ModelName::try_from("a\nb").is_err());
    }
}
