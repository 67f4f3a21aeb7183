//! Fallback chains: who follows whom, and that nobody follows himself.

use std::collections::{HashMap, VecDeque};

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
    let states = vec![State::New; spec.models.len()];
    let mut search = Search { models: &spec.models, names, states, errors };
    for place in 0..spec.models.len() {
        search.from(place);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    OnPath,
    Done,
}

struct Search<'a> {
    models: &'a [ModelSpec],
    names: HashMap<&'a str, usize>,
    states: Vec<State>,
    errors: &'a mut Vec<BuildError>,
}

impl Search<'_> {
    /// Walks the chain without recursion: a long one must not exhaust the stack.
    fn from(&mut self, start: usize) {
        if self.states[start] != State::New {
            return;
        }
        self.states[start] = State::OnPath;
        let mut path = vec![(start, 0)];
        while let Some((place, index)) = path.last_mut() {
            let (here, at) = (*place, *index);
            *index += 1;
            let Some(name) = self.models[here].fallbacks.get(at) else {
                self.states[here] = State::Done;
                path.pop();
                continue;
            };
            let Some(&next) = self.names.get(name.as_str()) else { continue };
            match self.states[next] {
                State::Done => {}
                State::New => {
                    self.states[next] = State::OnPath;
                    path.push((next, 0));
                }
                State::OnPath => {
                    let round = path.iter().map(|(place, _)| *place);
                    let round: Vec<_> = round.skip_while(|place| *place != next).collect();
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
