//! The API on a port of its own, over a real store and a plane without sockets.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use admin::api::{Context, serve};
use admin::registry::{Base, Registry};
use admin::store::{Role as Access, Store};
use admin::vault::{MasterKey, Vault};
use config::ProcessEnvironment;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::client::Client;
use crate::plane::{Fake, One};

/// How long a test waits for a state before it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The token of the configuration.
pub const TOKEN: &str = "fbt-canary-token-of-the-configuration";

/// Looks until `check` holds.
pub fn wait_until(what: &str, mut check: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !check() {
        assert!(begun.elapsed() < PATIENCE, "timed out waiting: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A file with a backend, a head and a model of each region.
pub const FILE: &str = "version = 1\ndefault_region = \"eu\"\n[auth]\nmode = \"open\"\n\
    [[backend]]\nname = \"file-1\"\nkind = \"vllm\"\nurl = \"http://127.0.0.1:9\"\napi_key = \"sk-canary-of-the-file\"\n\
    [[backend]]\nname = \"file-2\"\nkind = \"vllm\"\nurl = \"http://127.0.0.1:9\"\nregion = \"us\"\n\
    [[head]]\nname = \"h-eu\"\nregion = \"eu\"\nbackends = [\"file-1\"]\n\
    [[head]]\nname = \"h-us\"\nregion = \"us\"\nbackends = [\"file-2\"]\n\
    [[model]]\nname = \"file-m\"\nregion = \"eu\"\nregions = [\"us\"]\npriority_head = \"h-eu\"\nheads = [\"h-us\"]\n";
/// No backends at all; callers need no key.
pub const EMPTY: &str = "version = 1\ndefault_region = \"eu\"\n[auth]\nmode = \"open\"\n";

/// The API, running.
pub struct Server {
    pub address: SocketAddr,
    pub plane: Arc<Fake>,
    pub registry: Registry,
    folder: TempDir,
    end: Option<oneshot::Sender<()>>,
    thread: Option<admin::api::Served>,
}

impl Server {
    /// Over a file with this text.
    pub fn start(text: &str) -> Self {
        Self::with(text, Some(TOKEN), Some([7; 32]))
    }

    /// With or without a token of the configuration and a master key.
    pub fn with(text: &str, token: Option<&str>, master: Option<[u8; 32]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("forebay.db");
        let store = Store::open(&path, Access::Writer);
        let loaded = config::load_text("forebay.toml", text, Path::new(""), &ProcessEnvironment);
        let loaded = loaded.map_err(|report| report.to_json()).unwrap();
        let plane = Fake::new();
        let publish: Arc<dyn router::planes::Publish> = Arc::clone(&plane) as _;
        let keys = master.map(|bytes| MasterKey::new(&Zeroizing::new(bytes)));
        let registry = Registry::open(
            store.clone(),
            &path,
            Vault::new(keys.into_iter().collect()),
            Base::of_files(loaded),
            Some(publish),
            Arc::new(|config| config.snapshot.clone()),
        )
        .unwrap();
        let context = Context {
            registry: registry.clone(),
            store: Arc::new(move || store.clone()),
            planes: Arc::new(One(Arc::clone(&plane))),
            token: token.map(|token| Zeroizing::new(token.to_owned())),
            hosts: Vec::new(),
            reload: None,
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = oneshot::channel();
        let thread = serve(listener, context, async move {
            let _ = ended.await;
        });
        let (end, thread) = (Some(end), Some(thread.unwrap()));
        Self { address, plane, registry, folder, end, thread }
    }

    /// A client with the token of the configuration.
    pub fn client(&self) -> Client {
        Client::new(self.address).token(TOKEN)
    }

    /// A client with a new token of this role.
    pub fn as_role(&self, role: &str) -> Client {
        let body = json!({"name": role, "role": role});
        let made = self.client().post("/admin/tokens", &body);
        assert_eq!(made.status, 201, "{made:?}");
        Client::new(self.address).token(made.json()["token"].as_str().unwrap())
    }

    /// Where its files are.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A backend to be made.
pub fn backend(name: &str) -> Value {
    json!({"name": name, "kind": "vllm", "url": "http://127.0.0.1:9", "region": "eu"})
}

/// Every route of the document: method, path with a name in the place of `{id}`, and the role (none for public ones).
pub fn routes() -> Vec<(String, String, Option<String>)> {
    let document: Value = serde_json::from_str(&admin::api::openapi()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let path = path.replace("{id}", "nobody").replace("{number}", "1");
            let role = operation["x-forebay-role"].as_str().map(str::to_owned);
            all.push((method.to_ascii_uppercase(), path, role));
        }
    }
    all
}
