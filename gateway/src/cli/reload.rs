//! Reloading: a changed file or SIGHUP becomes a new configuration, all of it or nothing of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use std::{io, thread};

use admin::registry::{Applied, Base, Registry, RegistryError};
use config::{
    Config, LastGood, Loaded, LogLevel, ProcessEnvironment, Report, Style, WatchOptions, Watcher,
};
use gateway::{DataPlane, StartError};
use router::planes::Publish;

use super::logging::LogHandle;
use super::relisten::Relisten;
use super::serve;
use super::settings::{settings, snapshot};

/// How long somebody waits to hear what came of a reload.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came of a reload: what is in force now, or in words why everything stays.
type Outcome = Result<Applied, String>;

/// Asks for a reload; asking again before it has begun changes nothing.
#[derive(Clone)]
pub(crate) struct Trigger(SyncSender<Option<SyncSender<Outcome>>>);

impl Trigger {
    pub(crate) fn reload(&self) {
        // A full queue already says it.
        let _ = self.0.try_send(None);
    }

    /// For whoever wants to know what came of it.
    pub(crate) fn for_api(&self) -> admin::api::Reload {
        let asked = self.0.clone();
        Arc::new(move || {
            let (reply, told) = sync_channel(1);
            let gone = || "the process is ending".to_owned();
            asked.send(Some(reply)).map_err(|_| gone())?;
            told.recv_timeout(PATIENCE).unwrap_or_else(|_| Err(gone()))
        })
    }
}

/// What a reload changes.
pub(crate) struct Target {
    /// `None` = there is none in this process.
    pub(crate) data_plane: Option<Arc<DataPlane>>,
    /// What holds the stored objects; `None` = there are none.
    pub(crate) registry: Option<Registry>,
    /// The admin API here.
    pub(crate) admin: Relisten,
}

/// Why a configuration is not used.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl Target {
    /// Puts a configuration in force, together with what is stored.
    fn apply(&self, loaded: &Loaded) -> Result<Applied, Refused> {
        let config = &loaded.config;
        let mut outcome = Applied::default();
        // Dropped, and so closed again, should the rest be refused.
        let place = self.admin.prepare(&config.admin)?;
        let mut publish = || {
            if let Some(registry) = &self.registry {
                outcome = registry.set_base(Base::of_files(loaded.clone()))?;
            } else if let Some(data_plane) = &self.data_plane {
                let version = data_plane.publish(snapshot(config)).map_err(StartError::Build)?;
                outcome.version = Some(version);
            }
            Ok::<_, Refused>(outcome.version.unwrap_or_default())
        };
        let restart = match &self.data_plane {
            Some(data_plane) => {
                let listen = config.ops.listen;
                data_plane.apply_with(&settings(config), listen, publish)?.needs_restart
            }
            None => publish().map(|_| Vec::new())?,
        };
        outcome.needs_restart.extend(restart);
        outcome.needs_restart.extend(self.admin.finish(place, &config.admin));
        Ok(outcome)
    }
}

/// What a reload needs.
struct Reloader {
    path: PathBuf,
    /// What is watched.
    files: Vec<PathBuf>,
    target: Target,
    log: LogHandle,
    last_good: LastGood,
    /// What cannot change while running is still as this says.
    started: Config,
    /// As the configuration in force says.
    level: LogLevel,
}

/// Watches the files of a configuration and applies what they become.
///
/// # Errors
/// When a thread cannot be made.
pub(crate) fn start(
    path: PathBuf,
    running: Loaded,
    target: Target,
    log: LogHandle,
) -> io::Result<Trigger> {
    let (sender, asked) = sync_channel(1);
    let trigger = Trigger(sender);
    let by_file = trigger.clone();
    let mut files = running.files.clone();
    // A last good configuration was not made from the file, but the file is what gets mended.
    files.push(path.clone());
    let watcher = Watcher::start(files.clone(), WatchOptions::default(), move || by_file.reload())?;
    let last_good = LastGood::beside(&running.config.store.path);
    if changed(&path, &running) {
        trigger.reload();
    } else {
        keep(&last_good, &running);
    }
    let (level, started) = (running.config.log.level, running.config);
    let reloader = Reloader { path, files, target, log, last_good, started, level };
    thread::Builder::new()
        .name("reload".to_owned())
        .spawn(move || reloader.run(&asked, &watcher))?;
    Ok(trigger)
}

/// Whether the files say something else than what runs: they were edited before they were watched, or what runs is the
/// last good configuration.
fn changed(path: &PathBuf, running: &Loaded) -> bool {
    config::load(std::slice::from_ref(path), &ProcessEnvironment)
        .map_or(true, |now| now.sources != running.sources)
}

fn keep(last_good: &LastGood, loaded: &Loaded) {
    if let Err(error) = last_good.save(loaded) {
        tracing::warn!(%error, "the last good configuration cannot be kept");
    }
}

impl Reloader {
    fn run(mut self, asked: &Receiver<Option<SyncSender<Outcome>>>, watcher: &Watcher) {
        while let Ok(reply) = asked.recv() {
            watcher.about_to_read(&self.files);
            let outcome = match config::load(std::slice::from_ref(&self.path), &ProcessEnvironment)
            {
                Ok(loaded) => {
                    self.watch(watcher, loaded.files.clone());
                    self.apply(&loaded)
                }
                Err(report) => {
                    self.watch(watcher, report.files.clone());
                    self.refuse(&report)
                }
            };
            // Whoever asked may have given up.
            if let Some(reply) = reply {
                let _ = reply.try_send(outcome);
            }
        }
    }

    fn watch(&mut self, watcher: &Watcher, files: Vec<PathBuf>) {
        self.files.clone_from(&files);
        watcher.set_files(files);
    }

    fn apply(&mut self, loaded: &Loaded) -> Outcome {
        if let Some(report) = serve::unenforced(loaded) {
            return self.refuse(&report);
        }
        let config = &loaded.config;
        // Before the rest, so that everything is done when the reload counts as done.
        self.log.set_level(config.log.level.as_str());
        match self.target.apply(loaded) {
            Ok(mut applied) => {
                let restart = &mut applied.needs_restart;
                restart.extend(config::needs_restart(&self.started, config));
                restart.sort_unstable();
                restart.dedup();
                tracing::info!(version = applied.version, "configuration reloaded");
                if !restart.is_empty() {
                    tracing::warn!(keys = ?restart, "these changes need a restart");
                }
                for warning in &loaded.warnings {
                    tracing::warn!(code = warning.code.number(), "{}", warning.message);
                }
                keep(&self.last_good, loaded);
                self.level = config.log.level;
                Ok(applied)
            }
            Err(error) => {
                self.log.set_level(self.level.as_str());
                tracing::error!(%error, "the new configuration is not used; the old one stays");
                Err(error.to_string())
            }
        }
    }

    fn refuse(&self, report: &Report) -> Outcome {
        let diagnostics = report.render(Style { color: false });
        if let Some(data_plane) = &self.target.data_plane {
            data_plane.plane().reloads.refused(&diagnostics);
        }
        tracing::error!(%diagnostics, "the new configuration is not used; the old one stays");
        Err(diagnostics)
    }
}
