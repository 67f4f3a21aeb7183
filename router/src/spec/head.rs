//! Regions and the heads in them.

use crate::ids::{BackendName, HeadName, RegionName};

/// A region and its nearest neighbours, nearest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionSpec {
    /// Its code.
    pub name: RegionName,
    /// Other regions, nearest first.
    pub neighbours: Vec<RegionName>,
}

/// In which order a head's members are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeadOrder {
    /// By the model's policy.
    #[default]
    Balanced,
    /// Strictly as listed.
    Listed,
}

/// A named access point in one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadSpec {
    /// Its name.
    pub name: HeadName,
    /// Its region; all members stand there.
    pub region: RegionName,
    /// Its members.
    pub backends: Vec<BackendName>,
    /// How they are tried.
    pub order: HeadOrder,
}
