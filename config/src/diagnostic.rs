//! What is wrong or doubtful in a configuration, and where.

use std::ops::Range;
use std::sync::Arc;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It is accepted; `forebay check --strict` refuses it.
    Warning,
}

impl Severity {
    /// The word in both renderings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A range of bytes of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Index into the sources of the same load.
    pub source: usize,
    /// Bytes of that source's text.
    pub span: Range<usize>,
}

/// One message about a configuration. None of its texts ever holds a credential or an expanded `${..}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What kind of mistake; stable.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// One line: what is wrong.
    pub message: String,
    /// Where; `None` = nowhere in a file (an environment variable, a file that cannot be read).
    pub place: Option<Place>,
    /// A few words under the marked text, often what was expected.
    pub label: String,
    /// Other places that take part, each with a few words.
    pub related: Vec<(Place, String)>,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error at a place.
    #[must_use]
    pub fn error(code: Code, place: Place, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, Some(place), message.into())
    }

    /// A warning at a place.
    #[must_use]
    pub fn warning(code: Code, place: Place, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, Some(place), message.into())
    }

    /// An error that no line of a file holds.
    #[must_use]
    pub fn nowhere(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, None, message.into())
    }

    const fn new(code: Code, severity: Severity, place: Option<Place>, message: String) -> Self {
        Self {
            code,
            severity,
            message,
            place,
            label: String::new(),
            related: Vec::new(),
            help: None,
        }
    }

    /// With a few words under the marked text.
    #[must_use]
    pub fn label(mut self, text: impl Into<String>) -> Self {
        self.label = text.into();
        self
    }

    /// With another place that takes part.
    #[must_use]
    pub fn related(mut self, place: Place, text: impl Into<String>) -> Self {
        self.related.push((place, text.into()));
        self
    }

    /// With advice.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }
}

macro_rules! codes {
    ($($variant:ident = $number:literal $name:literal: $doc:literal;)+) => {
        /// Kinds of mistakes. Numbers and names never change their meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $doc] $variant,)+
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// For instance `E012`.
            #[must_use]
            pub const fn number(self) -> &'static str {
                match self { $(Self::$variant => $number,)+ }
            }

            /// For instance `unknown-key`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One sentence on what it means.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $doc,)+ }
            }
        }
    };
}

codes! {
    Unreadable = "E001" "unreadable": "A file or folder cannot be read.";
    Syntax = "E002" "syntax": "The text is not TOML.";
    Include = "E003" "include": "An included file is missing, too deep or included twice.";
    TooLarge = "E004" "too-large": "A file is larger than 16 MiB, or there are too many of them.";
    UnknownKey = "E010" "unknown-key": "No such key at this place.";
    RenamedKey = "E011" "renamed-key": "The key has another name here.";
    WrongType = "E012" "wrong-type": "The value has the wrong type.";
    WrongValue = "E013" "wrong-value": "The value is not one of those allowed, or cannot be read.";
    OutOfRange = "E014" "out-of-range": "The value is too small or too large.";
    MissingKey = "E015" "missing-key": "A required key is missing.";
    SetTwice = "E016" "set-twice": "Two files set the same key.";
    Conflict = "E017" "conflict": "Two keys exclude each other, or one needs another.";
    Version = "E018" "version": "The format's version is not known.";
    UndefinedVariable = "E020" "undefined-variable": "An environment variable is not set and has no default.";
    Expansion = "E021" "expansion": "A `${..}` is malformed or its file cannot be read.";
    DuplicateName = "E030" "duplicate-name": "Two objects of one kind have the same name.";
    UnknownReference = "E031" "unknown-reference": "No object has this name.";
    BadName = "E032" "bad-name": "The name is empty, too long or holds a character that is not allowed.";
    BadUrl = "E033" "bad-url": "The base URL cannot be used.";
    UndeclaredRegion = "E034" "undeclared-region": "Regions are declared, but not this one.";
    RegionMismatch = "E035" "region-mismatch": "Objects that belong together stand in different regions.";
    FallbackLoop = "E036" "fallback-loop": "A chain of fallbacks comes back to its start.";
    EmptyResidency = "E037" "empty-residency": "Strict residency leaves no place to go.";
    AuthUnsaid = "E040" "auth-unsaid": "Whether callers need a key must be said.";
    Secret = "E041" "bad-secret": "A key's secret is missing, doubled, weak or malformed.";
    ListenClash = "E042" "listen-clash": "Two listeners have the same address.";
    NotEnforced = "E050" "not-enforced": "This build does not enforce the restriction, so it will not serve with it.";
    UnknownFallback = "W001" "unknown-fallback": "The fallback is not declared; it may be discovered later.";
    Unused = "W002" "unused": "The value has no effect.";
    OpenToAll = "W003" "open-to-all": "Anyone who reaches the listener may use it.";
    SampleSecret = "W004" "sample-secret": "The credential is the one from the documentation.";
    NoWay = "W005" "no-way": "No declared backend can serve this now.";
    ListedTwice = "W006" "listed-twice": "A list names the same thing twice.";
    Unwell = "W007" "unwell": "A backend does not answer, or refuses its credential (`check --online`).";
}

/// The text of one configuration file, as it is on disk: variables are not expanded.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceText {
    /// The path as the operator would write it.
    pub name: String,
    /// The text.
    pub text: Arc<str>,
    /// Bytes that hold credentials; renderings never show them.
    pub(crate) secrets: Vec<Range<usize>>,
    /// It is no TOML, so the places of its credentials are guessed.
    pub(crate) broken: bool,
    /// The folder that its relative paths start at.
    pub(crate) base: std::path::PathBuf,
    /// It is no file but was made from a stored object.
    pub(crate) made: bool,
}

impl SourceText {
    /// A source with no known credentials.
    #[must_use]
    pub fn new(name: impl Into<String>, text: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
            secrets: Vec::new(),
            broken: false,
            base: std::path::PathBuf::new(),
            made: false,
        }
    }

    /// Line and column, both from 1, of a byte; columns count characters.
    #[must_use]
    pub fn position(&self, byte: usize) -> (usize, usize) {
        let mut byte = byte.min(self.text.len());
        while !self.text.is_char_boundary(byte) {
            byte -= 1;
        }
        let before = &self.text[..byte];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
    }
}

impl std::fmt::Debug for SourceText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceText").field("name", &self.name).finish_non_exhaustive()
    }
}
