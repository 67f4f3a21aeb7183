//! Models, and their chains of fallbacks.

use std::collections::BTreeMap;

use router::ModelName;
use router::spec::{DeploymentSpec, ModelSpec, Residency};

use super::names::Referee;
use super::objects::{name, text_map};
use super::process::{cache_scope, cache_when, region, secret};
use super::{Compiler, timeout_overrides};
use crate::diagnostic::{Code, Diagnostic};
use crate::settings::{Config, ModelCache, ModelConfig};
use crate::tree::{Entry, Node, Table, Value};

impl Compiler<'_> {
    /// Every model.
    pub(super) fn models(&mut self) -> Vec<ModelSpec> {
        let tree = self.tree;
        let models = tree.tables("model").filter_map(|table| self.model(table)).collect();
        self.loops("fallbacks");
        self.loops("context_fallback");
        models
    }

    fn model(&mut self, table: &Table) -> Option<ModelSpec> {
        for key in ["region", "priority_head", "context_fallback"] {
            let Some(node) = table.get(key) else { continue };
            self.refers(
                match key {
                    "region" => Referee::Region,
                    "priority_head" => Referee::Head,
                    _ => Referee::Model,
                },
                node,
            );
        }
        let regions = self.refer_all(Referee::Region, table.list("regions"));
        let heads = self.refer_all(Referee::Head, table.list("heads"));
        let fallbacks = self.refer_all(Referee::Model, table.list("fallbacks"));
        let deployments = self.deployments(table);
        let policy = self.policy(table);
        let mut spec = ModelSpec::new(name::<ModelName>(table, "name")?);
        let aliases = table.list("aliases").iter();
        spec.aliases = aliases.filter_map(|node| ModelName::try_from(node.text()?).ok()).collect();
        spec.aliases.retain(|alias| *alias != spec.name);
        spec.region = region(table, "region");
        spec.regions = regions;
        spec.heads = heads;
        spec.priority_head = name(table, "priority_head");
        spec.fallbacks = fallbacks;
        spec.upstream_model = name(table, "upstream_model");
        spec.deployments = deployments;
        spec.policy = policy;
        spec.timeouts = timeout_overrides(table.table("timeouts"));
        spec.context_fallback = name(table, "context_fallback");
        spec.context_length = table.read("context_length");
        table.fill("local_inference", &mut spec.local_inference);
        if table.text("residency") == Some("strict") {
            spec.residency = Residency::Strict;
        }
        Some(spec)
    }

    fn deployments(&mut self, table: &Table) -> Vec<DeploymentSpec> {
        let Some(map) = table.table("deployments") else { return Vec::new() };
        map.entries.iter().filter_map(|(backend, entry)| self.deployment(backend, entry)).collect()
    }

    fn deployment(&mut self, backend: &str, entry: &Entry) -> Option<DeploymentSpec> {
        let value = Value::Text(backend.to_owned());
        let reference = Node { place: entry.key.clone(), raw: None, value };
        if !self.refers(Referee::Backend, &reference) {
            return None;
        }
        let backend = backend.try_into().ok()?;
        Some(match &entry.node.value {
            Value::Table(table) => DeploymentSpec {
                backend,
                upstream_model: name(table, "upstream_model"),
                weight: table.read("weight"),
                api_key: secret(table, "api_key"),
            },
            _ => DeploymentSpec {
                backend,
                upstream_model: entry.node.text().and_then(|text| text.try_into().ok()),
                weight: None,
                api_key: None,
            },
        })
    }

    /// Reports each circle of fallbacks once, at the reference that closes it.
    fn loops(&mut self, key: &str) {
        let tree = self.tree;
        let mut ids: BTreeMap<&str, usize> = BTreeMap::new();
        let tables: Vec<&Table> = tree.tables("model").collect();
        for (id, table) in tables.iter().enumerate() {
            let aliases = table.list("aliases").iter().filter_map(Node::text);
            for name in table.text("name").into_iter().chain(aliases) {
                ids.entry(name).or_insert(id);
            }
        }
        let edges: Vec<Vec<(usize, &Node)>> = tables
            .iter()
            .map(|table| {
                let one = table.get(key).filter(|node| node.text().is_some());
                let nodes = table.list(key).iter().chain(one);
                nodes.filter_map(|node| Some((*ids.get(node.text()?)?, node))).collect()
            })
            .collect();
        // Depth first without recursion: a file may hold a chain of any length.
        let mut state = vec![Visit::New; tables.len()];
        for start in 0..tables.len() {
            if state[start] != Visit::New {
                continue;
            }
            state[start] = Visit::Open;
            let mut path: Vec<(usize, usize)> = vec![(start, 0)];
            while let Some((at, next)) = path.last_mut() {
                let Some(&(to, node)) = edges[*at].get(*next) else {
                    state[*at] = Visit::Done;
                    path.pop();
                    continue;
                };
                *next += 1;
                match state[to] {
                    Visit::New => {
                        state[to] = Visit::Open;
                        path.push((to, 0));
                    }
                    Visit::Open => {
                        let from = path.iter().position(|(id, _)| *id == to).unwrap_or(0);
                        let names: Vec<&str> = path[from..]
                            .iter()
                            .map(|(id, _)| *id)
                            .chain([to])
                            .map(|id| tables[id].get("name").map_or("?", Node::shown))
                            .collect();
                        let message = format!("`{key}` form a circle: {}", names.join(" -> "));
                        self.out.push(
                            Diagnostic::error(Code::FallbackLoop, node.place.clone(), message)
                                .label("this one closes it"),
                        );
                    }
                    Visit::Done => {}
                }
            }
        }
    }

    /// What models and backends say beside their routing.
    pub(super) fn models_beside(&mut self, config: &mut Config) {
        let tree = self.tree;
        for (kind, tables) in [("backend", tree.list("backend")), ("model", tree.list("model"))] {
            for node in tables {
                let Value::Table(table) = &node.value else { continue };
                let metadata = text_map(table, "metadata");
                if let Some(name) = table.text("name").filter(|_| !metadata.is_empty()) {
                    config.metadata.insert(format!("{kind}.{name}"), metadata);
                }
            }
        }
        for table in tree.tables("model") {
            let Some(name) = name::<ModelName>(table, "name") else { continue };
            let model = ModelConfig {
                cache: cache(table),
                queue_timeout: table.read("queue_timeout"),
                queue_size: table.read("queue_size"),
                max_in_flight: table.read("max_in_flight"),
            };
            if model != ModelConfig::default() {
                config.models.insert(name, model);
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    New,
    Open,
    Done,
}

fn cache(table: &Table) -> ModelCache {
    match table.get("cache").map(|node| &node.value) {
        Some(Value::Bool(enabled)) => {
            ModelCache { enabled: Some(*enabled), ..ModelCache::default() }
        }
        Some(Value::Table(cache)) => ModelCache {
            // A model that says how it is cached wants to be cached.
            enabled: Some(true),
            ttl: cache.read("ttl"),
            when: cache_when(cache),
            scope: cache_scope(cache),
        },
        _ => ModelCache::default(),
    }
}
