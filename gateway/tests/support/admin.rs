//! A site: one or more data planes on one store, and the admin API in the gateway's process or in one of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;

use serde_json::Value;

use super::client::{Client, Reply};
use super::{Gateway, TempDir, command, wait_until};

pub const TOKEN: &str = "test-token-0123456789abcdef0123456789";

/// Where the admin API runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Embedded,
    Sidecar,
}

/// The admin API as a process of its own; killed by its pid when dropped.
pub struct Sidecar {
    child: Child,
}

impl Sidecar {
    fn start(config: &Path) -> (Self, SocketAddr) {
        let mut child = command()
            .args(["admin", "--config", config.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().unwrap().unwrap();
            if let Some(rest) = line.strip_prefix("admin on http://") {
                break rest.parse().unwrap();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        (Self { child }, address)
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client of the admin API with the administrator's token.
#[derive(Clone, Copy)]
pub struct Admin {
    address: SocketAddr,
    token: &'static str,
}

/// What takes part.
pub struct Site {
    pub gateway: Gateway,
    pub sidecar: Option<Sidecar>,
    pub admin: Admin,
    config: PathBuf,
    /// Holds the store; dropped last.
    _store: Arc<TempDir>,
}

impl Site {
    /// With nothing configured but where things listen.
    pub fn start(mode: Mode) -> Self {
        Self::start_with(mode, "")
    }

    /// With further tables.
    pub fn start_with(mode: Mode, tables: &str) -> Self {
        let store = Arc::new(TempDir::new());
        Self::on(&store, mode, tables)
    }

    /// On a store that exists.
    pub fn on(store: &Arc<TempDir>, mode: Mode, tables: &str) -> Self {
        let config = store.path().join("forebay.toml");
        let text = self::config(mode, tables, "forebay.db");
        std::fs::write(&config, text).unwrap();
        let gateway =
            Gateway::spawn(&["serve", "--config", config.to_str().unwrap()], TempDir::new());
        let (sidecar, address) = match mode {
            Mode::Embedded => (None, gateway.admin()),
            Mode::Sidecar => {
                let (sidecar, address) = Sidecar::start(&config);
                (Some(sidecar), address)
            }
        };
        Self { gateway, sidecar, admin: Admin::at(address), config, _store: Arc::clone(store) }
    }

    /// The configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Another data plane of the same configuration.
    pub fn another(&self) -> Gateway {
        Gateway::spawn(&["serve", "--config", self.config.to_str().unwrap()], TempDir::new())
    }

    /// Ends the sidecar without a word.
    pub fn kill_sidecar(&mut self) {
        self.sidecar = None;
    }

    /// Starts it again.
    pub fn restart_sidecar(&mut self) {
        let (sidecar, address) = Sidecar::start(&self.config);
        self.sidecar = Some(sidecar);
        self.admin = Admin::at(address);
    }
}

/// A configuration with further tables and a store at this path.
pub fn config(mode: Mode, tables: &str, store: &str) -> String {
    let word = if mode == Mode::Embedded { "embedded" } else { "sidecar" };
    format!(
        "version = 1\n{tables}\n[server]\nlisten = \"127.0.0.1:0\"\nthreads = 2\n\
         [server.drain]\ngrace = \"0s\"\n[ops]\nlisten = \"127.0.0.1:0\"\n[admin]\nmode = \"{word}\"\n\
         listen = \"127.0.0.1:0\"\ntoken = \"{TOKEN}\"\n[store]\npath = \"{store}\"\n\
         master_key = \"{}\"\n",
        "07".repeat(32)
    )
}

impl Admin {
    /// The API at this address, with the token of [`config`].
    pub fn at(address: SocketAddr) -> Self {
        Self { address, token: TOKEN }
    }

    /// With another token.
    pub fn with_token(self, token: String) -> Self {
        Self { token: token.leak(), ..self }
    }

    /// One request with the token; `more` is further header lines.
    pub fn ask(&self, method: &str, path: &str, more: &str, body: Option<&Value>) -> Reply {
        Client::new(self.address).raw(self.asked(method, path, more, body))
    }

    pub fn get(&self, path: &str) -> Value {
        let reply = self.ask("GET", path, "", None);
        assert_eq!(reply.status, 200, "GET {path}: {}", reply.text());
        reply.json()
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        let reply = self.ask("POST", path, "", Some(body));
        assert!(
            (200..300).contains(&reply.status),
            "POST {path}: {} {}",
            reply.status,
            reply.text()
        );
        reply
    }

    /// A PUT under the tag that the object has now.
    pub fn put(&self, object: &str, path: &str, body: &Value) -> Reply {
        let now = self.ask("GET", object, "", None);
        let tag = now.header("etag").unwrap_or_else(|| panic!("GET {object}: {}", now.text()));
        self.ask("PUT", path, &format!("if-match: {tag}\r\n"), Some(body))
    }

    /// As a POST whose answer may not come: its status, if it did.
    pub fn try_post(&self, path: &str, body: &Value) -> Option<u16> {
        let mut socket = TcpStream::connect(self.address).ok()?;
        socket.set_read_timeout(Some(super::PATIENCE)).ok()?;
        socket.write_all(self.asked("POST", path, "", Some(body)).as_bytes()).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        answer.split(' ').nth(1)?.parse().ok()
    }

    /// Waits until every data plane serves what is desired.
    pub fn settled(&self, planes: usize) {
        wait_until("every data plane to follow", || {
            let state = self.get("/admin/state");
            let all = state["planes"].as_array().unwrap();
            let follows = |plane: &Value| plane["live"]["up_to_date"] == true;
            all.len() == planes && all.iter().all(follows)
        });
    }

    fn asked(&self, method: &str, path: &str, more: &str, body: Option<&Value>) -> String {
        let body = body.map(ToString::to_string).unwrap_or_default();
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         authorization: Bearer {}\r\n{more}{kind}content-length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        )
    }
}
