//! The store that several gateways share.

use std::time::Duration;

use super::Secret;
use crate::ids::RegionName;

/// `[redis]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisSpec {
    /// `redis://` or `rediss://`; may hold credentials.
    pub url: Secret,
    /// Where it stands; strict models use it only inside their regions.
    pub region: Option<RegionName>,
    /// One command.
    pub timeout: Duration,
    /// Gateways that share limits when Redis is gone; `None` = those that were seen last.
    pub replicas: Option<u32>,
}
