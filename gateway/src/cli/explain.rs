//! `forebay explain`: asks every server of a configuration how it is, and shows the plan of a request that came now.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use config::{Config, KeyConfig};
use gateway::{Surveyed, survey};
use router::Operation;
use router::explain::{ExplainedTier, Explanation, Verdict, explain};
use router::plan::{PlanError, Query};

use super::{Asked, Explain, ask, check, local, output, settings};

/// Prints the plan; 0 when a request would be tried somewhere.
pub(crate) fn run(args: &Explain) -> ExitCode {
    if let Some(url) = &args.admin {
        return ask::run(args, url);
    }
    let loaded = match &args.config {
        Some(path) => check::load(path),
        None => local::load().map_err(|report| check::refuse(&report)),
    };
    let config = match loaded {
        Ok(loaded) => loaded.config,
        Err(code) => return code,
    };
    let key = match key(&config, args.key.as_deref()) {
        Ok(key) => key,
        Err(message) => {
            output::err(&message);
            return ExitCode::FAILURE;
        }
    };
    if let Some(refused) = key.and_then(|key| refused(key, &args.model)) {
        output::err(&refused);
        return ExitCode::FAILURE;
    }
    let timeout = config.snapshot.health.timeout;
    let (world, found) = match survey(config.snapshot.clone(), timeout) {
        Ok(surveyed) => surveyed,
        Err(error) => {
            output::err(&format!("error: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let query = Query {
        model: &args.model,
        operation: operation(args.operation),
        region: args.region.as_deref(),
        key_region: key.and_then(|key| key.region.as_ref()),
        key_regions: key.map(|key| key.regions.as_slice()).filter(|regions| !regions.is_empty()),
        affinity: None,
        repeatable: true,
    };
    output::out(&servers(&found));
    match explain(&world.load(), &query, std::time::Instant::now()) {
        Ok(explanation) => {
            output::out(&route(&explanation));
            let served = explanation.refused.is_none() && explanation.exhausted.is_none();
            ExitCode::from(u8::from(!served))
        }
        Err(error) => {
            let snapshot = world.load();
            let declared = snapshot.public_models().iter();
            let names = declared.flat_map(|model| {
                std::iter::once(&model.name).chain(&model.spec.aliases).map(|name| name.as_str())
            });
            output::err(&unknown(&error, &args.model, config::nearest(&args.model, names)));
            ExitCode::FAILURE
        }
    }
}

pub(super) const fn operation(asked: Asked) -> Operation {
    match asked {
        Asked::Chat => Operation::ChatCompletions,
        Asked::Completions => Operation::Completions,
        Asked::Embeddings => Operation::Embeddings,
    }
}

fn key<'c>(config: &'c Config, name: Option<&str>) -> Result<Option<&'c KeyConfig>, String> {
    let Some(name) = name else { return Ok(None) };
    let found = config.keys.iter().find(|key| key.name.as_str() == name);
    found.map(Some).ok_or_else(|| format!("error: no [[key]] is called {name:?}"))
}

/// Why a key comes to no plan at all.
fn refused(key: &KeyConfig, model: &str) -> Option<String> {
    let spec = settings::key(key)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if !spec.is_valid(now) {
        return Some(format!("401: the key {} is disabled or has expired", key.name));
    }
    (!spec.allows_model(model)).then(|| format!("403: the key {} may not use {model:?}", key.name))
}

fn unknown(error: &PlanError, model: &str, near: Option<&str>) -> String {
    match error {
        PlanError::UnknownRegion { known } => {
            let known: Vec<_> = known.iter().map(ToString::to_string).collect();
            format!("unknown region; known: {}", known.join(", "))
        }
        _ => {
            let near =
                near.map(|near| format!("\nhelp: did you mean {near:?}?")).unwrap_or_default();
            format!("{model:?}: no [[model]] has this name or alias, and no server lists it{near}")
        }
    }
}

/// What each server was found to be, a line each.
pub(super) fn servers(found: &[Surveyed]) -> String {
    let mut text = String::from("servers, asked just now\n");
    for server in found {
        let models = match &server.models {
            Ok(count) => format!("{count} models"),
            Err(reason) => format!("no model list: {reason}"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  {}: {:?} in {:.1} ms, {models}",
            server.backend,
            server.health,
            server.elapsed.as_secs_f64() * 1e3
        );
    }
    text
}

fn route(explanation: &Explanation) -> String {
    let mut text = format!("\nmodel {}", explanation.model);
    if let Some(home) = &explanation.home {
        let _ = write!(text, ", home region {home}");
    }
    if let Some(allowed) = &explanation.allowed {
        let allowed: Vec<_> = allowed.iter().map(ToString::to_string).collect();
        let _ = write!(text, ", only in {}", allowed.join(", "));
    }
    for (number, tier) in explanation.tiers.iter().enumerate() {
        text.push_str(&one_tier(number + 1, tier));
    }
    if let Some(refused) = &explanation.refused {
        let _ = write!(text, "\n\nrefused: {refused}");
    }
    if let Some(exhausted) = &explanation.exhausted {
        let _ = write!(text, "\n\nno candidate now: {:?}", exhausted.reason);
    }
    if let Some(longest) = explanation.would_wait {
        let _ = write!(text, "\nwould wait for one, {} s at most", longest.as_secs_f64());
    }
    text
}

fn one_tier(number: usize, tier: &ExplainedTier) -> String {
    let head = tier.head.as_ref().map_or("all that serve it".to_owned(), |head| format!("{head}"));
    let mut text = format!(
        "\n\n{number}. {} in {}, head: {head}, policy: {}",
        tier.model, tier.region, tier.policy
    );
    if let Some(blocked) = tier.blocked {
        let _ = write!(text, " - not used: {}", blocked.as_str());
    }
    if matches!(tier.policy, "prefix_hash" | "session") {
        text.push_str(
            "\n   (no prompt or session is known here, so the order is that of least_load)",
        );
    }
    for candidate in &tier.candidates {
        let verdict = match candidate.verdict {
            Verdict::Attempt(n) => format!("attempt {n}"),
            Verdict::Spare => "spare".to_owned(),
            Verdict::PassedOver(reason) => format!("passed over: {}", reason.as_str()),
        };
        let _ = write!(text, "\n   {}: {verdict}", candidate.backend);
        if let Some(name) = &candidate.upstream_model {
            let _ = write!(text, ", as {name}");
        }
        if let Some(score) = candidate.score {
            let _ = write!(text, ", score {score:.3}");
        }
        if candidate.cold {
            text.push_str(", has to be loaded");
        }
        if candidate.trial {
            text.push_str(", as a trial");
        }
    }
    text
}
