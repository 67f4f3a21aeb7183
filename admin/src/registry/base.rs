//! What the registry starts from: files, or the embedded defaults.

use config::Loaded;

/// What the registry starts from.
#[derive(Debug, Clone)]
pub struct Base {
    /// The configuration without anything that is stored.
    pub loaded: Loaded,
    /// There is no file: what it declares was looked for on this host.
    pub builtin: bool,
}

impl Base {
    /// Files.
    #[must_use]
    pub const fn of_files(loaded: Loaded) -> Self {
        Self { loaded, builtin: false }
    }

    /// A text of our own in a file's place, for instance the servers that are looked for on this host.
    #[must_use]
    pub const fn builtin(loaded: Loaded) -> Self {
        Self { loaded, builtin: true }
    }
}
