//! forebay's configuration: TOML in, a checked [`Config`] or every diagnostic at once out.
//!
//! A file is parsed with spans, walked against the table of all keys, expanded on the way, put over
//! `default.toml` and compiled. Each step goes on after a mistake, so that one run reports all of them.

mod compile;
pub mod diagnostic;
mod document;
mod effective;
pub mod environment;
mod expand;
mod extra;
mod keys;
pub mod lastgood;
mod leaf;
mod load;
mod nearest;
mod parse;
mod redact;
mod render;
pub mod restriction;
mod scalar;
mod schema;
pub mod settings;
mod tree;
mod ty;
mod walk;
pub mod watch;

pub use diagnostic::{Code, Diagnostic, Place, Severity, SourceText};
pub use effective::{diff, effective, needs_restart};
pub use environment::{Environment, ProcessEnvironment};
pub use extra::{Declared, Extra};
pub use lastgood::{LastGood, LastGoodError};
pub use load::{DEFAULT_TOML, Loaded, Report, defaults, load, load_text};
pub use nearest::nearest;
pub use render::Style;
pub use restriction::{Restriction, RestrictionKind, restrictions};
pub use scalar::base_url;
pub use schema::{object_schema, reference, schema};
pub use settings::*;
pub use watch::{WatchOptions, Watcher};
