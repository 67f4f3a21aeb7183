//! The last good configuration on disk, for a start with a file that is broken or gone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::environment::Environment;
use crate::load::{DEFAULT_SOURCE, Loaded, Report, load_stored};

/// The name of the file beside the store.
const FILE_NAME: &str = "last-good.json";
/// The version of its format.
const FORMAT: u64 = 1;

/// Why there is no last good configuration to start from.
#[derive(Debug, thiserror::Error)]
pub enum LastGoodError {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is damaged or of another version.
    #[error("{}: it is damaged or of another version", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// The texts are refused, for instance because a variable is gone.
    #[error("the last good configuration is refused now")]
    Refused(Box<Report>),
}

/// Where the last good configuration is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastGood {
    path: PathBuf,
}

impl LastGood {
    /// Beside the store (`store.path`).
    #[must_use]
    pub fn beside(store: &Path) -> Self {
        Self { path: store.with_file_name(FILE_NAME) }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the texts of a configuration as they are in its files: variables stay unexpanded. The write is atomic
    /// (temporary file, fsync, rename) and readable by the owner alone.
    ///
    /// # Errors
    /// [`LastGoodError::Io`].
    pub fn save(&self, loaded: &Loaded) -> Result<(), LastGoodError> {
        let files: Vec<Value> = loaded
            .sources
            .iter()
            .skip(DEFAULT_SOURCE + 1)
            .map(|source| json!({"name": source.name, "base": source.base, "text": &*source.text}))
            .collect();
        let files = json!(files);
        let sum = blake3::hash(files.to_string().as_bytes()).to_hex();
        let document = json!({"format": FORMAT, "blake3": sum.as_str(), "files": files});
        self.write(document.to_string().as_bytes())
            .map_err(|source| LastGoodError::Io { path: self.path.clone(), source })
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        fs::create_dir_all(folder)?;
        let name = format!("{FILE_NAME}.{}.tmp", std::process::id());
        let temporary = folder.join(name);
        let written =
            write_private(&temporary, bytes).and_then(|()| fs::rename(&temporary, &self.path));
        if let Err(error) = written {
            // The first error is the one to report.
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        // The rename itself has to survive a crash too.
        File::open(folder)?.sync_all()
    }

    /// The last good configuration, if one was kept.
    ///
    /// # Errors
    /// When there is one that cannot be used.
    pub fn load(&self, env: &dyn Environment) -> Result<Option<Loaded>, LastGoodError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LastGoodError::Io { path: self.path.clone(), source }),
        };
        let files =
            parse(&text).ok_or_else(|| LastGoodError::Damaged { path: self.path.clone() })?;
        load_stored(&files, env)
            .map(Some)
            .map_err(|report| LastGoodError::Refused(Box::new(report)))
    }
}

/// One file's name, folder and text.
pub(crate) type Stored = (String, PathBuf, String);

fn parse(text: &str) -> Option<Vec<Stored>> {
    let document: Value = serde_json::from_str(text).ok()?;
    let files = document.get("files")?;
    let sum = blake3::hash(files.to_string().as_bytes()).to_hex();
    if document.get("format")?.as_u64()? != FORMAT
        || document.get("blake3")?.as_str()? != sum.as_str()
    {
        return None;
    }
    let part = |file: &Value, key: &str| file.get(key)?.as_str().map(str::to_owned);
    files
        .as_array()?
        .iter()
        .map(|file| Some((part(file, "name")?, part(file, "base")?.into(), part(file, "text")?)))
        .collect()
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
