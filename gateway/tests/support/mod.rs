//! What the tests against the built binary share: a gateway as a process of its own, and a client that sees every byte.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "tests"
)]

pub mod admin;
pub mod client;
pub mod edits;
pub mod process;
pub mod redis;
pub mod streams;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use loadtest::Upstream;

pub use client::{Client, Reply};

/// How long a test waits for a state before it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Looks until `check` holds.
pub fn wait_until(what: &str, mut check: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !check() {
        assert!(begun.elapsed() < PATIENCE, "timed out waiting: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A folder that is removed with its guard.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name =
            format!("forebay-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running `forebay serve`; killed by its pid when dropped.
pub struct Gateway {
    child: Child,
    pub public: SocketAddr,
    pub ops: SocketAddr,
    log: Arc<Mutex<String>>,
    /// What it said after its addresses.
    said: Arc<Mutex<String>>,
    pub dir: TempDir,
}

/// The top of every test's configuration: free ports, no admin API, two cores.
pub const HEAD: &str = r#"
version = 1
default_region = "eu"
"#;

/// A `[[backend]]` table.
pub fn backend(name: &str, kind: &str, upstream: &Upstream) -> String {
    backend_at(name, kind, &upstream.url())
}

/// A `[[backend]]` table for any URL.
pub fn backend_at(name: &str, kind: &str, url: &str) -> String {
    format!("[[backend]]\nname = \"{name}\"\nkind = \"{kind}\"\nurl = \"{url}\"\n")
}

/// A vLLM-like upstream that serves `tiny`, and its `[[backend]]` table, named `tiny-1`.
pub fn tiny_backend() -> (Upstream, String) {
    let upstream = Upstream::start(loadtest::Profile::vllm(&["tiny"])).unwrap();
    let table = backend("tiny-1", "vllm", &upstream);
    (upstream, table)
}

/// Such an upstream, and a gateway in front of it that knows its model; `server` goes into the `[server]` table.
pub fn tiny(server: &str) -> (Upstream, Gateway) {
    let (upstream, table) = tiny_backend();
    let gateway = Gateway::start_with(&table, server);
    gateway.wait_for_model("tiny");
    upstream.clear();
    (upstream, gateway)
}

impl Gateway {
    /// Starts a gateway on `toml`: top-level keys may come first, then tables. Sections that every test needs are added.
    pub fn start(toml: &str) -> Self {
        Self::start_with(toml, "")
    }

    /// As [`Self::start`], with lines for the `[server]` table.
    pub fn start_with(toml: &str, server: &str) -> Self {
        let dir = TempDir::new();
        let config = dir.path().join("forebay.toml");
        let text = format!(
            "{HEAD}{toml}\n[server]\nlisten = \"127.0.0.1:0\"\nthreads = 2\n{server}\n\
             [ops]\nlisten = \"127.0.0.1:0\"\n[admin]\nmode = \"off\"\n[store]\npath = \"forebay.db\"\n"
        );
        std::fs::write(&config, text).unwrap();
        Self::spawn(&["serve", "--config", config.to_str().unwrap()], dir)
    }

    /// Starts the binary with these arguments and waits for its addresses.
    pub fn spawn(args: &[&str], dir: TempDir) -> Self {
        let mut command = command();
        command.args(args);
        Self::run(command, dir)
    }

    /// As [`Self::spawn`], with a command that may have an environment of its own.
    pub fn run(mut command: Command, dir: TempDir) -> Self {
        command.current_dir(dir.path());
        Self::run_in(command, dir)
    }

    /// As [`Self::run`], in the folder that the command names.
    pub fn run_in_place(command: Command) -> Self {
        Self::run_in(command, TempDir::new())
    }

    fn run_in(mut command: Command, dir: TempDir) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let mut stderr = child.stderr.take().unwrap();
        let sink = Arc::clone(&log);
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(n @ 1..) = stderr.read(&mut buffer) {
                sink.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut public, mut ops) = (None, None);
        while public.is_none() || ops.is_none() {
            let Some(Ok(line)) = lines.next() else {
                let status = child.wait();
                panic!("forebay did not start: {status:?}\n{}", log.lock().unwrap());
            };
            let addr = |prefix: &str| {
                let rest = line.strip_prefix(prefix)?;
                rest.rsplit("//").next()?.parse::<SocketAddr>().ok()
            };
            public = public.or_else(|| addr("listening on "));
            ops = ops.or_else(|| addr("ops on "));
        }
        let said = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                sink.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Self { child, public: public.unwrap(), ops: ops.unwrap(), log, said, dir }
    }

    /// Where its admin API is.
    pub fn admin(&self) -> SocketAddr {
        self.said("admin on http://").parse().unwrap()
    }

    /// The rest of the line that begins so on its standard output.
    pub fn said(&self, beginning: &str) -> String {
        let mut rest = None;
        wait_until(beginning, || {
            let said = self.said.lock().unwrap();
            rest = said.lines().find_map(|line| Some(line.strip_prefix(beginning)?.to_owned()));
            rest.is_some()
        });
        rest.unwrap()
    }

    pub fn client(&self) -> Client {
        Client::new(self.public)
    }

    /// Waits until `/v1/models` lists this model.
    pub fn wait_for_model(&self, model: &str) -> &Self {
        wait_until(&format!("model {model}"), || {
            self.client().get("/v1/models").text().contains(&format!("\"{model}"))
        });
        self
    }

    /// Waits until all of these backends have reported models, by the log.
    pub fn wait_for_backends(&self, n: usize) -> &Self {
        wait_until(&format!("{n} backends discovered"), || {
            self.log().matches("models discovered").count() >= n
        });
        self
    }

    pub fn metrics(&self) -> String {
        Client::new(self.ops).get("/metrics").text()
    }

    /// The value of one series, by its full name with labels as rendered.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.metrics();
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok()).unwrap_or(0.0)
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Structured request lines of the log.
    pub fn request_lines(&self) -> Vec<serde_json::Value> {
        self.log()
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|line| line["message"] == "request")
            .collect()
    }

    /// The most memory that it has held so far, bytes.
    pub fn peak_rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, for instance `TERM`.
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(status.unwrap().success());
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn wait_exit(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("forebay to exit", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- forebay's log ---\n{}", self.log());
        }
    }
}

/// The built binary, without this environment's own settings for it.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    for name in [
        "FOREBAY_LISTEN",
        "FOREBAY_OPS_LISTEN",
        "FOREBAY_ADMIN_LISTEN",
        "RUST_LOG",
        "FOREBAY_MASTER_KEY",
    ] {
        command.env_remove(name);
    }
    command
}
