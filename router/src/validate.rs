//! What must hold between the objects of a spec. All errors are collected.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Display;

use crate::diagnosis::{BuildError, ObjectKind, ObjectRef, nearest};
use crate::ids::RegionName;
use crate::regions::REGIONS_MAX;
use crate::spec::{BackendSpec, HeadSpec, ModelSpec, Residency, SnapshotSpec};

/// Largest weight.
pub const WEIGHT_MAX: u32 = 1000;

/// Everything that is wrong with a spec.
pub(crate) fn errors(spec: &SnapshotSpec) -> Vec<BuildError> {
    let mut check = Check::new(spec);
    check.regions();
    check.backends();
    check.heads();
    check.models();
    crate::chain::errors(spec, &mut check.errors);
    check.errors
}

impl SnapshotSpec {
    /// Everything that is wrong with it; a snapshot can be built from a spec without errors.
    #[must_use]
    pub fn errors(&self) -> Vec<BuildError> {
        errors(self)
    }
}

struct Check<'a> {
    spec: &'a SnapshotSpec,
    regions: BTreeSet<&'a str>,
    backends: HashMap<&'a str, &'a BackendSpec>,
    heads: HashMap<&'a str, &'a HeadSpec>,
    errors: Vec<BuildError>,
}

/// One object, on the way to its errors.
#[derive(Clone, Copy)]
struct At<'a> {
    kind: ObjectKind,
    name: &'a str,
    place: usize,
}

const ROOT: At<'_> = At { kind: ObjectKind::Root, name: "", place: 0 };

impl At<'_> {
    fn key(self, key: &'static str, index: Option<usize>) -> ObjectRef {
        ObjectRef { kind: self.kind, name: self.name.to_owned(), place: self.place, key, index }
    }
}

impl<'a> Check<'a> {
    fn new(spec: &'a SnapshotSpec) -> Self {
        let declared = spec.regions.iter().map(|region| region.name.as_str());
        let named = spec.backends.iter().map(|backend| backend.region.as_str());
        let ours = spec.default_region.iter().chain(&spec.server_region).map(RegionName::as_str);
        Self {
            spec,
            regions: if spec.regions.is_empty() {
                named.chain(ours).collect()
            } else {
                declared.collect()
            },
            backends: spec.backends.iter().map(|b| (b.name.as_str(), b)).collect(),
            heads: spec.heads.iter().map(|h| (h.name.as_str(), h)).collect(),
            errors: Vec::new(),
        }
    }

    fn error(&mut self, object: ObjectRef, message: impl Display, suggestion: Option<String>) {
        self.errors.push(BuildError { object, message: message.to_string(), suggestion });
    }

    fn region(&mut self, object: ObjectRef, name: &RegionName) {
        if !self.regions.contains(name.as_str()) {
            let near = nearest(name.as_str(), self.regions.iter().copied());
            self.error(object, format!("there is no region {name:?}"), near);
        }
    }

    fn head(&mut self, object: ObjectRef, name: &str) -> Option<&'a HeadSpec> {
        let found = self.heads.get(name).copied();
        if found.is_none() {
            let near = nearest(name, self.heads.keys().copied());
            self.error(object, format!("there is no head {name:?}"), near);
        }
        found
    }

    fn backend(&mut self, object: ObjectRef, name: &str) -> Option<&'a BackendSpec> {
        let found = self.backends.get(name).copied();
        if found.is_none() {
            let near = nearest(name, self.backends.keys().copied());
            self.error(object, format!("there is no backend {name:?}"), near);
        }
        found
    }

    /// Reports names that occur twice.
    fn unique(&mut self, kind: ObjectKind, names: impl Iterator<Item = &'a str>) {
        let mut seen = BTreeSet::new();
        for (place, name) in names.enumerate() {
            if !seen.insert(name) {
                let at = At { kind, name, place };
                let message = format!("there is another {} of this name", kind.as_str());
                self.error(at.key("name", None), message, None);
            }
        }
    }

    fn weight(&mut self, object: ObjectRef, weight: u32) {
        if !(1..=WEIGHT_MAX).contains(&weight) {
            let message = format!("a weight is 1 to {WEIGHT_MAX}, this one is {weight}");
            self.error(object, message, None);
        }
    }

    fn regions(&mut self) {
        let spec = self.spec;
        self.unique(ObjectKind::Region, spec.regions.iter().map(|region| region.name.as_str()));
        if self.regions.len() > REGIONS_MAX {
            let message = format!("there are at most {REGIONS_MAX} regions");
            self.error(ROOT.key("region", None), message, None);
        }
        if let Some(name) = &spec.default_region {
            self.region(ROOT.key("default_region", None), name);
        }
        if let Some(name) = &spec.server_region {
            self.region(ROOT.key("server.region", None), name);
        }
        for (place, region) in spec.regions.iter().enumerate() {
            let at = At { kind: ObjectKind::Region, name: region.name.as_str(), place };
            for (index, neighbour) in region.neighbours.iter().enumerate() {
                self.region(at.key("neighbours", Some(index)), neighbour);
            }
        }
    }

    fn backends(&mut self) {
        let spec = self.spec;
        self.unique(ObjectKind::Backend, spec.backends.iter().map(|b| b.name.as_str()));
        for (place, backend) in spec.backends.iter().enumerate() {
            let at = At { kind: ObjectKind::Backend, name: backend.name.as_str(), place };
            self.region(at.key("region", None), &backend.region);
            self.weight(at.key("weight", None), backend.weight);
            if backend.max_in_flight == Some(0) {
                let message = "0 would let nothing through; `draining = true` says that";
                self.error(at.key("max_in_flight", None), message, None);
            }
        }
    }

    fn heads(&mut self) {
        let spec = self.spec;
        self.unique(ObjectKind::Head, spec.heads.iter().map(|head| head.name.as_str()));
        for (place, head) in spec.heads.iter().enumerate() {
            let at = At { kind: ObjectKind::Head, name: head.name.as_str(), place };
            self.region(at.key("region", None), &head.region);
            if head.backends.is_empty() {
                self.error(at.key("backends", None), "a head has at least one backend", None);
            }
            for (index, name) in head.backends.iter().enumerate() {
                let key = || at.key("backends", Some(index));
                if head.backends[..index].contains(name) {
                    self.error(key(), format!("{name:?} is listed twice"), None);
                }
                let Some(backend) = self.backend(key(), name.as_str()) else { continue };
                if backend.region != head.region {
                    let message = format!(
                        "{name:?} stands in region {:?}, the head in {:?}",
                        backend.region, head.region
                    );
                    self.error(key(), message, None);
                }
            }
        }
    }

    fn models(&mut self) {
        let spec = self.spec;
        self.unique(ObjectKind::Model, spec.models.iter().map(|model| model.name.as_str()));
        let mut taken: BTreeMap<&str, &str> =
            spec.models.iter().map(|model| (model.name.as_str(), model.name.as_str())).collect();
        for (place, model) in spec.models.iter().enumerate() {
            let at = At { kind: ObjectKind::Model, name: model.name.as_str(), place };
            for (index, alias) in model.aliases.iter().enumerate() {
                if let Some(owner) = taken.insert(alias.as_str(), model.name.as_str()) {
                    let message = format!("{alias:?} is already a name of the model {owner:?}");
                    self.error(at.key("aliases", Some(index)), message, None);
                }
            }
            self.model(at, model);
        }
    }

    fn model(&mut self, at: At<'_>, model: &'a ModelSpec) {
        if let Some(region) = &model.region {
            self.region(at.key("region", None), region);
        }
        for (index, region) in model.regions.iter().enumerate() {
            self.region(at.key("regions", Some(index)), region);
        }
        for (index, head) in model.heads.iter().enumerate() {
            self.head(at.key("heads", Some(index)), head.as_str());
        }
        let priority = model.priority_head.as_ref();
        let priority = priority.and_then(|h| self.head(at.key("priority_head", None), h.as_str()));
        if model.residency == Residency::Strict {
            self.strict(at, model, priority);
        }
        for (index, deployment) in model.deployments.iter().enumerate() {
            let key = || at.key("deployments", Some(index));
            let name = &deployment.backend;
            self.backend(key(), name.as_str());
            if model.deployments[..index].iter().any(|other| other.backend == *name) {
                self.error(key(), format!("{name:?} is listed twice"), None);
            }
            if let Some(weight) = deployment.weight {
                self.weight(key(), weight);
            }
        }
    }

    fn strict(&mut self, at: At<'_>, model: &ModelSpec, priority: Option<&HeadSpec>) {
        let home = model.region.as_ref().or(self.spec.default_region.as_ref());
        let allowed: Vec<&RegionName> = home.into_iter().chain(&model.regions).collect();
        if allowed.is_empty() {
            let message = "strict residency without any allowed region: say `region` or `regions`";
            self.error(at.key("residency", None), message, None);
            return;
        }
        if let Some(head) = priority.filter(|head| !allowed.contains(&&head.region)) {
            let allowed: Vec<_> = allowed.iter().map(ToString::to_string).collect();
            let message = format!(
                "head {:?} stands in region {:?}, outside the allowed regions ({})",
                head.name,
                head.region,
                allowed.join(", ")
            );
            self.error(at.key("priority_head", None), message, None);
        }
    }
}
