//! `forebay check` and `forebay config`.

use std::path::PathBuf;
use std::process::ExitCode;

use config::{Loaded, ProcessEnvironment, Report, Style};

use super::{Check, ConfigCommand, EXIT_CONFIG, Format, output};

/// Prints every diagnostic; 0 = valid, 1 = warnings under `--strict`, 78 = errors.
pub(crate) fn run(args: &Check) -> ExitCode {
    let (report, valid) = match config::load(&args.files, &ProcessEnvironment) {
        Ok(loaded) => (loaded.report(), true),
        Err(report) => (report, false),
    };
    match args.format {
        Format::Json => output::out(&report.to_json()),
        Format::Human => {
            let text = report.render(Style { color: output::colour() });
            if !text.is_empty() {
                output::err(&text);
            }
            if valid {
                output::err("the configuration is valid");
            }
        }
    }
    if !valid {
        return ExitCode::from(EXIT_CONFIG);
    }
    ExitCode::from(u8::from(args.strict && !report.diagnostics.is_empty()))
}

/// Loads or prints why not.
pub(crate) fn load(path: &PathBuf) -> Result<Loaded, ExitCode> {
    config::load(std::slice::from_ref(path), &ProcessEnvironment).map_err(|report| refuse(&report))
}

/// Prints all diagnostics of a configuration that cannot be used.
pub(crate) fn refuse(report: &Report) -> ExitCode {
    output::err(&report.render(Style { color: output::colour() }));
    ExitCode::from(EXIT_CONFIG)
}

/// `forebay config show | diff`.
pub(crate) fn config(command: &ConfigCommand) -> ExitCode {
    let printed = match command {
        ConfigCommand::Show { config: path, effective } => show(path.as_ref(), *effective),
        ConfigCommand::Diff { before, after } => load(before)
            .and_then(|before| Ok((before, load(after)?)))
            .map(|(before, after)| config::diff(&before, &after)),
    };
    match printed {
        Ok(text) => {
            output::out(&text);
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

fn show(path: Option<&PathBuf>, effective: bool) -> Result<String, ExitCode> {
    let loaded = match path {
        Some(path) => load(path)?,
        None => config::defaults(&ProcessEnvironment),
    };
    if !effective && path.is_none() {
        return Ok(config::DEFAULT_TOML.to_owned());
    }
    Ok(config::effective(&loaded))
}
