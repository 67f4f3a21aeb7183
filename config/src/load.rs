//! From files to a configuration: read, parse, walk, merge, put over the defaults, compile.

use std::path::{Component, Path, PathBuf};

use toml::de::{DeTable, Error as TomlError};

use crate::compile::compile;
use crate::diagnostic::{Code, Diagnostic, Place, Severity, SourceText};
use crate::environment::Environment;
use crate::keys::ROOT;
use crate::lastgood::Stored;
use crate::scalar;
use crate::settings::Config;
use crate::tree::{Table, Value};
use crate::walk::Walk;

/// The defaults, with the words about every key.
pub const DEFAULT_TOML: &str = include_str!("../default.toml");
/// The index of the defaults among the sources of every load.
pub(crate) const DEFAULT_SOURCE: usize = 0;
/// Deepest `include` in an included file.
const INCLUDE_DEPTH_MAX: usize = 8;
/// Most files of one configuration.
const FILES_MAX: usize = 1000;
/// Most diagnostics of one load; a file of rubbish could give one per byte.
pub(crate) const DIAGNOSTICS_MAX: usize = 500;

/// Sections whose `listen` an environment variable overrides.
pub(crate) const LISTEN_VARIABLES: &[(&str, &str)] = &[
    ("server", "FOREBAY_LISTEN"),
    ("admin", "FOREBAY_ADMIN_LISTEN"),
    ("ops", "FOREBAY_OPS_LISTEN"),
];

/// A configuration that was accepted.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What is doubtful about it.
    pub warnings: Vec<Diagnostic>,
    /// The texts that diagnostics point into; the first one is `default.toml`.
    pub sources: Vec<SourceText>,
    /// Every file that it was made from and that is worth watching: includes, `${file:..}` and certificates too.
    pub files: Vec<PathBuf>,
    /// Every value with its place, defaults filled in.
    pub(crate) tree: Table,
}

impl Loaded {
    /// Its warnings, ready to be rendered.
    #[must_use]
    pub fn report(&self) -> Report {
        self.report_of(self.warnings.clone())
    }

    /// Diagnostics about this configuration, ready to be rendered.
    #[must_use]
    pub fn report_of(&self, diagnostics: Vec<Diagnostic>) -> Report {
        Report {
            diagnostics,
            sources: self.sources.clone(),
            files: self.files.clone(),
            store: self.config.store.path.clone(),
        }
    }
}

/// Everything that is wrong or doubtful, at once.
#[derive(Debug, Clone)]
pub struct Report {
    /// Errors and warnings in the order of their places.
    pub diagnostics: Vec<Diagnostic>,
    /// The texts that they point into.
    pub sources: Vec<SourceText>,
    /// Every file that was looked at: a change of any may mend it.
    pub files: Vec<PathBuf>,
    /// `store.path`, as far as the files could be read: the last good configuration is beside it.
    pub store: PathBuf,
}

/// Loads files, or folders of `*.toml`, as one configuration.
///
/// # Errors
/// Everything that is wrong, when anything is.
pub fn load(paths: &[PathBuf], env: &dyn Environment) -> Result<Loaded, Report> {
    let mut loader = Loader::new(env);
    for path in paths {
        loader.path(path, None, 0);
    }
    loader.finish()
}

/// Loads one text as if it were a file called `name` in the folder `base`.
///
/// # Errors
/// Everything that is wrong, when anything is.
pub fn load_text(
    name: &str,
    text: &str,
    base: &Path,
    env: &dyn Environment,
) -> Result<Loaded, Report> {
    let mut loader = Loader::new(env);
    loader.text(name, text, base, 0);
    loader.finish()
}

/// The embedded defaults: no backends.
#[must_use]
pub fn defaults(env: &dyn Environment) -> Loaded {
    // Only the environment can make the defaults wrong; then they hold without it.
    Loader::new(env).finish().unwrap_or_else(|report| Loaded {
        config: Config::default(),
        warnings: report.diagnostics,
        sources: report.sources,
        files: Vec::new(),
        tree: Table::new(Place { source: DEFAULT_SOURCE, span: 0..0 }),
    })
}

/// Loads texts that were kept together.
pub(crate) fn load_stored(files: &[Stored], env: &dyn Environment) -> Result<Loaded, Report> {
    let mut loader = Loader::new(env);
    loader.follow = false;
    for (name, base, text) in files {
        loader.text(name, text, base, 0);
    }
    loader.finish()
}

struct Loader<'a> {
    env: &'a dyn Environment,
    out: Vec<Diagnostic>,
    sources: Vec<SourceText>,
    files: Vec<PathBuf>,
    /// Normalised paths of the files that were read as TOML.
    seen: Vec<PathBuf>,
    tree: Option<Table>,
    broken: bool,
    /// `include` is followed; stored texts come with what they included.
    follow: bool,
}

impl<'a> Loader<'a> {
    fn new(env: &'a dyn Environment) -> Self {
        Self {
            env,
            out: Vec::new(),
            sources: vec![SourceText::new("default.toml", DEFAULT_TOML)],
            files: Vec::new(),
            seen: Vec::new(),
            tree: None,
            broken: false,
            follow: true,
        }
    }

    /// A file or a folder; `from` is the place of the `include`.
    fn path(&mut self, path: &Path, from: Option<&Place>, depth: usize) {
        match self.env.list(path) {
            Ok(Some(files)) => {
                self.files.push(path.to_owned());
                files.iter().for_each(|file| self.file(file, from, depth));
            }
            Ok(None) => self.file(path, from, depth),
            Err(error) => self.unreadable(path, from, &error),
        }
    }

    fn unreadable(&mut self, path: &Path, from: Option<&Place>, error: &std::io::Error) {
        let message = format!("{} cannot be read: {error}", path.display());
        self.out.push(match from {
            Some(place) => Diagnostic::error(Code::Include, place.clone(), message),
            None => Diagnostic::nowhere(Code::Unreadable, message),
        });
        self.files.push(path.to_owned());
    }

    fn file(&mut self, path: &Path, from: Option<&Place>, depth: usize) {
        let normal = normalised(path);
        if self.seen.contains(&normal) {
            let message = format!("{} is read twice", path.display());
            self.out.push(match from {
                Some(place) => Diagnostic::error(Code::Include, place.clone(), message)
                    .help("each file is included once; includes cannot form a circle"),
                None => Diagnostic::nowhere(Code::Include, message),
            });
            return;
        }
        if self.seen.len() >= FILES_MAX {
            let message = format!("more than {FILES_MAX} files");
            self.out.push(Diagnostic::nowhere(Code::TooLarge, message));
            return;
        }
        self.seen.push(normal);
        match self.env.read(path) {
            Ok(text) => {
                self.files.push(path.to_owned());
                let base = path.parent().unwrap_or(Path::new(""));
                self.text(&path.display().to_string(), &text, base, depth);
            }
            Err(error) => self.unreadable(path, from, &error),
        }
    }

    fn text(&mut self, name: &str, text: &str, base: &Path, depth: usize) {
        // Editors on Windows put a byte order mark first; the TOML parser skips it with the right spans.
        let source = self.sources.len();
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut found = Vec::new();
        let mut walk = Walk {
            source,
            base,
            env: self.env,
            out: &mut found,
            secrets: Vec::new(),
            files: Vec::new(),
        };
        let span = header_span(text);
        let tree = walk.table("", ROOT, table.get_ref(), span);
        let mut stored = SourceText::new(name, text);
        stored.secrets = std::mem::take(&mut walk.secrets);
        self.files.append(&mut walk.files);
        stored.base = base.to_owned();
        stored.broken = !errors.is_empty();
        self.broken |= stored.broken;
        if stored.broken {
            // What the parser could not read may lack keys or shift values: only its own errors are sure.
            found.retain(|d| matches!(d.code, Code::UnknownKey | Code::RenamedKey));
            let lines: Vec<usize> =
                errors.iter().take(DIAGNOSTICS_MAX).map(|e| line_of(&stored, e)).collect();
            found.retain(|d| {
                d.place
                    .as_ref()
                    .is_some_and(|place| !lines.contains(&stored.position(place.span.start).0))
            });
        }
        // What follows the first mistake of a line is mostly its consequence.
        let mut lines: Vec<usize> = Vec::new();
        for error in errors.iter().take(DIAGNOSTICS_MAX) {
            let line = line_of(&stored, error);
            if !lines.contains(&line) {
                lines.push(line);
                self.out.push(syntax(source, &stored, error));
            }
        }
        self.out.append(&mut found);
        self.sources.push(stored);
        let includes: Vec<(PathBuf, Place)> = tree
            .list("include")
            .iter()
            .filter(|_| self.follow)
            .filter_map(|node| match &node.value {
                Value::Path(path) => Some((path.clone(), node.place.clone())),
                _ => None,
            })
            .collect();
        match &mut self.tree {
            Some(whole) => whole.merge(tree, &mut self.out),
            None => self.tree = Some(tree),
        }
        for (path, place) in includes {
            if depth >= INCLUDE_DEPTH_MAX {
                let message = format!("includes are nested more than {INCLUDE_DEPTH_MAX} deep");
                self.out.push(Diagnostic::error(Code::Include, place, message));
            } else {
                self.path(&path, Some(&place), depth + 1);
            }
        }
    }

    fn finish(mut self) -> Result<Loaded, Report> {
        let below = self.default_tree();
        let mut config = None;
        let user = self
            .tree
            .take()
            .unwrap_or_else(|| Table::new(Place { source: DEFAULT_SOURCE, span: 0..0 }));
        let mut tree = user.over(below);
        self.override_listeners(&mut tree);
        if !self.broken {
            config = compile(&tree, self.env, &mut self.out, &mut self.files);
        }
        self.out.sort_by_key(|d| d.place.as_ref().map(|place| (place.source, place.span.start)));
        self.out.truncate(DIAGNOSTICS_MAX);
        self.files.sort();
        self.files.dedup();
        let store = tree.table("store").and_then(|store| store.read("path")).unwrap_or_default();
        let refused = self.out.iter().any(|d| d.severity == Severity::Error);
        match config {
            Some(config) if !refused => Ok(Loaded {
                config,
                warnings: self.out,
                sources: self.sources,
                files: self.files,
                tree,
            }),
            _ => Err(Report {
                diagnostics: self.out,
                sources: self.sources,
                files: self.files,
                store,
            }),
        }
    }

    /// Environment variables that win over the file: containers bind elsewhere without editing it.
    fn override_listeners(&mut self, tree: &mut Table) {
        for (section, variable) in LISTEN_VARIABLES {
            let Some(text) = self.env.var(variable).filter(|text| !text.is_empty()) else {
                continue;
            };
            let address = match scalar::socket(&text) {
                Ok(address) => address,
                Err(why) => {
                    let message =
                        format!("the environment variable {variable} is no address: {why}");
                    self.out.push(
                        Diagnostic::nowhere(Code::WrongValue, message)
                            .help("expected ADDRESS:PORT, for instance 0.0.0.0:8080"),
                    );
                    continue;
                }
            };
            let entry = tree.entries.get_mut(*section).map(|entry| &mut entry.node.value);
            if let Some(Value::Table(table)) = entry
                && let Some(listen) = table.entries.get_mut("listen")
            {
                listen.node.value = Value::Socket(address);
                listen.node.raw = Some(format!("${{{variable}}}"));
            }
        }
    }

    fn default_tree(&mut self) -> Table {
        let (table, errors) = DeTable::parse_recoverable(DEFAULT_TOML);
        self.out.extend(errors.iter().map(|e| syntax(DEFAULT_SOURCE, &self.sources[0], e)));
        let mut walk = Walk {
            source: DEFAULT_SOURCE,
            // Paths of the defaults are relative to the working folder of the process.
            base: Path::new(""),
            env: self.env,
            out: &mut self.out,
            secrets: Vec::new(),
            files: Vec::new(),
        };
        walk.table("", ROOT, table.get_ref(), 0..0)
    }
}

/// The place of a whole file: its first line that says anything.
fn header_span(text: &str) -> std::ops::Range<usize> {
    let start = text.find(|c: char| !c.is_whitespace()).unwrap_or(0);
    start..text[start..].find('\n').map_or(text.len(), |end| start + end)
}

fn line_of(source: &SourceText, error: &TomlError) -> usize {
    source.position(error.span().unwrap_or_default().start).0
}

fn syntax(source: usize, stored: &SourceText, error: &TomlError) -> Diagnostic {
    let span = error.span().unwrap_or_default();
    let (message, expected) = match error.message().split_once(", expected ") {
        Some((message, expected)) => (message, format!("expected {expected}")),
        None => (error.message(), String::new()),
    };
    let mut diagnostic =
        Diagnostic::error(Code::Syntax, Place { source, span: span.clone() }, message.to_owned())
            .label(expected);
    let line_start =
        stored.text.get(..span.start).map_or(0, |t| t.rfind('\n').map_or(0, |n| n + 1));
    let line = stored.text.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or("");
    if message == "invalid basic string" && diagnostic.label.contains('"') {
        diagnostic.message = "a text is not closed on its line".to_owned();
    } else if line.trim_end().ends_with('=') {
        diagnostic.message = "a value is missing".to_owned();
        diagnostic.label = String::new();
    } else if message.contains("must be quoted") {
        diagnostic = diagnostic.label("put it in quotes");
    } else if message == "duplicate key" {
        diagnostic = diagnostic.label("this is already there above");
    } else if !line.contains('=') && line.contains(':') {
        diagnostic = diagnostic.help("TOML writes `key = value`");
    }
    diagnostic
}

/// A path without `.` and with `..` resolved by its text, for telling files apart.
fn normalised(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if out.file_name().is_some() => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}
