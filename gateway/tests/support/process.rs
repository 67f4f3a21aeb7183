//! Scripted upstreams as processes of their own, to be killed and frozen, and the counts that such tests need.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::time::Duration;

use loadtest::generator::{Load, Running};
use loadtest::{Script, Stats};
use serde_json::Value;

use super::{Client, Gateway, Reply, backend_at, wait_until};

/// A `fake-upstream` of its own; killed by its pid when dropped.
pub struct Fake {
    child: Child,
    addr: SocketAddr,
    profile: &'static str,
    model: String,
    script: String,
}

impl Fake {
    /// A vLLM that serves `tiny`.
    pub fn vllm(script: &Script) -> Self {
        Self::start("vllm", "tiny", script)
    }

    /// A server of this kind (as the binary's `--profile` names it) with one model.
    pub fn start(profile: &'static str, model: &str, script: &Script) -> Self {
        let script = serde_json::to_string(script).unwrap();
        let (child, addr) = spawn(SocketAddr::from(([127, 0, 0, 1], 0)), profile, model, &script);
        Self { child, addr, profile, model: model.to_owned(), script }
    }

    /// Its `[[backend]]` table; further keys may follow it.
    pub fn table(&self, name: &str) -> String {
        let kind = if self.profile == "ollama" { "ollama" } else { "vllm" };
        backend_at(name, kind, &format!("http://{}", self.addr))
    }

    /// As `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same address, with the script that it began with.
    pub fn restart(&mut self) {
        let (child, _) = spawn(self.addr, self.profile, &self.model, &self.script);
        self.child = child;
    }

    /// Whether it has not ended by itself.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// `SIGSTOP`: the kernel still takes connections, nobody answers.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Answers by this script from now on.
    pub fn script(&self, script: &Script) {
        self.control("script", &serde_json::to_string(script).unwrap());
    }

    /// Answers the next request by this script; calls add up.
    pub fn next(&self, script: &Script) {
        self.control("next?n=1", &serde_json::to_string(script).unwrap());
    }

    /// Changes members of its condition.
    pub fn vitals(&self, change: &str) {
        self.control("vitals", change);
    }

    fn control(&self, route: &str, body: &str) {
        let reply = self.client().post(&format!("/control/{route}"), body);
        assert_eq!(reply.status, 200, "{}", reply.text());
    }

    pub fn stats(&self) -> Stats {
        serde_json::from_value(self.client().get("/control/stats").json()).unwrap()
    }

    /// How often a path was asked for, as far as it remembers.
    pub fn asked(&self, path: &str) -> usize {
        let requests = self.client().get("/control/requests").json();
        let requests = requests.as_array().unwrap().iter();
        requests.filter(|request| request["target"] == path).count()
    }

    /// Straight to it, past the gateway.
    pub fn client(&self) -> Client {
        Client::new(self.addr)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(listen: SocketAddr, profile: &str, model: &str, script: &str) -> (Child, SocketAddr) {
    let mut child = Command::new(binary())
        .args(["--listen", &listen.to_string(), "--profile", profile])
        .args(["--model", model, "--script", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let addr = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}"));
    (child, addr.parse().unwrap())
}

/// The binary beside ours. A run of all the workspace's tests has built it; a run of this package's alone has not.
fn binary() -> PathBuf {
    static BUILD: Once = Once::new();
    let path = PathBuf::from(env!("CARGO_BIN_EXE_forebay")).with_file_name("fake-upstream");
    BUILD.call_once(|| {
        if path.exists() {
            return;
        }
        let target = path.ancestors().nth(2).unwrap();
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "-p", "loadtest", "--bin", "fake-upstream"])
            .arg("--target-dir")
            .arg(target)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .status();
        assert!(status.unwrap().success());
    });
    path
}

/// A load of streams of so many words on `tiny`, with a fresh connection per request so that both cores take part.
pub fn load(gateway: &Gateway, rate: f64, seconds: u64, words: usize) -> Load {
    Load {
        url: format!("http://{}", gateway.public),
        rate,
        words,
        duration: Duration::from_secs(seconds),
        timeout: super::PATIENCE,
        keep_alive: false,
        ..Load::default()
    }
}

/// Waits until so many requests were sent.
pub fn wait_offered(running: &Running, n: u64) {
    wait_until(&format!("{n} requests offered"), || running.report().counts.offered >= n);
}

/// Waits until the gateway has heard of the model from so many backends, and each can get work.
pub fn settle(gateway: &Gateway, backends: &[&str]) {
    gateway.wait_for_backends(backends.len());
    for backend in backends {
        wait_up(gateway, backend, true);
    }
}

/// Waits until a backend may (or may not) get work.
pub fn wait_up(gateway: &Gateway, backend: &str, up: bool) {
    wait_until(&format!("{backend} up: {up}"), || is_up(gateway, backend) == up);
}

pub fn is_up(gateway: &Gateway, backend: &str) -> bool {
    gateway.metric(&format!("forebay_backend_up{{backend=\"{backend}\"}}")) > 0.5
}

/// Attempts at a backend so far: whole number of one end, or of all (`""`).
pub fn attempts(gateway: &Gateway, backend: &str, end: &str) -> u64 {
    let (backend, end) = (format!("backend=\"{backend}\""), format!("end=\"{end}"));
    let text = gateway.metrics();
    let lines = text.lines().filter(|line| {
        line.starts_with("forebay_attempts_total{")
            && line.contains(&backend)
            && line.contains(&end)
    });
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// The gateway's own lines about changes of a backend's breaker.
pub fn breaker_lines(gateway: &Gateway, backend: &str) -> Vec<Value> {
    gateway
        .log()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["message"] == "breaker" && line["backend"] == backend)
        .collect()
}

/// Where an answer came from, by its header.
pub fn from(reply: &Reply) -> &str {
    reply.header("x-forebay-backend").unwrap_or_default()
}
