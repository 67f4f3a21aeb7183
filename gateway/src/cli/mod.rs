//! Commands and their exit codes.

mod ask;
mod check;
mod control;
#[cfg(feature = "demo")]
mod demo;
mod explain;
mod healthcheck;
mod local;
mod logging;
mod notify;
mod output;
mod publisher;
mod relisten;
mod reload;
mod serve;
mod settings;
mod sidecar;
mod signals;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// A wrong configuration, as `sysexits.h` numbers it.
pub(crate) const EXIT_CONFIG: u8 = 78;

#[derive(Parser)]
#[command(
    name = "forebay",
    version,
    about = "An OpenAI-compatible gateway for your own inference servers"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API
    Serve(Serve),
    /// Serve the admin API alone, beside data planes with `admin.mode = "sidecar"` on the same store
    Admin(Admin),
    /// Validate configuration files: every error at once, with its place
    Check(Check),
    /// Show where a request for a model would go now, and why
    Explain(Explain),
    /// Show configurations
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the JSON Schema of the configuration file
    Schema,
    /// Print the OpenAPI document of the admin API
    Openapi,
    /// Ask a running gateway whether it is ready; for containers
    Healthcheck(Healthcheck),
    /// Serve in front of three scripted servers, one of which dies now and then
    #[cfg(feature = "demo")]
    Demo,
    /// One scripted server of the demo
    #[cfg(feature = "demo")]
    #[command(hide = true)]
    DemoBackend {
        /// Plays Ollama instead of vLLM
        #[arg(long)]
        ollama: bool,
        /// Where it listens
        #[arg(long)]
        listen: std::net::SocketAddr,
    },
}

/// `forebay explain`
#[derive(Args)]
pub(crate) struct Explain {
    /// The model, as clients name it
    model: String,
    /// A TOML file or a folder of them; without it, what is found on this host
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A running admin API, as http://127.0.0.1:8081; it knows the live state
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    admin: Option<String>,
    /// Its token; without it, FOREBAY_ADMIN_TOKEN
    #[arg(long, requires = "admin")]
    token: Option<String>,
    /// The region that the request asks for
    #[arg(long)]
    region: Option<String>,
    /// The name of the key that it comes with
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// What is asked for
    #[arg(long, value_enum, default_value_t = Asked::Chat)]
    operation: Asked,
}

/// The operations that can be explained.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Asked {
    /// /v1/chat/completions
    Chat,
    /// /v1/completions
    Completions,
    /// /v1/embeddings
    Embeddings,
}

/// `forebay healthcheck`
#[derive(Args)]
pub(crate) struct Healthcheck {
    /// The configuration whose ops address is asked
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The ops address itself, as 127.0.0.1:8082
    #[arg(long, value_name = "ADDRESS:PORT")]
    ops: Option<std::net::SocketAddr>,
}

/// `forebay serve`
#[derive(Args)]
pub(crate) struct Serve {
    /// A TOML file or a folder of them; without it, embedded defaults and what is found on this host
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Start from the last good configuration when the file is broken
    #[arg(long, requires = "config")]
    last_good: bool,
}

/// `forebay admin`
#[derive(Args)]
pub(crate) struct Admin {
    /// A TOML file or a folder of them: the same that the data planes have
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// `forebay check`
#[derive(Args)]
pub(crate) struct Check {
    /// Files or folders
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Exit 1 when there are warnings
    #[arg(long)]
    strict: bool,
    /// Ask every backend how it is as well; one that is unwell is a warning
    #[arg(long)]
    online: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Human,
    /// For programs
    Json,
}

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print what a file comes to, or the defaults with all their comments; secrets redacted
    Show {
        /// A file or a folder; without it, the defaults
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Without a file: the bare values, as for a file, instead of the commented text
        #[arg(long)]
        effective: bool,
    },
    /// Show what differs between two configurations
    Diff {
        /// The one before
        before: PathBuf,
        /// The one after
        after: PathBuf,
    },
}

/// Parses the command line and runs the command.
pub(crate) fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Admin(args) => sidecar::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Config(command) => check::config(&command),
        Command::Schema => {
            output::out(&config::schema());
            ExitCode::SUCCESS
        }
        Command::Openapi => {
            output::out(&admin::api::openapi());
            ExitCode::SUCCESS
        }
        Command::Healthcheck(args) => healthcheck::run(&args),
        #[cfg(feature = "demo")]
        Command::Demo => demo::run(),
        #[cfg(feature = "demo")]
        Command::DemoBackend { ollama, listen } => demo::backend(ollama, listen),
    }
}
