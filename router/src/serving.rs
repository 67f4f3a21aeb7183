//! Which backend serves what, by name: what is declared and what was found, in one index.

use std::collections::HashMap;

use crate::ids::ModelName;
use crate::load::without_latest;
use crate::operation::Operation;
use crate::snapshot::Member;
use crate::spec::{Catalog, DiscoveredModel, Kind};

/// Whether a kind of backend serves an operation at all.
#[must_use]
pub const fn serves(kind: Kind, operation: Operation) -> bool {
    match (kind, operation) {
        (_, Operation::ListModels | Operation::GetModel)
        | (Kind::Vllm | Kind::Ollama | Kind::OpenAi, _)
        | (Kind::Tei, Operation::Embeddings) => true,
        (Kind::Tei, Operation::ChatCompletions | Operation::Completions) | (Kind::Rerank, _) => {
            false
        }
    }
}

/// Whether an Ollama model runs elsewhere, by its name: tag `cloud`, or ending in `-cloud`.
#[must_use]
pub fn is_cloud_name(name: &str) -> bool {
    let Some((_, tag)) = name.rsplit_once(':') else { return false };
    let tag = tag.to_ascii_lowercase();
    tag == "cloud" || tag.ends_with("-cloud")
}

/// A model on a backend.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    /// The backend's number.
    pub(crate) backend: u32,
    /// The backend's name for it.
    pub(crate) name: &'a ModelName,
    /// What the backend says of it; `None` = declared in the backend's own list.
    pub(crate) listed: Option<&'a DiscoveredModel>,
    /// It leaves the backend's machine, which may not be there.
    barred: bool,
}

/// Everything that is served.
#[derive(Debug, Default)]
pub(crate) struct Serving<'a> {
    /// By exact name, backends other than Ollama's.
    exact: HashMap<&'a str, Vec<Found<'a>>>,
    /// By Ollama's canonical name.
    ollama: HashMap<String, Vec<Found<'a>>>,
    /// Backends whose models are known.
    known: Vec<bool>,
}

impl<'a> Serving<'a> {
    pub(crate) fn new<A>(members: &'a [Member<A>], catalog: &'a Catalog) -> Self {
        let mut serving = Self::default();
        for (member, backend) in members.iter().zip(0..) {
            let found = catalog.get(&member.spec.name);
            serving.known.push(member.spec.models.is_some() || found.is_some());
            let listed = found.map_or(&[][..], |models| &models[..]);
            match &member.spec.models {
                Some(names) => {
                    for name in names {
                        let known = listed.iter().find(|model| model.name == *name);
                        serving.add(member, backend, name, known);
                    }
                }
                None => {
                    for model in listed {
                        serving.add(member, backend, &model.name, Some(model));
                    }
                }
            }
        }
        serving
    }

    fn add<A>(
        &mut self,
        member: &Member<A>,
        backend: u32,
        name: &'a ModelName,
        listed: Option<&'a DiscoveredModel>,
    ) {
        let barred = is_remote(member, name, listed) && !member.spec.allow_cloud;
        let found = Found { backend, name, listed, barred };
        if member.spec.kind == Kind::Ollama {
            self.ollama.entry(canonical(name.as_str())).or_default().push(found);
        } else {
            self.exact.entry(name.as_str()).or_default().push(found);
        }
    }

    /// Every backend that serves a name, by number.
    pub(crate) fn of(&self, name: &str) -> Vec<Found<'a>> {
        let mut found: Vec<_> = self.named(name).filter(|found| !found.barred).collect();
        found.sort_by_key(|found| found.backend);
        found.dedup_by_key(|found| found.backend);
        found
    }

    /// What a backend says of a model, also where it may not be used.
    pub(crate) fn listed(&self, backend: u32, name: &str) -> Option<&'a DiscoveredModel> {
        let mut here = self.named(name).filter(|found| found.backend == backend);
        here.find_map(|found| found.listed)
    }

    fn named(&self, name: &str) -> impl Iterator<Item = Found<'a>> {
        let exact = self.exact.get(name).into_iter().flatten();
        let ollama = self.ollama.get(&canonical(name)).into_iter().flatten();
        exact.chain(ollama).copied()
    }

    /// Whether a backend's models are known at all.
    pub(crate) fn is_known(&self, backend: u32) -> bool {
        self.known.get(backend as usize).copied().unwrap_or(false)
    }

    /// Everything that is served, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = Found<'a>> {
        let all = self.exact.values().chain(self.ollama.values()).flatten().copied();
        all.filter(|found| !found.barred)
    }
}

/// Whether a model leaves its backend's machine.
pub(crate) fn is_remote<A>(
    member: &Member<A>,
    name: &ModelName,
    listed: Option<&DiscoveredModel>,
) -> bool {
    member.spec.kind == Kind::Ollama
        && (is_cloud_name(name.as_str()) || listed.is_some_and(|model| model.remote))
}

/// Ollama's names without what makes no difference.
pub(crate) fn canonical(name: &str) -> String {
    without_latest(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cloud_names_are_told_by_their_tag() {
        for name in ["kimi-k2:cloud", "gpt-oss:120b-cloud", "X:CLOUD"] {
            assert!(is_cloud_name(name), "{name}");
        }
        for name in ["cloud", "my-cloud", "llama3:latest", "a:cloudy", "x-cloud:8b"] {
            assert!(!is_cloud_name(name), "{name}");
        }
    }

    #[test]
    fn every_kind_and_operation_has_its_answer() {
        assert!(serves(Kind::Vllm, Operation::ChatCompletions));
        assert!(serves(Kind::Tei, Operation::Embeddings));
        assert!(!serves(Kind::Tei, Operation::ChatCompletions));
        assert!(!serves(Kind::Rerank, Operation::Embeddings));
    }
}
