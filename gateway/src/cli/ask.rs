//! `forebay explain --admin URL`: asks a running admin API, which knows the live state of its data planes.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use config::{Environment, ProcessEnvironment};
use serde_json::{Value, json};

use super::{Explain, explain, output};

/// How long each step of the question may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer, in bytes.
const ANSWER_MAX: u64 = 16 << 20;

/// Prints what each data plane says, as JSON; 0 when the API answered with a plan.
pub(crate) fn run(args: &Explain, url: &str) -> ExitCode {
    let mut question = json!({
        "model": args.model,
        "operation": explain::operation(args.operation).as_str(),
    });
    for (name, value) in [("region", &args.region), ("key", &args.key)] {
        if let Some(value) = value {
            question[name] = json!(value);
        }
    }
    let token = args.token.clone().or_else(|| ProcessEnvironment.var("FOREBAY_ADMIN_TOKEN"));
    match post(url, token.as_deref(), &question.to_string()) {
        Ok((200, answer)) => {
            output::out(&pretty(&answer));
            ExitCode::from(u8::from(!is_served(&answer)))
        }
        Ok((401 | 403, _)) => {
            output::err(&format!("error: {url} refuses the token"));
            output::err("help: give one with --token or FOREBAY_ADMIN_TOKEN");
            ExitCode::FAILURE
        }
        Ok((status, answer)) => {
            output::err(&format!("error: {url} answered {status}\n{}", pretty(&answer)));
            ExitCode::FAILURE
        }
        Err(error) => {
            output::err(&format!("error: {url}: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether some plane would try the request somewhere.
fn is_served(answer: &str) -> bool {
    let value: Value = serde_json::from_str(answer).unwrap_or_default();
    let mut planes = value["planes"].as_array().into_iter().flatten();
    planes.any(|plane| {
        let plan = &plane["plan"];
        plan.is_object() && plan["refused"].is_null() && plan["exhausted"].is_null()
    })
}

fn pretty(answer: &str) -> String {
    let value = serde_json::from_str::<Value>(answer);
    value.map_or_else(|_| answer.to_owned(), |value| format!("{value:#}"))
}

fn post(url: &str, token: Option<&str>, body: &str) -> io::Result<(u16, String)> {
    let wrong = |text: &str| io::Error::new(io::ErrorKind::InvalidInput, text.to_owned());
    let host = url
        .strip_prefix("http://")
        .map(|rest| rest.trim_end_matches('/'))
        .filter(|host| !host.is_empty() && !host.contains(['/', '@', '?', '#', '\r', '\n']))
        .ok_or_else(|| wrong("the admin API's address looks like http://127.0.0.1:8081"))?;
    if token.is_some_and(|token| token.contains(['\r', '\n'])) {
        return Err(wrong("a token is one line"));
    }
    let address = host.to_socket_addrs()?.next().ok_or_else(|| wrong("the host has no address"))?;
    let mut socket = TcpStream::connect_timeout(&address, TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let head = format!(
        "POST /admin/explain HTTP/1.1\r\nhost: {host}\r\n{token}content-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes())?;
    socket.write_all(body.as_bytes())?;
    let mut answer = String::new();
    socket.take(ANSWER_MAX).read_to_string(&mut answer)?;
    let torn = || io::Error::new(io::ErrorKind::UnexpectedEof, "the answer is not whole");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(torn)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(torn)?;
    Ok((status, body.to_owned()))
}
