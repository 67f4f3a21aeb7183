//! What is wrong with a spec: errors that name their objects, so that they can be shown where those were written.

use std::fmt;

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// The whole.
    Root,
    /// `[[region]]`
    Region,
    /// `[[backend]]`
    Backend,
    /// `[[head]]`
    Head,
    /// `[[model]]`
    Model,
}

impl ObjectKind {
    /// The word in TOML and API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Region => "region",
            Self::Backend => "backend",
            Self::Head => "head",
            Self::Model => "model",
        }
    }
}

/// Where in a spec something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRef {
    /// What kind of object.
    pub kind: ObjectKind,
    /// Its name; empty for [`ObjectKind::Root`].
    pub name: String,
    /// Its place among the objects of its kind, from 0; tells apart two of one name.
    pub place: usize,
    /// The key that is wrong.
    pub key: &'static str,
    /// Place in the key's list, where it is one.
    pub index: Option<usize>,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == ObjectKind::Root {
            return f.write_str(self.key);
        }
        write!(f, "{} {:?}, {}", self.kind.as_str(), self.name, self.key)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {message}")]
pub struct BuildError {
    /// Where.
    pub object: ObjectRef,
    /// What, in words.
    pub message: String,
    /// The nearest name, where one was misspelt.
    pub suggestion: Option<String>,
}

/// The nearest of some names to one that is not among them; `None` when none is near.
pub(crate) fn nearest<'n>(wrong: &str, names: impl Iterator<Item = &'n str>) -> Option<String> {
    let within = wrong.chars().count().div_ceil(3).clamp(1, 3);
    let measured = names.map(|name| (distance(wrong, name), name));
    let best = measured.filter(|(distance, _)| *distance <= within).min()?;
    Some(best.1.to_owned())
}

/// Edits (insert, delete, replace, swap neighbours) between two names, letters' case aside.
fn distance(one: &str, other: &str) -> usize {
    let letters = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<_>>();
    let (one, other) = (letters(one), letters(other));
    // The line before the last one, the last one, and the one being made.
    let mut before = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for line in 0..one.len() {
        let mut row = vec![line + 1];
        for column in 0..other.len() {
            let replaced = last[column] + usize::from(one[line] != other[column]);
            let mut least = replaced.min(last[column + 1] + 1).min(row[column] + 1);
            let swapped = line > 0
                && column > 0
                && one[line] == other[column - 1]
                && one[line - 1] == other[column];
            if swapped {
                least = least.min(before.get(column - 1).map_or(least, |cost| cost + 1));
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_near() {
        let names = ["head-eu", "head-us", "lab"];
        assert_eq!(nearest("haed-eu", names.into_iter()), Some("head-eu".to_owned()));
        assert_eq!(nearest("head_us", names.into_iter()), Some("head-us".to_owned()));
        assert_eq!(nearest("something", names.into_iter()), None);
    }
}
