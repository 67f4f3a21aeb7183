//! The `fake-upstream` binary: a process to be controlled, killed and frozen.
#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

struct Process {
    child: Child,
    addr: String,
}

impl Process {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fake-upstream"))
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let addr = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, addr }
    }

    fn call(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.addr).unwrap();
        let len = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        // A server that dies resets the connection; what came until then counts.
        let _ = stream.read_to_string(&mut answer);
        answer
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const CHAT: &str = "/v1/chat/completions";
const ASK: &str = r#"{"model":"m","messages":[{"role":"user","content":"Hello"}]}"#;

#[test]
fn it_is_controlled_over_http() {
    let process =
        Process::start(&["--profile", "ollama", "--model", "m", "--script", r#"{"words":2}"#]);
    assert!(process.call("POST", CHAT, ASK).contains(r#""content":"baba babe""#));
    process.call("POST", "/control/next?n=1", r#"{"answer":{"status":503}}"#);
    assert!(process.call("POST", CHAT, ASK).starts_with("HTTP/1.1 503"));
    process.call("POST", "/control/script", r#"{"words":1}"#);
    assert!(process.call("POST", CHAT, ASK).contains(r#""content":"baba""#));
    let stats = process.call("GET", "/control/stats", "");
    assert!(stats.contains(r#""inference_requests":3"#), "{stats}");
    assert!(
        process.call("GET", "/control/requests", "").contains(r#""target":"/v1/chat/completions""#)
    );
    process.call("POST", "/control/vitals", r#"{"health":503}"#);
    assert!(process.call("GET", "/api/version", "").starts_with("HTTP/1.1 503"));
    assert!(process.call("POST", "/control/script", r#"{"wrods":1}"#).starts_with("HTTP/1.1 400"));
    process.call("POST", "/control/clear", "");
    assert!(process.call("GET", "/control/stats", "").contains(r#""inference_requests":0"#));
}

#[test]
fn poison_ends_the_process() {
    let mut process = Process::start(&["--model", "m", "--script", r#"{"poison":"arsenic"}"#]);
    assert!(process.call("POST", CHAT, ASK).starts_with("HTTP/1.1 200"));
    process.call("POST", CHAT, &ASK.replace("Hello", "arsenic"));
    assert_eq!(process.child.wait().unwrap().code(), Some(137));
}

#[test]
fn it_refuses_what_it_cannot_do() {
    let run = |args: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_fake-upstream")).args(args).output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (code, text) = run(&["--listen", "0.0.0.0:0"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("loopback"), "{text}");
    let (code, text) = run(&["--script", r#"{"wrods":1}"#]);
    assert_eq!(code, Some(1));
    assert!(text.contains("wrods"), "{text}");
}
