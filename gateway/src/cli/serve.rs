//! `forebay serve`: the data plane from a configuration, until a signal ends it.

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use admin::registry::{Base, Registry};
use admin::store::Role;
use config::{
    AdminMode, Config, Diagnostic, LastGood, Loaded, LogFormat, ProcessEnvironment, Report,
    RestrictionKind,
};
use gateway::{DataPlane, StartError};

use super::logging::{self, LogHandle};
use super::notify::notify;
use super::publisher::Publisher;
use super::relisten::Relisten;
use super::reload::{self, Trigger};
use super::settings::{settings, snapshot};
use super::signals::Signals;
use super::{EXIT_CONFIG, Serve, check, control, local, output};

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

/// How long the last log lines may take.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(args: &Serve) -> ExitCode {
    let loaded = match load(args) {
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
    match &args.config {
        Some(path) => serve(Base::of_files(loaded), Some((path.clone(), log)), |_, _| ()),
        None => serve(Base::builtin(loaded), None, local::advise),
    }
}

fn load(args: &Serve) -> Result<Loaded, ExitCode> {
    let read = match &args.config {
        Some(path) => config::load(std::slice::from_ref(path), &ProcessEnvironment),
        None => local::load(),
    };
    let report = match read {
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

/// Starts the data plane and, unless it is elsewhere or off, the control plane beside it; says where they listen, and
/// stays until a signal. With a path, the files are watched. `started` may say more.
pub(crate) fn serve(
    base: Base,
    watched: Option<(PathBuf, LogHandle)>,
    started: impl FnOnce(&DataPlane, &Config),
) -> ExitCode {
    // Before anything else: a signal that came while starting would end the process without a word.
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return cannot_start(&StartError::System(error)),
    };
    let process = match Process::start(base) {
        Ok(process) => process,
        Err(code) => return code,
    };
    let log = Arc::clone(&process.data_plane.plane().log);
    let ended = process.run(watched, started, &mut signals);
    log.flush(FLUSH_LIMIT);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::err(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// A serving process.
struct Process {
    loaded: Loaded,
    data_plane: Arc<DataPlane>,
    /// With its role in the store; `None` = no store is used.
    registry: Option<(Registry, Role)>,
    admin: Option<TcpListener>,
}

impl Process {
    fn start(base: Base) -> Result<Self, ExitCode> {
        let loaded = base.loaded.clone();
        let config = &loaded.config;
        let embedded = config.admin.mode == AdminMode::Embedded;
        let admin = embedded.then(|| control::listen(&config.admin)).transpose()?;
        let publisher = Arc::new(Publisher::default());
        let registry = match control::role(config.admin.mode) {
            Some(role) => {
                let publish = Arc::clone(&publisher) as _;
                Some((control::open(base, role, Some(publish))?, role))
            }
            None => None,
        };
        let spec = publisher.first().unwrap_or_else(|| snapshot(config));
        let data_plane = DataPlane::start(&settings(config), config.ops.listen, spec)
            .map(Arc::new)
            .map_err(|error| cannot_start(&error))?;
        publisher.run(&data_plane);
        output::out(&format!("listening on {}://{}", scheme(config), data_plane.public_addr()));
        output::out(&format!("ops on http://{}", data_plane.ops_addr()));
        Ok(Self { loaded, data_plane, registry, admin })
    }

    fn run(
        self,
        watched: Option<(PathBuf, LogHandle)>,
        started: impl FnOnce(&DataPlane, &Config),
        signals: &mut Signals,
    ) -> io::Result<()> {
        let Self { loaded, data_plane, registry, admin } = self;
        let config = loaded.config.clone();
        if let Some((registry, role)) = &registry {
            control::follow(registry, &config, *role)?;
        }
        let registry = registry.map(|(registry, _)| registry);
        let relisten = Relisten::default();
        let starting = relisten.starting();
        let target = reload::Target {
            data_plane: Some(Arc::clone(&data_plane)),
            registry: registry.clone(),
            admin: relisten.clone(),
        };
        let reload =
            watched.map(|(path, log)| reload::start(path, loaded, target, log)).transpose()?;
        // Not to be dropped: other processes see this data plane through it.
        let mut socket = None;
        let mut api = None;
        match (&registry, admin) {
            (Some(registry), Some(listener)) => {
                let planes = control::embedded(&data_plane, &config);
                let asked = reload.as_ref().map(Trigger::for_api);
                let here = control::Api::start(listener, registry, planes, &config.admin, asked)?;
                starting.runs(here.remote(), config.admin.listen);
                api = Some(here);
            }
            (Some(_), None) => {
                drop(starting);
                socket = control::planes(&data_plane, &config).1;
            }
            (None, _) => drop(starting),
        }
        started(&data_plane, &config);
        notify("READY=1");
        signals.serve(&data_plane, reload.as_ref());
        // Last: whoever watches the end sees it to its end.
        if let Some(api) = api {
            api.end();
        }
        drop(socket);
        Ok(())
    }
}

pub(crate) const fn scheme(config: &Config) -> &'static str {
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
