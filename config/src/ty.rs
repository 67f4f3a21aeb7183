//! The vocabulary in which [`crate::keys`] describes the file format.

/// What a value must be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Type {
    /// `true` or `false`.
    Bool,
    /// A whole number within bounds.
    Integer { min: i64, max: i64 },
    /// A number within bounds.
    Number { min: f64, max: f64 },
    /// Text such as `"60s"`, within bounds in milliseconds; `"off"` where it may be absent.
    Duration { min: u64, max: u64, off: bool },
    /// Text such as `"64MiB"`, within bounds in bytes.
    Size { min: u64, max: u64 },
    /// Any text of at most 4096 bytes.
    Text,
    /// A credential; the empty text counts as none.
    Secret,
    /// One of these words.
    Word(&'static [&'static str]),
    /// `"ADDRESS:PORT"`.
    Socket,
    /// A path; relative ones are resolved against the folder of the file.
    Path,
    /// A backend's base URL.
    Url,
    /// The name of an object of ours: letters, digits, `.`, `_`, `-`.
    Name,
    /// A model's name.
    Model,
    /// The name of a header; lower-cased.
    Header,
    /// An RFC 3339 moment.
    Moment,
    /// An array of values.
    List { of: &'static Self, max: usize },
    /// One table.
    Table(&'static [Key]),
    /// An array of tables.
    Tables { keys: &'static [Key], max: usize },
    /// A table with free keys.
    Map { of: &'static Self, max: usize },
    /// The first for a table, the second for anything else.
    TableOr(&'static [Key], &'static Self),
}

impl Type {
    /// The keys of a table of this type.
    pub(crate) const fn keys(&self) -> Option<&'static [Key]> {
        match self {
            Self::Table(keys) | Self::Tables { keys, .. } | Self::TableOr(keys, _) => Some(keys),
            _ => None,
        }
    }

    /// What a person has to write, in a few words.
    pub(crate) fn expected(&self) -> String {
        match self {
            Self::Bool => "expected true or false".into(),
            Self::Integer { min, max } if *max == i64::MAX => {
                format!("expected a whole number, at least {min}")
            }
            Self::Integer { min, max } => format!("expected a whole number from {min} to {max}"),
            Self::Number { min, max } => format!("expected a number from {min} to {max}"),
            Self::Duration { off: false, .. } => "expected a duration such as \"30s\"".into(),
            Self::Duration { off: true, .. } => {
                "expected a duration such as \"30s\", or \"off\"".into()
            }
            Self::Size { .. } => "expected a size such as \"64MiB\"".into(),
            Self::Text | Self::Secret => "expected a text in quotes".into(),
            Self::Word(words) => format!("expected {}", one_of(words)),
            Self::Socket => "expected \"ADDRESS:PORT\"".into(),
            Self::Path => "expected a path in quotes".into(),
            Self::Url => "expected a URL such as \"http://10.0.0.4:8000\"".into(),
            Self::Name | Self::Model => "expected a name in quotes".into(),
            Self::Header => "expected a header name in quotes".into(),
            Self::Moment => "expected a moment such as 2027-01-31T00:00:00Z".into(),
            Self::List { .. } => "expected an array".into(),
            Self::Table(_) | Self::Map { .. } => "expected a table".into(),
            Self::Tables { .. } => "expected an array of tables".into(),
            Self::TableOr(_, other) => format!("{} or a table", other.expected()),
        }
    }
}

/// `"a", "b" or "c"`.
pub(crate) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// One key of one table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it holds.
    pub(crate) ty: Type,
    /// It must be there whenever its table is.
    pub(crate) required: bool,
    /// What counts where an object leaves it out, as TOML; of plain tables `default.toml` says it.
    pub(crate) default: Option<&'static str>,
    /// Names that it had, or that other gateways give it.
    pub(crate) former: &'static [&'static str],
}

impl Key {
    /// A key that may be left out.
    pub(crate) const fn new(name: &'static str, ty: Type) -> Self {
        Self { name, ty, required: false, default: None, former: &[] }
    }

    /// It must be there.
    pub(crate) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// What counts without it.
    pub(crate) const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    /// Names that it does not have, but that people write.
    pub(crate) const fn not(mut self, former: &'static [&'static str]) -> Self {
        self.former = former;
        self
    }
}
