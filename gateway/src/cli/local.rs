//! What `serve` does without a configuration file: the two servers that most people have, on this host.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use config::{Config, Loaded, ProcessEnvironment, Report};
use gateway::DataPlane;
use router::spec::Kind;

use super::{output, serve};

/// What is looked for on this host.
const LOCAL: [(&str, Kind, u16); 2] =
    [("local-ollama", Kind::Ollama, 11434), ("local-vllm", Kind::Vllm, 8000)];
/// How long the look for a local server may take.
const LOOK: Duration = Duration::from_millis(300);
/// The region of this host, and what diagnostics call the text that is made here.
const REGION: &str = "local";

/// A configuration with the two servers; whichever is down joins when it comes up.
///
/// # Errors
/// Only the environment can make it wrong.
pub(crate) fn load() -> Result<Loaded, Report> {
    let at = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let servers: Vec<_> =
        LOCAL.into_iter().map(|(name, kind, port)| (name, kind, at(port))).collect();
    load_servers(&servers, "")
}

/// A configuration with these servers, and further tables.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_servers(
    servers: &[(&str, Kind, SocketAddr)],
    tables: &str,
) -> Result<Loaded, Report> {
    let mut text = format!("version = 1\ndefault_region = \"{REGION}\"\n{tables}");
    for (name, kind, address) in servers {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "[[backend]]\nname = \"{name}\"\nkind = \"{}\"\nurl = \"http://{address}\"\n",
            kind.as_str()
        );
    }
    config::load_text(REGION, &text, Path::new(""), &ProcessEnvironment)
}

/// Says what is there, and how a first request looks.
pub(crate) fn advise(data_plane: &DataPlane, config: &Config) {
    let mut none = true;
    for (name, _, port) in LOCAL {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let up = TcpStream::connect_timeout(&address, LOOK).is_ok();
        none &= !up;
        let state = if up { "found" } else { "not there yet" };
        output::out(&format!("{name} ({address}): {state}"));
    }
    if none {
        output::out(
            "no inference server was found: start Ollama (`ollama serve`) or vLLM and it is picked \
             up by itself, or name your servers in a file (`forebay serve --config FILE`, see \
             config/examples) or through the admin API",
        );
    }
    let base = format!("{}://{}", serve::scheme(config), data_plane.public_addr());
    output::out(&format!(
        "try: curl {base}/v1/models\n     curl {base}/v1/chat/completions \
         -H 'content-type: application/json' \\\n       -d '{{\"model\": \"NAME\", \"messages\": \
         [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'"
    ));
}
