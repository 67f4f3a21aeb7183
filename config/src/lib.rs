//! forebay's configuration: TOML in, a checked [`Config`] or every diagnostic at once out.

pub mod diagnostic;
pub mod environment;
mod load;
mod render;
pub mod restriction;
pub mod settings;

pub use diagnostic::{Code, Diagnostic, Place, Severity, SourceText};
pub use environment::{Environment, ProcessEnvironment};
pub use load::{Loaded, Report, defaults, load, load_text};
pub use render::Style;
pub use restriction::{Restriction, RestrictionKind, restrictions};
pub use settings::*;
