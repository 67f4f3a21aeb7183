//! Reloading: a changed file or SIGHUP becomes a new configuration, all of it or nothing of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::{io, thread};

use config::{
    Config, LastGood, Loaded, LogLevel, ProcessEnvironment, Report, Style, WatchOptions, Watcher,
};
use gateway::DataPlane;

use super::logging::LogHandle;
use super::serve;
use super::settings::{settings, snapshot};

/// Asks for a reload; asking again before it has begun changes nothing.
#[derive(Clone)]
pub(crate) struct Trigger(SyncSender<()>);

impl Trigger {
    pub(crate) fn reload(&self) {
        // A full queue already says it.
        let _ = self.0.try_send(());
    }
}

/// What a reload needs.
struct Reloader {
    path: PathBuf,
    /// What is watched.
    files: Vec<PathBuf>,
    data_plane: Arc<DataPlane>,
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
    data_plane: Arc<DataPlane>,
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
    let reloader = Reloader { path, files, data_plane, log, last_good, started, level };
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
    fn run(mut self, asked: &Receiver<()>, watcher: &Watcher) {
        while asked.recv().is_ok() {
            watcher.about_to_read(&self.files);
            match config::load(std::slice::from_ref(&self.path), &ProcessEnvironment) {
                Ok(loaded) => {
                    self.watch(watcher, loaded.files.clone());
                    self.apply(&loaded);
                }
                Err(report) => {
                    self.watch(watcher, report.files.clone());
                    self.refuse(&report);
                }
            }
        }
    }

    fn watch(&mut self, watcher: &Watcher, files: Vec<PathBuf>) {
        self.files.clone_from(&files);
        watcher.set_files(files);
    }

    fn apply(&mut self, loaded: &Loaded) {
        if let Some(report) = serve::unenforced(loaded) {
            self.refuse(&report);
            return;
        }
        let config = &loaded.config;
        // Before the rest, so that everything is done when the reload counts as done.
        self.log.set_level(config.log.level.as_str());
        let applied = self.data_plane.apply(&settings(config), config.ops.listen, snapshot(config));
        match applied {
            Ok(applied) => {
                let mut restart = config::needs_restart(&self.started, config);
                restart.extend(applied.needs_restart);
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
            }
            Err(error) => {
                self.log.set_level(self.level.as_str());
                tracing::error!(%error, "the new configuration is not used; the old one stays");
            }
        }
    }

    fn refuse(&self, report: &Report) {
        let diagnostics = report.render(Style { color: false });
        self.data_plane.plane().reloads.refused(&diagnostics);
        tracing::error!(%diagnostics, "the new configuration is not used; the old one stays");
    }
}
