//! Where requests may go, checked against where things stand.

use std::collections::BTreeMap;

use router::spec::{ModelSpec, Residency, SnapshotSpec};
use router::{HeadName, ModelName, RegionName};

use super::Compiler;
use crate::diagnostic::{Code, Diagnostic, Place};
use crate::restriction::RestrictionKind;
use crate::settings::Config;
use crate::tree::{Node, Table};

impl Compiler<'_> {
    /// Checks every model's regions, and notes what is strict.
    pub(super) fn residency(&mut self, config: &mut Config) {
        let tree = self.tree;
        let models: BTreeMap<ModelName, ModelSpec> =
            config.snapshot.models.iter().map(|spec| (spec.name.clone(), spec.clone())).collect();
        let heads: BTreeMap<HeadName, RegionName> = config
            .snapshot
            .heads
            .iter()
            .map(|head| (head.name.clone(), head.region.clone()))
            .collect();
        for table in tree.tables("model") {
            let Some(spec) = table.text("name").and_then(|name| models.get(name)) else { continue };
            self.heads_inside(table, spec, &config.snapshot, &heads);
            if spec.local_inference {
                self.somewhere_local(table, &config.snapshot);
                let what = "`local_inference = true`";
                config.restrictions.push(super::auth::restriction(
                    RestrictionKind::LocalInference,
                    table.place_of("local_inference"),
                    what,
                ));
            }
            if spec.residency == Residency::Strict {
                self.strict(table, spec, config);
            }
        }
    }

    fn somewhere_local(&mut self, table: &Table, snapshot: &SnapshotSpec) {
        if snapshot.backends.is_empty() || snapshot.backends.iter().any(|backend| backend.local) {
            return;
        }
        let place = table.place_of("local_inference");
        let message = "no backend is marked as local";
        self.out.push(
            Diagnostic::warning(Code::NoWay, place, message)
                .help("write `local = true` in the [[backend]]s that are"),
        );
    }

    fn strict(&mut self, table: &Table, spec: &ModelSpec, config: &mut Config) {
        let place = table.place_of("residency");
        let what = "`residency = \"strict\"`";
        config.restrictions.push(super::auth::restriction(
            RestrictionKind::StrictResidency,
            place.clone(),
            what,
        ));
        let cached = config.models.get(&spec.name).and_then(|model| model.cache.enabled);
        if cached.unwrap_or(config.cache.default) {
            let what = "the region of the cache of a strict model";
            config.restrictions.push(super::auth::restriction(
                RestrictionKind::ModelCacheRegion,
                table.place_of("cache"),
                what,
            ));
            self.kept_somewhere(table, spec, config);
        }
        let allowed = allowed(spec, &config.snapshot);
        if allowed.is_empty() {
            // A region that was refused has its own message.
            if table.get("region").is_none() && table.list("regions").is_empty() {
                self.out.push(
                    Diagnostic::error(
                        Code::EmptyResidency,
                        place,
                        "strict residency without any allowed region",
                    )
                    .help("give the model a `region`, or set `default_region`"),
                );
            }
            return;
        }
        let backends = &config.snapshot.backends;
        if !backends.is_empty()
            && !backends.iter().any(|backend| allowed.contains(&&backend.region))
        {
            let list: Vec<&str> = allowed.iter().map(|region| region.as_str()).collect();
            let message = format!("no backend stands in the allowed regions ({})", list.join(", "));
            self.out.push(Diagnostic::warning(Code::NoWay, place, message).help(
                "until one does, every request for the model is answered 503 region_unavailable",
            ));
        }
    }

    /// Answers of a strict model are kept only where it is known that they may be.
    fn kept_somewhere(&mut self, table: &Table, spec: &ModelSpec, config: &Config) {
        let allowed = allowed(spec, &config.snapshot);
        let redis = config.redis.as_ref().and_then(|redis| redis.region.as_ref());
        let tiers = [config.snapshot.server_region.as_ref(), redis];
        if tiers.iter().flatten().any(|region| allowed.contains(region)) {
            return;
        }
        let message = format!("answers of {} are cached nowhere: it is strict", spec.name);
        self.out.push(
            Diagnostic::warning(Code::Unused, table.place_of("cache"), message)
                .help("say that this gateway or its Redis is in an allowed region: `server.region`, `redis.region`"),
        );
    }

    /// Heads outside the regions that their model allows.
    fn heads_inside(
        &mut self,
        table: &Table,
        spec: &ModelSpec,
        snapshot: &SnapshotSpec,
        heads: &BTreeMap<HeadName, RegionName>,
    ) {
        let allowed = allowed(spec, snapshot);
        // Without a home region every head is as good as any other.
        if allowed.is_empty() || (spec.residency == Residency::Prefer && spec.region.is_none()) {
            return;
        }
        let strict = spec.residency == Residency::Strict;
        let region_of = |node: &Node| heads.get(node.text()?);
        let first = table.get("priority_head").map(|node| (node, strict));
        let others = table.list("heads").iter().filter(|_| strict).map(|node| (node, false));
        for (node, error) in first.into_iter().chain(others) {
            let Some(region) = region_of(node).filter(|region| !allowed.contains(region)) else {
                continue;
            };
            let message = format!(
                "the head `{}` stands in {region}, which the model does not allow",
                node.shown()
            );
            let place: Place = node.place.clone();
            let list: Vec<&str> = allowed.iter().map(|region| region.as_str()).collect();
            let diagnostic = if error {
                Diagnostic::error(Code::RegionMismatch, place, message)
            } else {
                Diagnostic::warning(Code::NoWay, place, message)
            };
            self.out.push(
                diagnostic
                    .label(format!("allowed: {}", list.join(", ")))
                    .help(format!("add \"{region}\" to the model's `regions`")),
            );
        }
    }
}

/// The regions that a model allows: its home and those that it adds.
fn allowed<'a>(spec: &'a ModelSpec, snapshot: &'a SnapshotSpec) -> Vec<&'a RegionName> {
    let home = spec.region.as_ref().or(snapshot.default_region.as_ref());
    home.into_iter().chain(&spec.regions).collect()
}
