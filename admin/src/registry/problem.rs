//! What is wrong with an object, as a place in its JSON.

use std::fmt;

/// One mistake. None of its texts holds a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// RFC 6901 pointer into the object that was sent, `""` = the whole of it.
    pub pointer: String,
    /// Stable name of the kind of mistake, that of the config diagnostic where it is one: `unknown-key`.
    pub code: &'static str,
    /// One or two sentences.
    pub detail: String,
}

impl Problem {
    /// A mistake at a place.
    #[must_use]
    pub fn new(pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code, detail: detail.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pointer.as_str() {
            "" => write!(f, "{} ({})", self.detail, self.code),
            pointer => write!(f, "{pointer}: {} ({})", self.detail, self.code),
        }
    }
}
