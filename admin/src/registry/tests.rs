//! The registry on a real store with a data plane that only remembers.

mod canary;
mod conflicts;
mod exchange;
mod following;
mod large;
mod merging;
mod race;
mod writes;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use config::ProcessEnvironment;
use router::planes::Publish;
use router::snapshot::{BuildError, ObjectKind as Part, ObjectRef};
use router::spec::{Catalog, DiscoveredModel, SnapshotSpec};
use serde_json::{Value, json};
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;
use crate::store::Role;
use crate::vault::MasterKey;

/// A data plane that keeps what it is given.
#[derive(Default)]
struct Plane {
    specs: Mutex<Vec<SnapshotSpec>>,
    refuses: AtomicBool,
}

impl Publish for Plane {
    fn publish(&self, spec: SnapshotSpec) -> Result<u64, Vec<BuildError>> {
        if self.refuses.load(Ordering::Relaxed) {
            let object = ObjectRef {
                kind: Part::Root,
                name: String::new(),
                place: 0,
                key: "version",
                index: None,
            };
            return Err(vec![BuildError { object, message: "no".into(), suggestion: None }]);
        }
        let mut specs = self.specs.lock().unwrap();
        specs.push(spec);
        Ok(specs.len() as u64)
    }
}

impl Plane {
    fn last(&self) -> SnapshotSpec {
        self.specs.lock().unwrap().last().unwrap().clone()
    }
}

struct World {
    folder: TempDir,
    plane: Arc<Plane>,
    registry: Registry,
}

const FILE: &str = "version = 1\ndefault_region = \"eu\"\n[auth]\nmode = \"open\"\n\
    [[backend]]\nname = \"file-1\"\nkind = \"vllm\"\nurl = \"http://f1\"\napi_key = \"sk-of-the-file\"\n\
    [[backend]]\nname = \"file-2\"\nkind = \"vllm\"\nurl = \"http://f2\"\nregion = \"us\"\n\
    [[head]]\nname = \"h-eu\"\nregion = \"eu\"\nbackends = [\"file-1\"]\n\
    [[head]]\nname = \"h-us\"\nregion = \"us\"\nbackends = [\"file-2\"]\n\
    [[model]]\nname = \"file-m\"\nregion = \"eu\"\nregions = [\"us\"]\npriority_head = \"h-eu\"\n";

fn base(text: &str) -> Base {
    let loaded = config::load_text("f.toml", text, Path::new(""), &ProcessEnvironment);
    Base::of_files(loaded.map_err(|report| report.to_json()).unwrap())
}

fn compile() -> Compile {
    Arc::new(|config| config.snapshot.clone())
}

fn vault() -> Vault {
    Vault::new(vec![MasterKey::new(&Zeroizing::new([7; 32]))])
}

fn open(path: &Path, text: &str, plane: &Arc<Plane>) -> Registry {
    let store = Store::open(path, Role::Writer);
    let plane = Arc::clone(plane);
    Registry::open(store, path, vault(), base(text), Some(plane), compile()).unwrap()
}

impl World {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plane = Arc::new(Plane::default());
        let registry = open(&folder.path().join("f.db"), text, &plane);
        Self { folder, plane, registry }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("f.db")
    }

    fn object(&self, kind: ObjectKind, name: &str) -> Object {
        self.registry.object(kind, name, &catalog()).unwrap()
    }
}

fn catalog() -> Catalog {
    let model = DiscoveredModel {
        name: "found/model:1b".try_into().unwrap(),
        created: None,
        owned_by: None,
        context_length: None,
        parent: None,
        digest: None,
        remote: false,
    };
    [("file-1".try_into().unwrap(), Arc::from([model]))].into()
}

fn by() -> Change {
    Change { actor: "ann".into(), role: "admin".into(), catalog: catalog(), ..Change::default() }
}

fn when(object: &Object) -> Change {
    Change { if_match: Some(IfMatch::parse(object.etag.as_str())), ..by() }
}

/// Looks until something is so, at most 20 s.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !is_so() {
        assert!(begin.elapsed().as_secs() < 20, "{what} did not come about");
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
}

fn body(value: &Value) -> Body {
    value.as_object().unwrap().clone()
}

fn backend(name: &str) -> Body {
    body(&json!({"name": name, "kind": "vllm", "url": format!("http://{name}"), "region": "eu"}))
}
