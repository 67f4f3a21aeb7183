//! From the typed tree to a [`Config`]: what single values cannot know about each other.

mod auth;
mod located;
mod models;
mod names;
mod objects;
mod process;
mod residency;

use std::path::PathBuf;

use router::spec::{Policy, SessionSource, SnapshotSpec, TimeoutOverrides, Timeouts};

use crate::diagnostic::{Code, Diagnostic, Place, SourceText};
use crate::environment::Environment;
use crate::load::DEFAULT_SOURCE;
use crate::settings::Config;
use crate::tree::Table;

use names::Names;

/// What stands in for a region where none is named anywhere.
pub(crate) const LOCAL_REGION: &str = "local";

/// Everything that compiling reads and writes.
struct Compiler<'a> {
    tree: &'a Table,
    names: Names<'a>,
    env: &'a dyn Environment,
    out: &'a mut Vec<Diagnostic>,
    files: &'a mut Vec<PathBuf>,
}

/// The configuration that a tree describes. With errors in `out` the result is incomplete and must not be used.
pub(crate) fn compile(
    tree: &Table,
    sources: &[SourceText],
    env: &dyn Environment,
    out: &mut Vec<Diagnostic>,
    files: &mut Vec<PathBuf>,
) -> Option<Config> {
    let names = Names::collect(tree, sources, out);
    let mut compiler = Compiler { tree, names, env, out, files };
    let mut config = Config::default();
    compiler.process(&mut config);
    config.snapshot = compiler.snapshot()?;
    compiler.models_beside(&mut config);
    compiler.auth(&mut config);
    compiler.residency(&mut config);
    compiler.unbuildable(&config.snapshot);
    Some(config)
}

impl Compiler<'_> {
    fn error(&mut self, code: Code, place: Place, message: impl Into<String>) {
        self.out.push(Diagnostic::error(code, place, message));
    }

    /// A number that cannot be larger than another one.
    fn ordered<T: PartialOrd>(&mut self, table: &Table, small: &(&str, T), large: &(&str, T)) {
        if small.1 > large.1 {
            let message = format!("`{}` is larger than `{}`", small.0, large.0);
            let (small, large) = (table.place_of(small.0), table.place_of(large.0));
            self.out.push(between(Code::Conflict, small, large, message));
        }
    }

    fn snapshot(&mut self) -> Option<SnapshotSpec> {
        let mut spec = SnapshotSpec::default();
        let tree = self.tree;
        self.regions(&mut spec);
        spec.backends = self.backends();
        spec.heads = self.heads(&spec.backends);
        spec.models = self.models();
        spec.policy = self.policy(tree).unwrap_or_default();
        if let Some(table) = tree.table("timeouts") {
            spec.timeouts = global_timeouts(table);
        }
        self.tuning(&mut spec);
        self.service(&mut spec);
        Some(spec)
    }

    /// The policy that a table names together with its session header.
    fn policy(&mut self, table: &Table) -> Option<Policy> {
        let header = table.text("session_header");
        let policy = match table.text("policy") {
            Some("least_load") => Some(Policy::LeastLoad),
            Some("round_robin") => Some(Policy::RoundRobin),
            Some("prefix_hash") => Some(Policy::PrefixHash),
            Some("session") => Some(Policy::Session(match header {
                Some(header) => SessionSource::Header(header.to_owned()),
                None => SessionSource::User,
            })),
            _ => None,
        };
        if header.is_some() && !matches!(policy, Some(Policy::Session(_))) {
            let place = table.place_of("session_header");
            let message = "`session_header` has no effect without `policy = \"session\"`";
            self.out.push(Diagnostic::warning(Code::Unused, place, message));
        }
        policy
    }

    fn tuning(&mut self, spec: &mut SnapshotSpec) {
        let tree = self.tree;
        tree.fill("max_attempts", &mut spec.retry.max_attempts);
        tree.fill("slow_start", &mut spec.health.slow_start);
        if let Some(table) = tree.table("retry") {
            table.fill("max_attempts_chain", &mut spec.retry.max_attempts_chain);
            table.fill("budget_ratio", &mut spec.retry.budget_ratio);
            table.fill("budget_per_second", &mut spec.retry.budget_per_second);
            let (own, chain) = (spec.retry.max_attempts, spec.retry.max_attempts_chain);
            if own > chain {
                let message =
                    format!("`max_attempts` is {own}, but the whole chain has only {chain}");
                self.out.push(
                    Diagnostic::error(Code::Conflict, tree.place_of("max_attempts"), message)
                        .help("raise retry.max_attempts_chain"),
                );
            }
        }
        if let Some(table) = tree.table("breaker") {
            let breaker = &mut spec.breaker;
            table.fill("consecutive_failures", &mut breaker.consecutive_failures);
            table.fill("success_rate", &mut breaker.success_rate);
            table.fill("min_requests", &mut breaker.min_requests);
            table.fill("window", &mut breaker.window);
            table.fill("open_min", &mut breaker.open_min);
            table.fill("open_max", &mut breaker.open_max);
            let (min, max) = (breaker.open_min, breaker.open_max);
            self.ordered(table, &("open_min", min), &("open_max", max));
        }
        if let Some(table) = tree.table("health") {
            let health = &mut spec.health;
            table.fill("interval", &mut health.interval);
            table.fill("timeout", &mut health.timeout);
            table.fill("up", &mut health.up);
            table.fill("down", &mut health.down);
            table.fill("open_probe_min", &mut health.open_probe_min);
            table.fill("open_probe_max", &mut health.open_probe_max);
            let (min, max) = (health.open_probe_min, health.open_probe_max);
            self.ordered(table, &("open_probe_min", min), &("open_probe_max", max));
        }
        if let Some(table) = tree.table("discovery") {
            table.fill("expose", &mut spec.discovery.expose);
            table.fill("interval", &mut spec.discovery.interval);
        }
    }

    fn service(&mut self, spec: &mut SnapshotSpec) {
        let tree = self.tree;
        let service = &mut spec.service;
        tree.fill("head_hold", &mut service.head_hold);
        tree.fill("keep_alive", &mut service.keep_alive);
        let Some(server) = tree.table("server") else { return };
        server.fill("max_body", &mut service.max_body);
        server.fill("buffered_bytes", &mut service.buffered_bytes);
        server.fill("expose_headers", &mut service.expose_headers);
        server.fill("map_max_completion_tokens", &mut service.map_max_completion_tokens);
        service.forward_headers = texts(server, "forward_headers");
        if let Some(cors) = server.table("cors") {
            service.cors_origins = texts(cors, "origins");
        }
        if let Some(limits) = server.table("limits") {
            limits.fill("json_depth", &mut service.json_depth);
            limits.fill("body_timeout", &mut service.body_timeout);
            limits.fill("body_rate", &mut service.body_rate_min);
            limits.fill("write_timeout", &mut service.write_timeout);
            limits.fill("event_hold", &mut service.event_hold);
            limits.fill("retry_after", &mut service.retry_after_max);
            limits.fill("upstream_idle", &mut service.upstream_idle);
        }
        let (body, all) = (service.max_body, service.buffered_bytes);
        self.ordered(server, &("max_body", body), &("buffered_bytes", all));
        self.origins();
    }

    fn origins(&mut self) {
        let tree = self.tree;
        let cors = tree.table("server").and_then(|server| server.table("cors"));
        for node in cors.map(|cors| cors.list("origins")).unwrap_or_default() {
            let origin = node.text().unwrap_or("*");
            let good = origin.split_once("://").is_some_and(|(scheme, host)| {
                !scheme.is_empty() && !host.is_empty() && !host.contains('/')
            });
            if origin != "*" && !good {
                let message = "an origin is \"*\" or SCHEME://HOST[:PORT] without a path";
                self.error(Code::WrongValue, node.place.clone(), message);
            }
        }
    }
}

/// A conflict of two places; the one that the operator wrote is the one to look at.
fn between(code: Code, mut one: Place, mut other: Place, message: String) -> Diagnostic {
    if one.source == DEFAULT_SOURCE {
        std::mem::swap(&mut one, &mut other);
    }
    Diagnostic::error(code, one, message).related(other, "the other one")
}

fn global_timeouts(table: &Table) -> Timeouts {
    let mut timeouts = Timeouts::default().with(&timeout_overrides(Some(table)));
    table.fill("total", &mut timeouts.total);
    timeouts
}

/// The deadlines that a table sets itself.
fn timeout_overrides(table: Option<&Table>) -> TimeoutOverrides {
    let Some(table) = table else { return TimeoutOverrides::default() };
    TimeoutOverrides {
        connect: table.read("connect"),
        first_event: table.read("first_event"),
        load: table.read("load"),
        idle: table.read("idle"),
        response: table.read("response"),
        total: table.read("total"),
    }
}

/// The texts of a list.
fn texts(table: &Table, key: &str) -> Vec<String> {
    table.list(key).iter().filter_map(|node| node.text().map(str::to_owned)).collect()
}
