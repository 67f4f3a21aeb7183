//! `forebay healthcheck`: asks the ops listener whether the process is ready; for containers without a shell.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use config::{Environment, ProcessEnvironment};

use super::{Healthcheck, check, output};

const TIMEOUT: Duration = Duration::from_secs(3);

/// 0 when `/readyz` says 200.
pub(crate) fn run(args: &Healthcheck) -> ExitCode {
    let address = match ops_address(args) {
        Ok(address) => address,
        Err(code) => return code,
    };
    match ask(address) {
        Ok(answer) if answer.starts_with("HTTP/1.1 200") => ExitCode::SUCCESS,
        Ok(answer) => {
            let said = answer.rsplit("\r\n\r\n").next().unwrap_or_default();
            output::err(&format!("not ready: {said}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            output::err(&format!("no answer from {address}: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Where the ops listener is: the flag, else the environment or file, else the default; a wildcard means this host.
fn ops_address(args: &Healthcheck) -> Result<SocketAddr, ExitCode> {
    let mut address = match (args.ops, &args.config) {
        (Some(address), _) => address,
        (None, Some(path)) => check::load(path)?.config.ops.listen,
        (None, None) => config::defaults(&ProcessEnvironment).config.ops.listen,
    };
    if let Some(Ok(given)) = ProcessEnvironment.var("FOREBAY_OPS_LISTEN").map(|text| text.parse()) {
        address = args.ops.unwrap_or(given);
    }
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(address)
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut socket = TcpStream::connect_timeout(&address, TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.write_all(b"GET /readyz HTTP/1.1\r\nhost: ops\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.take(4096).read_to_string(&mut answer)?;
    Ok(answer)
}
