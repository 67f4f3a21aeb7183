//! A world without a file system.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use config::{Environment, ProcessEnvironment};

/// Variables and files of a test.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    pub(crate) vars: BTreeMap<String, String>,
    pub(crate) files: BTreeMap<PathBuf, String>,
    /// Files come from the disk, variables still from here.
    pub(crate) disk: bool,
}

impl World {
    #[expect(clippy::allow_attributes, reason = "only some test binaries use it")]
    #[allow(dead_code, reason = "only some test binaries use it")]
    pub(crate) fn of_disk() -> Self {
        Self { disk: true, ..Self::default() }
    }
}

impl Environment for World {
    fn var(&self, name: &str) -> Option<String> {
        self.vars.get(name).cloned()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        if self.disk {
            return ProcessEnvironment.read(path);
        }
        let path = normal(path);
        self.files.get(&path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, path: &Path) -> io::Result<Option<Vec<PathBuf>>> {
        if self.disk {
            return ProcessEnvironment.list(path);
        }
        let path = normal(path);
        let inside: Vec<PathBuf> =
            self.files.keys().filter(|file| file.parent() == Some(&path)).cloned().collect();
        Ok((!inside.is_empty()).then_some(inside))
    }
}

fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        if part.as_os_str() == ".." {
            out.pop();
        } else {
            out.push(part);
        }
    }
    out
}
