//! Reloading: a changed file or SIGHUP becomes a new configuration, all of it or nothing of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::{io, thread};

use config::{LastGood, Loaded, ProcessEnvironment, Report, Style, WatchOptions, Watcher};
use gateway::DataPlane;

use super::logging::LogHandle;
use super::serve;
use super::settings::settings;

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
    data_plane: Arc<DataPlane>,
    log: LogHandle,
    last_good: LastGood,
    running: Loaded,
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
    let watcher = Watcher::start(running.files.clone(), WatchOptions::default(), move || {
        by_file.reload();
    })?;
    let last_good = LastGood::beside(&running.config.store.path);
    keep(&last_good, &running);
    let reloader = Reloader { path, data_plane, log, last_good, running };
    thread::Builder::new()
        .name("reload".to_owned())
        .spawn(move || reloader.run(&asked, &watcher))?;
    Ok(trigger)
}

fn keep(last_good: &LastGood, loaded: &Loaded) {
    if let Err(error) = last_good.save(loaded) {
        tracing::warn!(%error, "the last good configuration cannot be kept");
    }
}

impl Reloader {
    fn run(mut self, asked: &Receiver<()>, watcher: &Watcher) {
        while asked.recv().is_ok() {
            let counters = Arc::clone(&self.data_plane.plane().counters);
            match config::load(std::slice::from_ref(&self.path), &ProcessEnvironment) {
                Ok(loaded) => {
                    watcher.set_files(loaded.files.clone());
                    counters.reloaded(self.apply(loaded));
                }
                Err(report) => {
                    watcher.set_files(report.files.clone());
                    refuse(&report);
                    counters.reloaded(false);
                }
            }
        }
    }

    /// True when the new configuration is in force.
    fn apply(&mut self, loaded: Loaded) -> bool {
        if let Some(report) = serve::unenforced(&loaded) {
            refuse(&report);
            return false;
        }
        let config = &loaded.config;
        let applied =
            self.data_plane.apply(&settings(config), config.ops.listen, config.snapshot.clone());
        match applied {
            Ok(applied) => {
                self.log.set_level(config.log.level.as_str());
                let restart = config::needs_restart(&self.running.config, config);
                tracing::info!(version = applied.version, "configuration reloaded");
                if !restart.is_empty() {
                    tracing::warn!(keys = ?restart, "these changes need a restart");
                }
                for warning in &loaded.warnings {
                    tracing::warn!(code = warning.code.number(), "{}", warning.message);
                }
                keep(&self.last_good, &loaded);
                self.running = loaded;
                true
            }
            Err(error) => {
                tracing::error!(%error, "the new configuration is not used; the old one stays");
                false
            }
        }
    }
}

fn refuse(report: &Report) {
    let diagnostics = report.render(Style { color: false });
    tracing::error!(%diagnostics, "the new configuration is not used; the old one stays");
}
