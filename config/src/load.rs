//! From files to a configuration: read, parse, walk, merge, put over the defaults, compile.

use std::path::{Component, Path, PathBuf};

use toml::de::DeTable;

use crate::compile::compile;
use crate::diagnostic::{Code, Diagnostic, Place, Severity, SourceText};
use crate::environment::Environment;
use crate::keys::ROOT;
use crate::lastgood::Stored;
use crate::parse::{Parsed, parse, syntax};
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

/// Everything that was read, before it is compiled.
pub(crate) struct Read {
    pub(crate) tree: Table,
    pub(crate) sources: Vec<SourceText>,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Some text is no TOML.
    pub(crate) broken: bool,
}

impl Read {
    /// The last step of every load.
    pub(crate) fn compile(self, env: &dyn Environment) -> Result<Loaded, Report> {
        let Self { tree, sources, mut files, diagnostics: mut out, broken } = self;
        let mut config = None;
        if !broken {
            config = compile(&tree, &sources, env, &mut out, &mut files);
        }
        out.sort_by_key(|d| d.place.as_ref().map(|place| (place.source, place.span.start)));
        out.truncate(DIAGNOSTICS_MAX);
        files.sort();
        files.dedup();
        let store = tree.table("store").and_then(|store| store.read("path")).unwrap_or_default();
        let refused = out.iter().any(|d| d.severity == Severity::Error);
        match config {
            Some(config) if !refused => Ok(Loaded { config, warnings: out, sources, files, tree }),
            _ => Err(Report { diagnostics: out, sources, files, store }),
        }
    }
}

struct Loader<'a> {
    env: &'a dyn Environment,
    out: Vec<Diagnostic>,
    sources: Vec<SourceText>,
    files: Vec<PathBuf>,
    /// Normalised paths of the files that were read as TOML.
    seen: Vec<PathBuf>,
    tree: Option<Table>,
    /// The folder of the first file: relative paths start there, those of the defaults too. Who starts a second process
    /// from another folder means the same store.
    home: Option<PathBuf>,
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
            home: None,
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
        let Parsed { source, tree, mut diagnostics, mut files } =
            parse(name, text, self.sources.len(), base, self.env);
        self.home.get_or_insert_with(|| base.to_owned());
        self.broken |= source.broken;
        self.out.append(&mut diagnostics);
        self.files.append(&mut files);
        self.sources.push(source);
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
        let user = self
            .tree
            .take()
            .unwrap_or_else(|| Table::new(Place { source: DEFAULT_SOURCE, span: 0..0 }));
        let mut tree = user.over(below);
        self.override_listeners(&mut tree);
        self.files.sort();
        let read = Read {
            tree,
            sources: self.sources,
            files: self.files,
            diagnostics: self.out,
            broken: self.broken,
        };
        read.compile(self.env)
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
            base: self.home.as_deref().unwrap_or(Path::new("")),
            env: self.env,
            out: &mut self.out,
            secrets: Vec::new(),
            files: Vec::new(),
        };
        walk.table("", ROOT, table.get_ref(), 0..0)
    }
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
