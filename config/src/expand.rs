//! `${VAR}`, `${VAR:-default}`, `${file:path}` and `$${` in values.

use std::path::{Path, PathBuf};

use crate::environment::Environment;

/// Why a value cannot be expanded. No variant holds a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExpandError {
    /// `${` without `}`.
    Unclosed,
    /// What stands between the braces is no name.
    BadName(String),
    /// The variable is not set and there is no default.
    Undefined(String),
    /// The file cannot be read.
    File(PathBuf, std::io::ErrorKind),
}

/// A text after expansion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// Something was replaced.
    pub(crate) changed: bool,
    /// Files that were read.
    pub(crate) files: Vec<PathBuf>,
}

/// Expands a value once; what comes out of a variable or file is never expanded again.
pub(crate) fn expand(
    text: &str,
    base: &Path,
    env: &dyn Environment,
) -> Result<Expanded, ExpandError> {
    let mut out =
        Expanded { text: String::with_capacity(text.len()), changed: false, files: Vec::new() };
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            // `$${` stands for `${` itself.
            out.text.push_str(&rest[..at - 1]);
            out.text.push_str("${");
            out.changed = true;
            rest = &rest[at + 2..];
            continue;
        }
        out.text.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        let end = inner.find('}').ok_or(ExpandError::Unclosed)?;
        out.changed = true;
        one(&inner[..end], base, env, &mut out)?;
        rest = &inner[end + 1..];
    }
    out.text.push_str(rest);
    Ok(out)
}

fn one(
    inner: &str,
    base: &Path,
    env: &dyn Environment,
    out: &mut Expanded,
) -> Result<(), ExpandError> {
    if let Some(path) = inner.strip_prefix("file:") {
        let path = base.join(path);
        let content = env.read(&path).map_err(|e| ExpandError::File(path.clone(), e.kind()))?;
        // Editors and secret mounts end files with a newline that is no part of the value.
        out.text.push_str(content.trim_end_matches(['\r', '\n']));
        out.files.push(path);
        return Ok(());
    }
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let good = !name.is_empty()
        && name.len() <= 128
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    if !good {
        return Err(ExpandError::BadName(name.chars().take(64).collect()));
    }
    // As in a shell, an empty variable takes the default too.
    match (env.var(name).filter(|value| !value.is_empty() || default.is_none()), default) {
        (Some(value), _) => out.text.push_str(&value),
        (None, Some(default)) => out.text.push_str(default),
        (None, None) => return Err(ExpandError::Undefined(name.to_owned())),
    }
    Ok(())
}
