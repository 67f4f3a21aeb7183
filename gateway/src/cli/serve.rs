//! `forebay serve`: the data plane from a configuration, until a signal ends it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use config::{
    Config, Diagnostic, LastGood, Loaded, LogFormat, ProcessEnvironment, Report, RestrictionKind,
};
use gateway::{DataPlane, DrainSettings, Phase, StartError};
use router::spec::{BackendSpec, Kind, RegionSpec};
use router::{BackendName, RegionName};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::logging::{self, LogHandle};
use super::notify::notify;
use super::reload::{self, Trigger};
use super::settings::{settings, snapshot};
use super::{EXIT_CONFIG, Serve, check, output};

/// Restrictions that this build enforces. Serving with any other would be a lie, so `serve` refuses.
const ENFORCED: &[RestrictionKind] = &[
    RestrictionKind::AuthKeys,
    RestrictionKind::KeyTable,
    RestrictionKind::KeyModels,
    RestrictionKind::KeyRegions,
    RestrictionKind::KeyLimits,
    RestrictionKind::StrictResidency,
    RestrictionKind::LocalInference,
    RestrictionKind::ModelCacheRegion,
];

/// What is looked for on this host when there is no configuration file.
const LOCAL: [(&str, Kind, u16); 2] =
    [("local-ollama", Kind::Ollama, 11434), ("local-vllm", Kind::Vllm, 8000)];
/// How long the look for a local server may take.
const LOOK: Duration = Duration::from_millis(300);
/// How long the last log lines may take.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);
/// How long error events may take to get out at the very end.
const ABORT_LIMIT: Duration = Duration::from_secs(2);

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(args: &Serve) -> ExitCode {
    let mut loaded = match load(args) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    if let Some(report) = unenforced(&loaded) {
        return check::refuse(&report);
    }
    let log = start_log(&loaded.config);
    for warning in &loaded.warnings {
        tracing::warn!(code = warning.code.number(), "{}", warning.message);
    }
    let Some(path) = args.config.clone() else {
        let found = look_around(&mut loaded.config);
        return serve(&loaded.config, |data_plane| {
            advise(data_plane, &loaded.config, &found);
            Ok(None)
        });
    };
    let config = loaded.config.clone();
    serve(&config, |data_plane| reload::start(path, loaded, Arc::clone(data_plane), log).map(Some))
}

fn load(args: &Serve) -> Result<Loaded, ExitCode> {
    let paths: Vec<_> = args.config.iter().cloned().collect();
    let report = match config::load(&paths, &ProcessEnvironment) {
        Ok(loaded) => return Ok(loaded),
        Err(report) => report,
    };
    let refused = check::refuse(&report);
    if !args.last_good {
        return Err(refused);
    }
    let last_good = LastGood::beside(&report.store);
    match last_good.load(&ProcessEnvironment) {
        Ok(Some(loaded)) => {
            output::err(&format!("serving the last good one, {}", last_good.path().display()));
            Ok(loaded)
        }
        Ok(None) => {
            output::err(&format!("there is no {}", last_good.path().display()));
            Err(refused)
        }
        Err(error) => {
            output::err(&format!("error: {error}"));
            Err(refused)
        }
    }
}

/// Starts the data plane, says where it listens, and stays until a signal. `started` may say more, and gives what a
/// SIGHUP triggers.
pub(crate) fn serve(
    config: &Config,
    started: impl FnOnce(&Arc<DataPlane>) -> io::Result<Option<Trigger>>,
) -> ExitCode {
    // Before anything else: a signal that came while starting would end the process without a word.
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return cannot_start(&StartError::System(error)),
    };
    let settings = settings(config);
    let data_plane = match DataPlane::start(&settings, config.ops.listen, snapshot(config)) {
        Ok(data_plane) => Arc::new(data_plane),
        Err(error) => return cannot_start(&error),
    };
    output::out(&format!("listening on {}://{}", scheme(config), data_plane.public_addr()));
    output::out(&format!("ops on http://{}", data_plane.ops_addr()));
    let ended = started(&data_plane).map(|reload| {
        notify("READY=1");
        signals.serve(&data_plane, reload.as_ref());
    });
    data_plane.plane().log.flush(FLUSH_LIMIT);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::err(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

const fn scheme(config: &Config) -> &'static str {
    if config.server.tls.is_some() { "https" } else { "http" }
}

/// What a configuration restricts and this build does not enforce; serving with it would be a lie.
pub(crate) fn unenforced(loaded: &Loaded) -> Option<Report> {
    let diagnostics: Vec<Diagnostic> = config::restrictions(&loaded.config)
        .into_iter()
        .filter(|restriction| !ENFORCED.contains(&restriction.what))
        .map(|restriction| restriction.diagnostic)
        .collect();
    (!diagnostics.is_empty()).then(|| loaded.report_of(diagnostics))
}

pub(crate) fn start_log(config: &Config) -> LogHandle {
    let json = match config.log.format {
        LogFormat::Auto => None,
        LogFormat::Text => Some(false),
        LogFormat::Json => Some(true),
    };
    logging::start(config.log.level.as_str(), json)
}

/// Adds the two servers that most people have; whichever is down joins when it comes up.
pub(crate) fn look_around(config: &mut Config) -> Vec<(&'static str, bool)> {
    let mut found = Vec::new();
    for (name, kind, port) in LOCAL {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        found.push((name, TcpStream::connect_timeout(&address, LOOK).is_ok()));
        add_backend(config, name, kind, address);
    }
    found
}

/// Adds a backend on this host in the home region.
pub(crate) fn add_backend(config: &mut Config, name: &str, kind: Kind, address: SocketAddr) {
    let snapshot = &mut config.snapshot;
    let home = snapshot.default_region.clone().map_or_else(|| RegionName::try_from("local"), Ok);
    if let (Ok(name), Ok(home)) = (BackendName::try_from(name), home) {
        if !snapshot.regions.iter().any(|region| region.name == home) {
            snapshot.regions.push(RegionSpec { name: home.clone(), neighbours: Vec::new() });
        }
        let url = format!("http://{address}");
        snapshot.backends.push(BackendSpec::new(name, kind, url, home));
    }
}

fn cannot_start(error: &StartError) -> ExitCode {
    output::err(&format!("error: {error}"));
    match error {
        StartError::Listen { address, source } => {
            let next = match source.kind() {
                io::ErrorKind::AddrInUse => format!(
                    "another process has port {}; stop it, or choose another address with \
                     `listen` in the file or FOREBAY_LISTEN / FOREBAY_OPS_LISTEN",
                    address.port()
                ),
                io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need a privilege; choose a higher one".to_owned()
                }
                _ => "check that the address belongs to this host".to_owned(),
            };
            output::err(&format!("help: {next}"));
            ExitCode::FAILURE
        }
        StartError::Build(_) | StartError::Tls(_) => ExitCode::from(EXIT_CONFIG),
        StartError::System(_) | StartError::Metrics(_) | StartError::Stopping => ExitCode::FAILURE,
    }
}

/// Says what was found on this host, and how a first request looks.
fn advise(data_plane: &DataPlane, config: &Config, found: &[(&'static str, bool)]) {
    for ((name, up), (_, _, port)) in found.iter().zip(LOCAL) {
        let state = if *up { "found" } else { "not there yet" };
        output::out(&format!("{name} (127.0.0.1:{port}): {state}"));
    }
    if found.iter().all(|(_, up)| !up) {
        output::out(
            "no inference server was found: start Ollama (`ollama serve`) or vLLM and it is picked \
             up by itself, or name your servers in a file (`forebay serve --config FILE`, see \
             config/examples)",
        );
    }
    let base = format!("{}://{}", scheme(config), data_plane.public_addr());
    output::out(&format!(
        "try: curl {base}/v1/models\n     curl {base}/v1/chat/completions \
         -H 'content-type: application/json' \\\n       -d '{{\"model\": \"NAME\", \"messages\": \
         [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'"
    ));
}

/// What the process is told from outside, and the runtime that hears it.
struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let hangup = signal(SignalKind::hangup())?;
        drop(entered);
        Ok(Self { runtime, terminate, interrupt, hangup })
    }

    /// Waits for a signal, then lets running answers finish: grace, drain, error events. A second signal ends at once;
    /// SIGHUP reloads.
    fn serve(&mut self, data_plane: &DataPlane, reload: Option<&Trigger>) {
        let Self { runtime, terminate, interrupt, hangup } = self;
        runtime.block_on(async {
            let mut next = async || loop {
                tokio::select! {
                    _ = terminate.recv() => return,
                    _ = interrupt.recv() => return,
                    _ = hangup.recv() => reload.map_or((), Trigger::reload),
                }
            };
            next().await;
            tokio::select! {
                () = wind_down(data_plane, data_plane.drain()) => {}
                () = next() => tracing::warn!("a second signal: stopping at once"),
            }
        });
    }
}

async fn wind_down(data_plane: &DataPlane, drain: DrainSettings) {
    notify("STOPPING=1");
    tracing::info!(grace = ?drain.grace, "stopping: not ready any more, still accepting; a second signal stops at once");
    data_plane.advance(Phase::Grace);
    tokio::time::sleep(drain.grace).await;
    tracing::info!(timeout = ?drain.timeout, "stopping: running answers may finish");
    data_plane.advance(Phase::Draining);
    let plane = Arc::clone(data_plane.plane());
    if !drained(&plane, drain.timeout).await {
        tracing::warn!("stopping: answers that still run end in an error");
        data_plane.advance(Phase::Aborting);
        drained(&plane, ABORT_LIMIT).await;
    }
    tracing::info!("stopped");
}

/// Looks until the last connection is gone, at most `limit`.
async fn drained(plane: &gateway::Plane, limit: Duration) -> bool {
    let all_gone = async {
        while plane.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(limit, all_gone).await.is_ok()
}
