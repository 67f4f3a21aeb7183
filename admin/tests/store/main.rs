//! The store on real files: what it keeps, and what it keeps when processes die, disks fill up and others write too.

#![expect(clippy::unwrap_used, reason = "tests")]

mod backups;
mod child;
mod crash;
mod disk;
mod formats;
mod history;
mod nouns;
mod others;
mod transactions;

use std::path::PathBuf;

use admin::store::{AuditEntry, ObjectKind, Role, Store, StoredObject};
use serde_json::json;

/// A folder that goes with the test, and a path in it.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("data/forebay.db")
    }

    fn writer(&self) -> Store {
        Store::open(&self.path(), Role::Writer).unwrap()
    }
}

fn object(kind: ObjectKind, name: &str, revision: u64) -> StoredObject {
    let body = json!({"name": name, "url": "http://127.0.0.1:1", "weight": 2});
    StoredObject {
        id: format!("{kind}_{name}"),
        kind,
        name: name.to_owned(),
        body: body.as_object().unwrap().clone(),
        revision,
        created_at: 1_700_000_000_000,
        updated_at: 1_700_000_000_001,
        disabled: None,
    }
}

fn entry(action: &str, target: &str) -> AuditEntry {
    AuditEntry {
        id: 0,
        at: 1_700_000_000_000,
        actor: "ops".to_owned(),
        role: "admin".to_owned(),
        action: action.to_owned(),
        target: target.to_owned(),
        outcome: "ok".to_owned(),
        request_id: "r-1".to_owned(),
        detail: json!({"weight": [1, 2]}),
    }
}
