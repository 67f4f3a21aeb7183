//! What a load may ask of the world outside its text.

use std::io;
use std::path::{Path, PathBuf};

/// Environment variables and files; tests inject their own.
pub trait Environment {
    /// The value of an environment variable that is set and is Unicode.
    fn var(&self, name: &str) -> Option<String>;

    /// The text of a file, at most 16 MiB.
    ///
    /// # Errors
    /// As the operating system says; too large a file and text that is not UTF-8 are `InvalidData`.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// The `*.toml` files of a folder, sorted by name; `None` when the path is no folder.
    ///
    /// # Errors
    /// As the operating system says.
    fn list(&self, path: &Path) -> io::Result<Option<Vec<PathBuf>>>;
}

/// Largest configuration file, bytes.
pub const FILE_MAX_BYTES: u64 = 16 << 20;

/// The process's own environment and file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        use io::Read as _;
        let mut text = String::new();
        // One byte more than allowed tells a file that is too large from one that just fits.
        std::fs::File::open(path)?.take(FILE_MAX_BYTES + 1).read_to_string(&mut text)?;
        if text.len() as u64 > FILE_MAX_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the file is larger than 16 MiB",
            ));
        }
        Ok(text)
    }

    fn list(&self, path: &Path) -> io::Result<Option<Vec<PathBuf>>> {
        if !path.is_dir() {
            return Ok(None);
        }
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "toml") && file.is_file() {
                files.push(file);
            }
        }
        files.sort();
        Ok(Some(files))
    }
}
