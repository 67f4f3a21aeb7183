//! `forebay check` and `forebay config`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use config::{Loaded, ProcessEnvironment, Report, Style};
use gateway::{SurveyError, Surveyed};
use router::health::ProbeResult;
use serde_json::{Value, json};

use super::{Check, ConfigCommand, EXIT_CONFIG, Format, explain, output, serve};

/// Prints every diagnostic; 0 = valid, 1 = warnings under `--strict`, 78 = errors.
pub(crate) fn run(args: &Check) -> ExitCode {
    let mut found = Vec::new();
    let loaded = config::load(&args.files, &ProcessEnvironment);
    let unenforced = loaded.as_ref().ok().and_then(serve::unenforced);
    let (report, valid) = match loaded {
        Ok(loaded) if args.online => match survey(&loaded) {
            Ok((servers, report)) => {
                found = servers;
                (report, true)
            }
            Err(error) => {
                output::err(&format!("error: {error}"));
                return ExitCode::FAILURE;
            }
        },
        Ok(loaded) => (loaded.report(), true),
        Err(report) => (report, false),
    };
    match args.format {
        Format::Json => output::out(&json(&report, args.online.then_some(&*found))),
        Format::Human => {
            if !found.is_empty() {
                output::out(&explain::servers(&found));
            }
            let text = report.render(Style { color: output::colour() });
            if !text.is_empty() {
                output::err(&text);
            }
            if valid {
                output::err("the configuration is valid");
            }
            let refused = unenforced.iter().flat_map(|report| &report.diagnostics);
            let refused: BTreeSet<&str> = refused.map(|one| one.message.as_str()).collect();
            for message in refused {
                output::err(&format!("but `serve` refuses it: {message}"));
            }
        }
    }
    if !valid {
        return ExitCode::from(EXIT_CONFIG);
    }
    ExitCode::from(u8::from(args.strict && !report.diagnostics.is_empty()))
}

/// Asks every backend how it is; those that are unwell are warnings.
fn survey(loaded: &Loaded) -> Result<(Vec<Surveyed>, Report), SurveyError> {
    let spec = &loaded.config.snapshot;
    let (_, found) = gateway::survey(spec.clone(), spec.health.timeout)?;
    let mut warnings = loaded.warnings.clone();
    for server in &found {
        let name = &server.backend;
        let message = match server.health {
            ProbeResult::Passed => continue,
            ProbeResult::Asleep => format!("the backend {name:?} is asleep"),
            ProbeResult::Unauthorized => format!("the backend {name:?} refuses its credential"),
            ProbeResult::TimedOut => {
                format!("the backend {name:?} does not answer within {:?}", spec.health.timeout)
            }
            ProbeResult::Failed => format!("the backend {name:?} cannot be reached or is not well"),
        };
        warnings.push(loaded.unwell(name, message));
    }
    Ok((found, loaded.report_of(warnings)))
}

const fn health(result: ProbeResult) -> &'static str {
    match result {
        ProbeResult::Passed => "passed",
        ProbeResult::Asleep => "asleep",
        ProbeResult::Unauthorized => "unauthorized",
        ProbeResult::TimedOut => "timed_out",
        ProbeResult::Failed => "failed",
    }
}

fn json(report: &Report, found: Option<&[Surveyed]>) -> String {
    let text = report.to_json();
    let (Some(found), Ok(mut document)) = (found, serde_json::from_str::<Value>(&text)) else {
        return text;
    };
    let one = |server: &Surveyed| {
        json!({
            "name": server.backend,
            "health": health(server.health),
            "models": server.models.as_ref().ok(),
            "reason": server.models.as_ref().err(),
            "ms": server.elapsed.as_secs_f64() * 1e3,
        })
    };
    document["backends"] = found.iter().map(one).collect();
    document.to_string()
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
            .map(|(before, after)| config::diff(&before, &after))
            .map(|text| if text.is_empty() { "no difference".to_owned() } else { text }),
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
