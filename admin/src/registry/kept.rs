//! The last good state beside the store, so that a data plane starts without a store that can be read. Sealed values stay sealed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::state::State;
use super::{Inner, Registry};
use crate::store::SealedRow;

/// The version of the file's format.
const FORMAT: u64 = 1;
/// The largest file that is read, bytes.
const SIZE_MAX: u64 = 256 << 20;

/// The file beside a store.
pub(super) fn path_of(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(".lastgood");
    PathBuf::from(name)
}

impl Inner {
    /// Keeps a state that was published. Best effort: a full disk must not stop what works.
    pub(super) fn keep(&self, state: &State) {
        if let Err(error) = save(&path_of(&self.path), state) {
            tracing::warn!(%error, "the last good state cannot be kept");
        }
    }
}

impl Registry {
    /// The last good state and what to say about it; nothing is stored where there is none.
    pub(super) fn last_good(store: &Path) -> (State, String) {
        let path = path_of(store);
        match load(&path) {
            Ok(Some(state)) => {
                let said = format!("serving the last good state of {}", path.display());
                (state, said)
            }
            Ok(None) => (State::default(), "there is no last good state either".to_owned()),
            Err(error) => {
                let said =
                    format!("its last good state {} cannot be read: {error}", path.display());
                (State::default(), said)
            }
        }
    }
}

fn save(path: &Path, state: &State) -> io::Result<()> {
    let bad = |_| io::Error::from(io::ErrorKind::InvalidData);
    let sealed: Vec<Value> = state.sealed.values().map(row_json).collect();
    let stored: Value = serde_json::from_str(&state.to_json().map_err(bad)?)?;
    let content = json!({
        "revision": state.revision,
        "keys_ever": state.keys_ever,
        "state": stored,
        "sealed": sealed,
    });
    let sum = blake3::hash(content.to_string().as_bytes()).to_hex();
    let document = json!({"format": FORMAT, "blake3": sum.as_str(), "content": content});
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written = write_private(&temporary, document.to_string().as_bytes())
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    // The rename itself has to survive a crash too.
    File::open(folder)?.sync_all()
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn load(path: &Path) -> io::Result<Option<State>> {
    let size = match fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if size > SIZE_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large"));
    }
    let document: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
    let damaged =
        || io::Error::new(io::ErrorKind::InvalidData, "it is damaged or of another version");
    parse(&document).ok_or_else(damaged).map(Some)
}

fn parse(document: &Value) -> Option<State> {
    let content = document.get("content")?;
    let sum = blake3::hash(content.to_string().as_bytes()).to_hex();
    if document.get("format")?.as_u64()? != FORMAT
        || document.get("blake3")?.as_str()? != sum.as_str()
    {
        return None;
    }
    let mut state = State::of_json(&content.get("state")?.to_string()).ok()?;
    state.revision = content.get("revision")?.as_u64()?;
    state.keys_ever = content.get("keys_ever")?.as_bool()?;
    for row in content.get("sealed")?.as_array()? {
        let row = row_of(row)?;
        state.sealed.insert(row.id.clone(), row);
    }
    Some(state)
}

fn row_json(row: &SealedRow) -> Value {
    json!({
        "id": row.id,
        "owner_kind": row.owner_kind,
        "owner_id": row.owner_id,
        "field": row.field,
        "key_id": row.key_id,
        "sealed": STANDARD.encode(&row.sealed),
        "last4": row.last4,
        "fingerprint": row.fingerprint,
        "updated_at": row.updated_at,
    })
}

fn row_of(value: &Value) -> Option<SealedRow> {
    let text = |key: &str| value.get(key)?.as_str().map(str::to_owned);
    Some(SealedRow {
        id: text("id")?,
        owner_kind: text("owner_kind")?,
        owner_id: text("owner_id")?,
        field: text("field")?,
        key_id: text("key_id")?,
        sealed: STANDARD.decode(text("sealed")?).ok()?,
        last4: text("last4"),
        fingerprint: text("fingerprint")?,
        updated_at: value.get("updated_at")?.as_u64()?,
    })
}
