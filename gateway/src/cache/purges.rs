//! What was purged, and when: answers from before are not served, wherever they are stored.
//!
//! Each purge raises a number for its scope. An answer carries the numbers of its scopes from when it was begun, and is
//! good only while they are the same. Gateways that share a Redis share the numbers there, so that a purge costs the same
//! however much is stored.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use router::planes::PurgeScope;

use super::entry::Owner;

/// Scopes that are remembered one by one; beyond it everything is purged and they are forgotten.
pub(crate) const SCOPES_MAX: usize = 4096;
const ALL: &str = "*";
/// Numbers from here on are no times, and nobody's purge.
const NUMBER_MAX: u64 = 1 << 53;

/// The numbers that an answer was begun under: of everything, its model, its tenant and its key.
pub(crate) type Stamp = [u64; 4];

/// The numbers by scope; a scope that was never purged is not here, and has 0.
#[derive(Debug, Default)]
pub(crate) struct Purges {
    numbers: RwLock<HashMap<String, u64>>,
}

/// The numbers, held still while something is stored.
pub(crate) struct Held<'a>(RwLockReadGuard<'a, HashMap<String, u64>>);

impl Held<'_> {
    pub(crate) fn stamp(&self, owner: &Owner) -> Stamp {
        if self.0.is_empty() {
            return Stamp::default();
        }
        let of = |name: &str| self.0.get(name).copied().unwrap_or_default();
        let named = |letter: char, name: Option<&str>| {
            name.map_or(0, |name| of(&format!("{letter}:{name}")))
        };
        [
            of(ALL),
            named('m', Some(owner.model.as_str())),
            named('t', owner.tenant.as_ref().map(AsRef::as_ref)),
            named('k', owner.key.as_ref().map(AsRef::as_ref)),
        ]
    }
}

impl Purges {
    /// Nothing is purged while this is held.
    pub(crate) fn hold(&self) -> Held<'_> {
        Held(self.numbers.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn stamp(&self, owner: &Owner) -> Stamp {
        self.hold().stamp(owner)
    }

    /// Raises a scope's number, at `now` (unix ms).
    pub(crate) fn raise(&self, scope: &PurgeScope, now: u64) {
        let mut numbers = self.numbers.write().unwrap_or_else(PoisonError::into_inner);
        let name = name(scope);
        let number = numbers.get(&name).map_or(now, |known| now.max(known + 1));
        numbers.insert(name, number);
        if numbers.len() > SCOPES_MAX {
            let all = numbers.get(ALL).map_or(now, |known| now.max(known + 1));
            numbers.clear();
            numbers.insert(ALL.to_owned(), all);
        }
    }

    /// Takes over higher numbers of others; gives the scopes that were raised.
    pub(crate) fn learn(&self, others: impl IntoIterator<Item = (String, u64)>) -> Vec<PurgeScope> {
        let mut numbers = self.numbers.write().unwrap_or_else(PoisonError::into_inner);
        let mut raised = Vec::new();
        for (name, number) in others {
            let known = numbers.get(&name).copied().unwrap_or_default();
            if number > known
                && number < NUMBER_MAX
                && let Some(scope) = scope(&name)
            {
                numbers.insert(name, number);
                raised.push(scope);
            }
        }
        raised
    }

    /// All numbers.
    pub(crate) fn list(&self) -> Vec<(String, u64)> {
        self.hold().0.iter().map(|(name, number)| (name.clone(), *number)).collect()
    }
}

/// Whether an answer is in a scope.
pub(crate) fn covers(scope: &PurgeScope, owner: &Owner) -> bool {
    match scope {
        PurgeScope::All => true,
        PurgeScope::Model(model) => *model == owner.model,
        PurgeScope::Tenant(tenant) => owner.tenant.as_ref() == Some(tenant),
        PurgeScope::Key(key) => owner.key.as_ref() == Some(key),
    }
}

fn name(scope: &PurgeScope) -> String {
    match scope {
        PurgeScope::All => ALL.to_owned(),
        PurgeScope::Model(model) => format!("m:{model}"),
        PurgeScope::Tenant(tenant) => format!("t:{tenant}"),
        PurgeScope::Key(key) => format!("k:{key}"),
    }
}

fn scope(name: &str) -> Option<PurgeScope> {
    if name == ALL {
        return Some(PurgeScope::All);
    }
    let (letter, name) = name.split_once(':')?;
    match letter {
        "m" => name.try_into().ok().map(PurgeScope::Model),
        "t" => name.try_into().ok().map(PurgeScope::Tenant),
        "k" => name.try_into().ok().map(PurgeScope::Key),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::example;
    use super::*;

    #[test]
    fn each_scope_changes_the_stamps_of_its_own() {
        let owner = example(b"", 0, 1).owner;
        let other =
            Owner { model: "n".try_into().unwrap(), tenant: "u".try_into().ok(), key: None };
        for name in ["*", "m:m", "t:t", "k:k"] {
            let purges = Purges::default();
            let (before, others) = (purges.stamp(&owner), purges.stamp(&other));
            purges.raise(&scope(name).unwrap(), 5);
            assert_ne!(purges.stamp(&owner), before, "{name}");
            assert_eq!(purges.stamp(&other) != others, name == "*", "{name}");
            assert!(covers(&scope(name).unwrap(), &owner));
        }
    }

    #[test]
    fn numbers_only_rise_and_are_taken_over_from_others() {
        let (one, other) = (Purges::default(), Purges::default());
        one.raise(&PurgeScope::All, 7);
        one.raise(&PurgeScope::All, 7);
        assert_eq!(one.list(), [("*".to_owned(), 8)]);
        assert_eq!(other.learn(one.list()), [PurgeScope::All]);
        assert!(other.learn(one.list()).is_empty());
        assert!(other.learn([("*".to_owned(), 3), ("?".to_owned(), 9)]).is_empty());
        // Nor what could not be raised any more.
        assert!(other.learn([("*".to_owned(), u64::MAX)]).is_empty());
        assert_eq!(other.list(), one.list());
    }

    #[test]
    fn too_many_scopes_become_all() {
        let purges = Purges::default();
        let owner = example(b"", 0, 1).owner;
        for number in 0..=SCOPES_MAX {
            purges.raise(&PurgeScope::Tenant(format!("t{number}").as_str().try_into().unwrap()), 1);
        }
        assert_eq!(purges.list().len(), 1);
        assert_ne!(purges.stamp(&owner), Stamp::default());
    }
}
