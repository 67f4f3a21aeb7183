//! Regions, backends and heads.

use std::collections::BTreeMap;
use std::sync::Arc;

use router::spec::{BackendSpec, HeadOrder, HeadSpec, Kind, ProbeMode, RegionSpec, SnapshotSpec};
use router::{BackendName, HeadName, RegionName};

use super::names::Referee;
use super::process::{region, secret};
use super::{Compiler, LOCAL_REGION, timeout_overrides};
use crate::diagnostic::{Code, Diagnostic};
use crate::tree::{Table, Value};

/// The name of an object, already checked.
pub(super) fn name<T: for<'t> TryFrom<&'t str>>(table: &Table, key: &str) -> Option<T> {
    table.text(key).and_then(|text| T::try_from(text).ok())
}

/// A table of free texts.
pub(super) fn text_map(table: &Table, key: &str) -> BTreeMap<String, String> {
    let entries = table.table(key).into_iter().flat_map(|map| &map.entries);
    entries
        .filter_map(|(name, entry)| entry.node.text().map(|text| (name.clone(), text.to_owned())))
        .collect()
}

impl Compiler<'_> {
    /// Regions: those declared, or else those that are named.
    pub(super) fn regions(&mut self, spec: &mut SnapshotSpec) {
        let tree = self.tree;
        for table in tree.tables("region") {
            let neighbours: Vec<RegionName> =
                self.refer_all(Referee::Region, table.list("neighbours"));
            let Some(name) = name::<RegionName>(table, "name") else { continue };
            if neighbours.contains(&name) {
                let place = table.place_of("neighbours");
                self.error(Code::Conflict, place, format!("`{name}` is its own neighbour"));
            }
            spec.regions.push(RegionSpec { name, neighbours });
        }
        let server = tree.table("server");
        let named = [
            (tree.get("default_region"), &mut spec.default_region),
            (server.and_then(|server| server.get("region")), &mut spec.server_region),
        ];
        for (node, target) in named {
            if let Some(node) = node {
                self.refers(Referee::Region, node);
                *target = node.text().and_then(|text| RegionName::try_from(text).ok());
            }
        }
        if let Some(node) = tree.table("redis").and_then(|redis| redis.get("region")) {
            self.refers(Referee::Region, node);
        }
        if self.names.regions_declared {
            return;
        }
        let implied = spec.default_region.iter().chain(&spec.server_region).cloned();
        let redis = tree.table("redis").and_then(|redis| region(redis, "region"));
        let backends = tree.tables("backend").filter_map(|table| self.region_of(table));
        let mut all: Vec<RegionName> = Vec::new();
        let stored: Vec<RegionName> =
            spec.regions.iter().map(|region| region.name.clone()).collect();
        for name in implied.chain(redis).chain(backends) {
            if !all.contains(&name) && !stored.contains(&name) {
                all.push(name);
            }
        }
        spec.regions
            .extend(all.into_iter().map(|name| RegionSpec { name, neighbours: Vec::new() }));
    }

    /// A backend's region: its own, else the default, else `local` where none is declared.
    pub(super) fn region_of(&self, backend: &Table) -> Option<RegionName> {
        let local = (!self.names.regions_declared).then_some(LOCAL_REGION);
        let named = backend.text("region").or_else(|| self.tree.text("default_region"));
        named.or(local).and_then(|name| RegionName::try_from(name).ok())
    }

    /// Every backend.
    pub(super) fn backends(&mut self) -> Vec<BackendSpec> {
        let tree = self.tree;
        tree.tables("backend").filter_map(|table| self.backend(table)).collect()
    }

    fn backend(&mut self, table: &Table) -> Option<BackendSpec> {
        let region = self.region_of(table);
        match table.get("region") {
            Some(node) => {
                self.refers(Referee::Region, node);
            }
            None if region.is_none() => {
                let message = "[[backend]] needs `region`, because there is no `default_region`";
                self.error(Code::MissingKey, table.place.clone(), message);
            }
            None => {}
        }
        let kind = table.text("kind")?;
        let kind = Kind::ALL.into_iter().find(|one| one.as_str() == kind)?;
        let url = table.text("url")?.to_owned();
        self.ineffective(table, kind, &url);
        let ca_pem = self.authority(table);
        let mut spec = BackendSpec::new(name::<BackendName>(table, "name")?, kind, url, region?);
        spec.api_key = secret(table, "api_key");
        spec.ca_pem = ca_pem;
        table.fill("weight", &mut spec.weight);
        spec.max_in_flight = table.read("max_in_flight");
        spec.timeouts = timeout_overrides(table.table("timeouts"));
        spec.labels = text_map(table, "labels");
        table.fill("local", &mut spec.local);
        table.fill("enabled", &mut spec.enabled);
        table.fill("draining", &mut spec.draining);
        table.fill("allow_cloud", &mut spec.allow_cloud);
        spec.probe = match table.text("probe") {
            Some("token") => ProbeMode::Token,
            Some("off") => ProbeMode::Off,
            _ => ProbeMode::Auto,
        };
        let models = table.list("models").iter();
        let models = models.filter_map(|node| node.text()?.try_into().ok()).collect();
        spec.models = table.get("models").map(|_| models);
        Some(spec)
    }

    fn ineffective(&mut self, table: &Table, kind: Kind, url: &str) {
        let mut unused = |key: &str, why: &str| {
            let message = format!("`{key}` has no effect {why}");
            self.out.push(Diagnostic::warning(Code::Unused, table.place_of(key), message));
        };
        if table.read("allow_cloud") == Some(true) && kind != Kind::Ollama {
            unused("allow_cloud", "on a backend that is no Ollama");
        }
        if table.get("ca").is_some() && url.starts_with("http://") {
            unused("ca", "with an http:// URL");
        }
    }

    /// The text of a backend's own trusted roots.
    fn authority(&mut self, table: &Table) -> Option<Arc<str>> {
        let node = table.get("ca")?;
        let Value::Path(path) = &node.value else { return None };
        self.files.push(path.clone());
        // A path that came from a variable is not to be shown.
        let shown = node.raw.clone().unwrap_or_else(|| path.display().to_string());
        match self.env.read(path) {
            Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => Some(Arc::from(text)),
            Ok(_) => {
                let message = format!("{shown} holds no PEM certificate");
                self.error(Code::WrongValue, node.place.clone(), message);
                None
            }
            Err(error) => {
                let message = format!("{shown} cannot be read: {error}");
                self.error(Code::Unreadable, node.place.clone(), message);
                None
            }
        }
    }

    /// Every head.
    pub(super) fn heads(&mut self, backends: &[BackendSpec]) -> Vec<HeadSpec> {
        let regions: BTreeMap<&str, &RegionName> =
            backends.iter().map(|spec| (spec.name.as_str(), &spec.region)).collect();
        let tree = self.tree;
        tree.tables("head").filter_map(|table| self.head(table, &regions)).collect()
    }

    fn head(&mut self, table: &Table, regions: &BTreeMap<&str, &RegionName>) -> Option<HeadSpec> {
        if let Some(node) = table.get("region") {
            self.refers(Referee::Region, node);
        }
        let members = table.list("backends");
        if table.get("backends").is_some() && members.is_empty() {
            let place = table.place_of("backends");
            self.error(Code::WrongValue, place, "a head needs at least one backend");
        }
        let backends: Vec<BackendName> = self.refer_all(Referee::Backend, members);
        let region = name::<RegionName>(table, "region")?;
        for node in members {
            let stands = node.text().and_then(|name| regions.get(name));
            if let Some(stands) = stands.filter(|stands| ***stands != region) {
                self.out.push(
                    Diagnostic::error(
                        Code::RegionMismatch,
                        node.place.clone(),
                        format!("`{}` stands in {stands}, the head in {region}", node.shown()),
                    )
                    .label("a head's backends stand in its region")
                    .related(table.place_of("region"), "the head's region"),
                );
            }
        }
        let order = match table.text("order") {
            Some("listed") => HeadOrder::Listed,
            _ => HeadOrder::Balanced,
        };
        Some(HeadSpec { name: name::<HeadName>(table, "name")?, region, backends, order })
    }
}
