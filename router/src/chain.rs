//! Fallback chains: who follows whom, and that nobody follows himself.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::diagnosis::{BuildError, ObjectKind, ObjectRef};
use crate::spec::{ModelSpec, SnapshotSpec};

/// Most models in a fallback chain.
pub const CHAIN_MAX: usize = 16;

/// The models to try after one, nearest first: its own fallbacks in order, then theirs.
pub(crate) fn of(model: u32, fallbacks: &[Vec<u32>]) -> Vec<u32> {
    let mut chain = Vec::new();
    let mut waiting = VecDeque::from([model]);
    while let Some(current) = waiting.pop_front() {
        for &next in fallbacks.get(current as usize).map_or(&[][..], Vec::as_slice) {
            if chain.len() < CHAIN_MAX && next != model && !chain.contains(&next) {
                chain.push(next);
                waiting.push_back(next);
            }
        }
    }
    chain
}

/// Reports loops, each once, at the entry that closes it.
pub(crate) fn errors(spec: &SnapshotSpec, errors: &mut Vec<BuildError>) {
    let mut names: HashMap<&str, usize> = HashMap::new();
    for (place, model) in spec.models.iter().enumerate() {
        for name in std::iter::once(&model.name).chain(&model.aliases) {
            names.entry(name.as_str()).or_insert(place);
        }
    }
    let mut search = Search { models: &spec.models, names, done: HashSet::new(), errors };
    for place in 0..spec.models.len() {
        search.from(place);
    }
}

struct Search<'a> {
    models: &'a [ModelSpec],
    names: HashMap<&'a str, usize>,
    done: HashSet<usize>,
    errors: &'a mut Vec<BuildError>,
}

impl Search<'_> {
    /// Walks the chain without recursion: a long one must not exhaust the stack.
    fn from(&mut self, start: usize) {
        let models = self.models;
        let mut path = vec![(start, 0)];
        while let Some((place, index)) = path.last_mut() {
            let (here, at) = (*place, *index);
            *index += 1;
            let Some(name) = models[here].fallbacks.get(at).filter(|_| !self.done.contains(&here))
            else {
                self.done.insert(here);
                path.pop();
                continue;
            };
            let Some(&next) = self.names.get(name.as_str()) else { continue };
            match path.iter().position(|(place, _)| *place == next) {
                None => path.push((next, 0)),
                Some(begin) => {
                    let round = path[begin..].iter().map(|(place, _)| *place).collect::<Vec<_>>();
                    self.report(&round, here, at);
                }
            }
        }
    }

    fn report(&mut self, round: &[usize], here: usize, index: usize) {
        let names =
            round.iter().chain(round.first()).map(|place| self.models[*place].name.as_str());
        let names: Vec<_> = names.collect();
        let object = ObjectRef {
            kind: ObjectKind::Model,
            name: self.models[here].name.to_string(),
            place: here,
            key: "fallbacks",
            index: Some(index),
        };
        let message = format!("the fallback chain is a loop: {}", names.join(" -> "));
        self.errors.push(BuildError { object, message, suggestion: None });
    }
}
