//! Where a model is served, for those who look at a snapshot from outside.

use crate::ids::{BackendName, HeadName, ModelName, RegionName};
use crate::model::Model;
use crate::snapshot::Snapshot;

/// One backend that serves a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Which one.
    pub backend: BackendName,
    /// Its name for the model.
    pub upstream_model: ModelName,
    /// The head through which it is reached; `None` = no head was declared.
    pub head: Option<HeadName>,
    /// Where that is.
    pub region: Option<RegionName>,
    /// The head is the model's priority head.
    pub priority: bool,
}

impl<A> Snapshot<A> {
    /// The backends of a model's own heads in the order of their declaration, the priority head first; a backend of several
    /// heads comes several times.
    #[must_use]
    pub fn served(&self, model: &Model) -> Vec<Served> {
        let mut all = Vec::new();
        for tier in &model.route.tiers {
            for member in &tier.members {
                let Some(backend) = self.backends().get(member.backend as usize) else { continue };
                all.push(Served {
                    backend: backend.spec.name.clone(),
                    upstream_model: member.upstream.clone(),
                    head: tier.head.clone(),
                    region: self.regions().name(tier.region).cloned(),
                    priority: tier.priority,
                });
            }
        }
        all
    }
}
