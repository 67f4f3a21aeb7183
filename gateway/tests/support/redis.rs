//! A real Redis of the test's own, to be killed, frozen and filled, and a client that speaks just enough RESP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{TempDir, wait_until};

/// A `redis-server` that keeps nothing on disk; killed by its pid when dropped.
pub struct Redis {
    child: Child,
    addr: SocketAddr,
    args: Vec<String>,
    dir: TempDir,
}

impl Redis {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With further arguments, for instance `--requirepass secret`.
    pub fn start_with(args: &[&str]) -> Self {
        (0..20).find_map(|_| Self::attempt(args)).unwrap()
    }

    /// One that also speaks TLS, and on which port.
    pub fn start_tls(cert: &str, key: &str) -> (Self, u16) {
        let attempt = |_| {
            let port = free().port();
            let tls = ["--tls-port", &port.to_string(), "--tls-auth-clients", "no"];
            let files = ["--tls-cert-file", cert, "--tls-key-file", key];
            Some((Self::attempt(&[&tls[..], &files].concat())?, port))
        };
        (0..20).find_map(attempt).unwrap()
    }

    /// Another process may take a port that was free a moment ago: then it ends at once, and other ports are to be tried.
    fn attempt(args: &[&str]) -> Option<Self> {
        let (dir, addr) = (TempDir::new(), free());
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let mut child = spawn(addr.port(), &args, &dir);
        answers(&mut child, addr).then(|| Self { child, addr, args, dir })
    }

    /// Starts it again on the same port, empty.
    pub fn restart(&mut self) {
        let mut again = None;
        wait_until("the old port of Redis", || {
            let mut child = spawn(self.addr.port(), &self.args, &self.dir);
            let up = answers(&mut child, self.addr);
            again = up.then_some(child);
            up
        });
        self.child = again.unwrap();
    }

    /// As `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
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

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A `[redis]` table for it; further keys may follow.
    pub fn table(&self) -> String {
        table_at(self.addr)
    }

    /// Sends commands as words, on one connection; the answer to the last.
    pub fn pipeline(&self, commands: &[&str]) -> String {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all((commands.join("\r\n") + "\r\n").as_bytes()).unwrap();
        let mut stream = BufReader::new(stream);
        let answers = commands.iter().map(|_| read(&mut stream).unwrap());
        answers.last().unwrap_or_default()
    }

    /// Sends one command and gives its answer as text.
    pub fn ask(&self, command: &[&str]) -> String {
        ask(self.addr, command).unwrap()
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A `[redis]` table. The deadline is longer than the default: the machine that runs tests is busy with them.
pub fn table_at(addr: SocketAddr) -> String {
    format!("[redis]\nurl = \"redis://{addr}\"\ntimeout = \"250ms\"\n")
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16, args: &[String], dir: &TempDir) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
        .args(args)
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until it answers or has ended; whether it answers, and is the one that was started.
fn answers(child: &mut Child, addr: SocketAddr) -> bool {
    let mut up = false;
    wait_until("redis-server", || {
        up = ask(addr, &["INFO", "server"]).is_ok_and(|info| {
            info.contains(&format!("process_id:{}\r", child.id())) || is_denial(&info)
        });
        up || child.try_wait().unwrap().is_some()
    });
    up
}

/// One that wants a password tells nothing else.
fn is_denial(answer: &str) -> bool {
    answer.starts_with("-NOAUTH")
}

/// One command on a connection of its own.
pub fn ask(addr: SocketAddr, command: &[&str]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut request = format!("*{}\r\n", command.len());
    for part in command {
        request.push_str(&format!("${}\r\n{part}\r\n", part.len()));
    }
    stream.write_all(request.as_bytes())?;
    read(&mut BufReader::new(stream))
}

fn read(stream: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let line = line.trim_end();
    match line.split_at_checked(1) {
        Some(("$", len)) => {
            let Ok(len) = len.parse::<usize>() else { return Ok(String::new()) };
            let mut bytes = vec![0; len + 2];
            stream.read_exact(&mut bytes)?;
            bytes.truncate(len);
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        Some(("*", count)) => {
            let parts: std::io::Result<Vec<String>> =
                (0..count.parse::<usize>().unwrap_or(0)).map(|_| read(stream)).collect();
            Ok(parts?.join("\n"))
        }
        Some((":" | "+", value)) => Ok(value.to_owned()),
        _ => Ok(line.to_owned()),
    }
}

/// Something that listens where a Redis should, and answers every command with the same bytes, or with none.
pub struct Impostor {
    addr: SocketAddr,
}

impl Impostor {
    /// For as long as the test process lives.
    pub fn answering(answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(1..) = stream.read(&mut buffer) {
                        // One answer for each command: every one is an array.
                        let commands = buffer.iter().filter(|byte| **byte == b'*').count().max(1);
                        buffer = [0; 4096];
                        if stream.write_all(&answer.repeat(commands)).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { addr }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// A proxy before a Redis that passes everything on, each answer so much later.
pub fn delaying(to: SocketAddr, by: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(to)) else { continue };
            let (back, forth) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || pass(client, forth, Duration::ZERO));
            std::thread::spawn(move || pass(server, back, by));
        }
    });
    addr
}

fn pass(mut from: TcpStream, mut to: TcpStream, wait: Duration) {
    let mut buffer = [0; 16384];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        std::thread::sleep(wait);
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}
