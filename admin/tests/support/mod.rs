//! What tests of the admin API share: the API over real HTTP and a real store, in front of a data plane without sockets.

#![expect(clippy::unwrap_used, clippy::panic, unreachable_pub, reason = "tests")]

pub mod plane;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use admin::api::{Context, serve};
use admin::registry::{Base, Registry};
use admin::store::{Role, Store};
use admin::vault::Vault;
use config::ProcessEnvironment;
use router::planes::Publish;
use serde_json::Value;
use zeroize::Zeroizing;

use plane::{Fake, One};

/// How long a test waits for a state before it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The token of the configuration.
pub const TOKEN: &str = "fbt-of-the-tests-canary";

/// Looks until `check` gives something.
pub fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "timed out waiting: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running API.
pub struct World {
    pub address: SocketAddr,
    pub plane: Arc<Fake>,
    pub store: Store,
    pub registry: Registry,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<admin::api::Served>,
    pub dir: tempfile::TempDir,
}

/// An API whose file says this.
pub fn world(toml: &str) -> World {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("version = 1\ndefault_region = \"eu\"\n{toml}");
    let loaded = config::load_text("forebay.toml", &text, Path::new(""), &ProcessEnvironment);
    let loaded = loaded.unwrap_or_else(|_| panic!("the file of a test is wrong:\n{text}"));
    let path = dir.path().join("forebay.db");
    let store = Store::open(&path, Role::Writer).unwrap();
    let plane = Fake::new();
    let publish = Some(Arc::clone(&plane) as Arc<dyn Publish>);
    let compile = Arc::new(|config: &config::Config| config.snapshot.clone());
    let base = Base::of_files(loaded);
    let registry =
        Registry::open(Ok(store.clone()), &path, Vault::none(), base, publish, compile).unwrap();
    let source = store.clone();
    let context = Context {
        registry: registry.clone(),
        store: Arc::new(move || Ok(source.clone())),
        planes: Arc::new(One(Arc::clone(&plane))),
        token: Some(Zeroizing::new(TOKEN.to_owned())),
        hosts: Vec::new(),
        reload: None,
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let thread = serve(listener, context, async move { drop(ended.await) }).unwrap();
    let (end, thread) = (Some(end), Some(thread));
    World { address, plane, store, registry, end, thread, dir }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| {
            line.split_once(':').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name))
        });
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
    }

    /// The answer, if it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

impl World {
    /// Opens a connection and sends a request on it.
    pub fn open(&self, method: &str, path: &str, token: &str, more: &str, body: &str) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n{more}\
             content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        socket.write_all(head.as_bytes()).unwrap();
        socket
    }

    pub fn ask(&self, method: &str, path: &str, token: &str, body: Option<&Value>) -> Answer {
        let text = body.map(Value::to_string).unwrap_or_default();
        let more = if body.is_some() { "content-type: application/json\r\n" } else { "" };
        let mut answer = Vec::new();
        self.open(method, path, token, more, &text).read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, TOKEN, None)
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, TOKEN, Some(body))
    }

    /// A `POST` without a body.
    pub fn poke(&self, path: &str) -> Answer {
        self.ask("POST", path, TOKEN, None)
    }

    /// A new token of a role.
    pub fn token(&self, name: &str, role: &str) -> Value {
        let body = serde_json::json!({"name": name, "role": role});
        self.post("/admin/tokens", &body).expect(201).json()
    }

    /// Waits for the end of the job that an answer began.
    pub fn end_of(&self, begun: &Answer) -> Value {
        let place = begun.header("location").unwrap().to_owned();
        wait_for("the end of a job", || {
            let job = self.get(&place).expect(200).json();
            let ended = !matches!(job["state"].as_str(), Some("queued" | "running"));
            ended.then_some(job)
        })
    }
}
