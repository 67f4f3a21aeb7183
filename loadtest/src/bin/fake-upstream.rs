//! `fake-upstream`: the scripted inference server as a process of its own, to be killed and frozen.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use loadtest::{Kind, Profile, Script, Upstream};

/// A scripted inference server. Its control routes are under /control/.
#[derive(Debug, Parser)]
#[command(name = "fake-upstream", version)]
struct Args {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The server that is played.
    #[arg(long, value_enum, default_value = "vllm")]
    profile: Played,
    /// A model that it serves; may be given more than once.
    #[arg(long, default_value = "tiny")]
    model: Vec<String>,
    /// The script: a file, or JSON that begins with `{`.
    #[arg(long)]
    script: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Played {
    Vllm,
    Ollama,
    LlamaServer,
    Tei,
    Plain,
}

impl Played {
    fn kind(self) -> Kind {
        match self {
            Self::Vllm => Kind::Vllm,
            Self::Ollama => Kind::Ollama,
            Self::LlamaServer => Kind::LlamaServer,
            Self::Tei => Kind::Tei,
            Self::Plain => Kind::Plain,
        }
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Nothing is left to do when stderr is closed.
            let _ = writeln!(std::io::stderr(), "fake-upstream: {error}");
            ExitCode::from(1)
        }
    }
}

fn run(args: &Args) -> Result<ExitCode, Box<dyn std::error::Error>> {
    if !args.listen.ip().is_loopback() {
        return Err("refusing to listen beyond loopback".into());
    }
    let script = script(args.script.as_deref())?;
    let models: Vec<&str> = args.model.iter().map(String::as_str).collect();
    let profile = Profile::new(args.profile.kind(), &models);
    let upstream = Upstream::start_with(args.listen, profile, true)?;
    upstream.script(script);
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", upstream.addr())?;
    out.flush()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let died = runtime.block_on(async {
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let died = tokio::select! {
            () = upstream.died() => true,
            _ = term.recv() => false,
            stopped = tokio::signal::ctrl_c() => {
                stopped?;
                false
            }
        };
        Ok::<_, std::io::Error>(died)
    })?;
    // What a shell reports of a process that was killed by signal 9.
    Ok(if died { ExitCode::from(137) } else { ExitCode::SUCCESS })
}

fn script(text: Option<&str>) -> Result<Script, Box<dyn std::error::Error>> {
    let Some(text) = text else { return Ok(Script::default()) };
    if text.trim_start().starts_with('{') {
        return Ok(serde_json::from_str(text)?);
    }
    let file = std::fs::read_to_string(text).map_err(|e| format!("{text}: {e}"))?;
    Ok(serde_json::from_str(&file).map_err(|e| format!("{text}: {e}"))?)
}
