//! Regions by number: sets of them as one word, and how far they are from each other.

use std::collections::HashMap;

use crate::ids::RegionName;
use crate::spec::SnapshotSpec;

/// Most regions of one world.
pub const REGIONS_MAX: usize = 128;

/// A region's number in its snapshot.
pub(crate) type Region = u8;

/// A set of regions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RegionSet(u128);

impl RegionSet {
    pub(crate) const ALL: Self = Self(u128::MAX);
    pub(crate) const NONE: Self = Self(0);

    pub(crate) const fn has(self, region: Region) -> bool {
        self.0 >> (region as u32 % 128) & 1 == 1
    }

    pub(crate) const fn with(self, region: Region) -> Self {
        Self(self.0 | 1 << (region as u32 % 128))
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The regions of one world.
#[derive(Debug, Default)]
pub(crate) struct Regions {
    names: Vec<RegionName>,
    numbers: HashMap<RegionName, Region>,
    /// Row by row, from each region to each other.
    distances: Vec<u8>,
}

impl Regions {
    /// Those that are declared; without any, those that backends and `default_region` name.
    pub(crate) fn new(spec: &SnapshotSpec) -> Self {
        let mut regions = Self::default();
        for region in &spec.regions {
            regions.add(&region.name);
        }
        if spec.regions.is_empty() {
            let named = spec.backends.iter().map(|backend| &backend.region);
            for name in spec.default_region.iter().chain(&spec.server_region).chain(named) {
                regions.add(name);
            }
        }
        regions.measure(spec);
        regions
    }

    fn add(&mut self, name: &RegionName) {
        let Ok(number) = Region::try_from(self.names.len()) else { return };
        if self.names.len() < REGIONS_MAX && !self.numbers.contains_key(name) {
            self.names.push(name.clone());
            self.numbers.insert(name.clone(), number);
        }
    }

    /// Distances: 0 = itself, then its neighbours in order, then theirs, then all that cannot be reached.
    fn measure(&mut self, spec: &SnapshotSpec) {
        let count = self.names.len();
        let mut neighbours = vec![Vec::new(); count];
        for region in &spec.regions {
            if let Some(from) = self.number(region.name.as_str()) {
                neighbours[usize::from(from)] =
                    region.neighbours.iter().filter_map(|n| self.number(n.as_str())).collect();
            }
        }
        let mut distances = Vec::with_capacity(count * count);
        for from in 0..count {
            let mut row = vec![u8::MAX; count];
            let mut reached = vec![from];
            let mut next = 0;
            while let Some(&here) = reached.get(next) {
                row[here] = u8::try_from(next).unwrap_or(u8::MAX);
                for neighbour in neighbours[here].iter().map(|n| usize::from(*n)) {
                    if !reached.contains(&neighbour) {
                        reached.push(neighbour);
                    }
                }
                next += 1;
            }
            distances.extend(row);
        }
        self.distances = distances;
    }

    pub(crate) fn number(&self, name: &str) -> Option<Region> {
        self.numbers.get(name).copied()
    }

    pub(crate) fn name(&self, region: Region) -> Option<&RegionName> {
        self.names.get(usize::from(region))
    }

    pub(crate) fn names(&self) -> &[RegionName] {
        &self.names
    }

    pub(crate) fn distance(&self, from: Option<Region>, to: Region) -> u8 {
        let index = from.map(|from| usize::from(from) * self.names.len() + usize::from(to));
        index.and_then(|index| self.distances.get(index)).copied().unwrap_or(u8::MAX)
    }

    /// The set of those names that are known.
    pub(crate) fn set<'n>(&self, names: impl IntoIterator<Item = &'n RegionName>) -> RegionSet {
        let numbers = names.into_iter().filter_map(|name| self.number(name.as_str()));
        numbers.fold(RegionSet::NONE, RegionSet::with)
    }

    /// The names of a set, in order of declaration.
    pub(crate) fn list(&self, set: RegionSet) -> Vec<RegionName> {
        let numbered = self.names.iter().zip(0..);
        numbered.filter(|(_, number)| set.has(*number)).map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::RegionSpec;

    fn name(text: &str) -> RegionName {
        RegionName::try_from(text).unwrap()
    }

    #[test]
    fn nearest_neighbours_come_first_then_theirs_then_strangers() {
        let region = |text: &str, near: &[&str]| RegionSpec {
            name: name(text),
            neighbours: near.iter().map(|n| name(n)).collect(),
        };
        let spec = SnapshotSpec {
            regions: vec![
                region("eu", &["uk", "us"]),
                region("cn", &[]),
                region("us", &["br"]),
                region("uk", &[]),
                region("br", &[]),
            ],
            ..SnapshotSpec::default()
        };
        let regions = Regions::new(&spec);
        let eu = regions.number("eu");
        let mut order: Vec<_> = regions.names().to_vec();
        order.sort_by_key(|r| regions.distance(eu, regions.number(r.as_str()).unwrap()));
        let order: Vec<_> = order.iter().map(RegionName::as_str).collect();
        assert_eq!(order, ["eu", "uk", "us", "br", "cn"]);
        assert_eq!(regions.distance(eu, regions.number("cn").unwrap()), u8::MAX);
        assert_eq!(regions.distance(None, 0), u8::MAX);
    }

    #[test]
    fn sets_hold_what_is_known() {
        let spec = SnapshotSpec { default_region: Some(name("eu")), ..SnapshotSpec::default() };
        let regions = Regions::new(&spec);
        let set = regions.set(&[name("eu"), name("mars")]);
        assert_eq!(regions.list(set), [name("eu")]);
        assert!(!set.is_empty() && set.and(RegionSet::NONE).is_empty());
    }
}
