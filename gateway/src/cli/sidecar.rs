//! `forebay admin`: the admin API alone, beside data planes that follow the same store.

use std::process::ExitCode;
use std::sync::Arc;

use admin::live::{Folder, Sidecar};
use admin::registry::Base;
use admin::store::Role;

use super::notify::notify;
use super::relisten::Relisten;
use super::signals::Signals;
use super::{Admin, check, control, output, reload, serve};

/// Serves the API until a signal.
pub(crate) fn run(args: &Admin) -> ExitCode {
    let loaded = match check::load(&args.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let log = serve::start_log(&loaded.config);
    let config = loaded.config.clone();
    let listener = match control::listen(&config.admin) {
        Ok(listener) => listener,
        Err(code) => return code,
    };
    let registry = match control::open(Base::of_files(loaded.clone()), Role::Writer, None) {
        Ok(registry) => registry,
        Err(code) => return code,
    };
    let started = || {
        let mut signals = Signals::new()?;
        control::follow(&registry, &config, Role::Writer)?;
        let relisten = Relisten::default();
        let starting = relisten.starting();
        let target = reload::Target {
            data_plane: None,
            registry: Some(registry.clone()),
            admin: relisten.clone(),
        };
        let trigger = reload::start(args.config.clone(), loaded, target, log)?;
        let planes = Arc::new(Sidecar::new(Folder::beside(&config.store.path)));
        let api = control::Api::start(
            listener,
            &registry,
            planes,
            &config.admin,
            Some(trigger.for_api()),
        )?;
        starting.runs(api.remote(), config.admin.listen);
        notify("READY=1");
        signals.wait(&trigger);
        api.end();
        Ok(())
    };
    let ended: std::io::Result<()> = started();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::err(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}
