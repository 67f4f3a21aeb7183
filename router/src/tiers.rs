//! A model's tiers, worked out when a snapshot is built: which backends of which heads serve it, under which names.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::balance::{Turns, key};
use crate::ids::{BackendName, HeadName, ModelName};
use crate::model::{Deployment, Tier};
use crate::regions::{Region, Regions};
use crate::serving::{Found, Serving, is_remote};
use crate::snapshot::Member;
use crate::spec::{DeploymentSpec, HeadOrder, HeadSpec, ModelSpec};

/// What tiers are made of.
pub(crate) struct Ground<'a, A> {
    pub(crate) members: &'a [Member<A>],
    /// Numbers of backends that take part.
    pub(crate) numbers: &'a std::collections::HashMap<BackendName, u32>,
    pub(crate) heads: BTreeMap<&'a HeadName, &'a HeadSpec>,
    pub(crate) regions: &'a Regions,
    pub(crate) serving: &'a Serving<'a>,
}

impl<A> Ground<'_, A> {
    /// The tiers of a model, the priority head first.
    pub(crate) fn tiers(&self, spec: &ModelSpec) -> Vec<Tier> {
        let rest = spec.heads.iter().filter(|head| Some(*head) != spec.priority_head.as_ref());
        let names: Vec<&HeadName> = spec.priority_head.iter().chain(rest).collect();
        if names.is_empty() {
            return self.implicit(spec);
        }
        let heads = names.into_iter().filter_map(|name| self.heads.get(name));
        heads.filter_map(|head| self.declared(spec, head)).collect()
    }

    fn declared(&self, spec: &ModelSpec, head: &HeadSpec) -> Option<Tier> {
        let found = self.serving.of(upstream(spec, None).as_str());
        let (mut members, mut without) = (Vec::new(), Vec::new());
        for name in &head.backends {
            let Some(&backend) = self.numbers.get(name) else { continue };
            let declared = spec.deployments.iter().find(|deployment| deployment.backend == *name);
            let here = found.binary_search_by_key(&backend, |found| found.backend);
            let here = here.ok().map(|place| &found[place]);
            // Before a backend's models are known, a head that names it is taken at its word.
            let served = declared.is_some() || here.is_some() || !self.serving.is_known(backend);
            match served.then(|| self.deployment(spec, backend, declared, here)).flatten() {
                Some(deployment) => members.push(deployment),
                None => without.push(backend),
            }
        }
        Some(Tier {
            head: Some(head.name.clone()),
            region: self.regions.number(head.region.as_str())?,
            listed: head.order == HeadOrder::Listed,
            priority: spec.priority_head.as_ref() == Some(&head.name),
            members,
            without,
            turns: Turns::default(),
        })
    }

    /// One implicit head per region: of the declared deployments, or where there are none of all that serve the model.
    fn implicit(&self, spec: &ModelSpec) -> Vec<Tier> {
        let mut by_region: BTreeMap<Region, Vec<Deployment>> = BTreeMap::new();
        let mut add = |backend: u32, deployment: Option<Deployment>| {
            let region = self.members.get(backend as usize).map(|member| &member.spec.region);
            let region = region.and_then(|region| self.regions.number(region.as_str()));
            if let (Some(region), Some(deployment)) = (region, deployment) {
                by_region.entry(region).or_default().push(deployment);
            }
        };
        if spec.deployments.is_empty() {
            for found in self.serving.of(upstream(spec, None).as_str()) {
                add(found.backend, self.deployment(spec, found.backend, None, Some(&found)));
            }
        } else {
            for declared in &spec.deployments {
                if let Some(&backend) = self.numbers.get(&declared.backend) {
                    add(backend, self.deployment(spec, backend, Some(declared), None));
                }
            }
        }
        let tiers = by_region.into_iter().map(|(region, members)| Tier {
            head: None,
            region,
            listed: false,
            priority: false,
            members,
            without: Vec::new(),
            turns: Turns::default(),
        });
        tiers.collect()
    }

    /// The model on one backend, `found` there or taken at its word. `None` where it would leave the machine and may
    /// not, or where only local inference will do and this is none.
    fn deployment(
        &self,
        spec: &ModelSpec,
        backend: u32,
        declared: Option<&DeploymentSpec>,
        found: Option<&Found<'_>>,
    ) -> Option<Deployment> {
        let member = self.members.get(backend as usize)?;
        if spec.local_inference && !member.spec.local {
            return None;
        }
        let upstream = upstream(spec, declared).clone();
        let listed = match found {
            Some(found) if declared.is_none() => found.listed,
            _ => self.serving.listed(backend, upstream.as_str()),
        };
        let remote = is_remote(member, &upstream, listed);
        if remote && !member.spec.allow_cloud {
            return None;
        }
        let digest = listed.and_then(|model| model.digest.as_deref()).map(Arc::from);
        let weight = declared.and_then(|declared| declared.weight).unwrap_or(member.spec.weight);
        Some(Deployment {
            backend,
            key: key(member.spec.name.as_str()),
            weight: weight.max(1),
            upstream,
            api_key: declared.and_then(|declared| declared.api_key.clone()),
            digest,
            remote,
        })
    }
}

/// A backend's name for a model.
pub(crate) fn upstream<'a>(
    spec: &'a ModelSpec,
    declared: Option<&'a DeploymentSpec>,
) -> &'a ModelName {
    let own = declared.and_then(|declared| declared.upstream_model.as_ref());
    own.or(spec.upstream_model.as_ref()).unwrap_or(&spec.name)
}
