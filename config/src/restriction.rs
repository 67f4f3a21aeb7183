//! What a configuration forbids. A build that does not enforce one of these must not serve with it.

use crate::diagnostic::Diagnostic;
use crate::settings::Config;

/// A kind of restriction on access or on where data may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RestrictionKind {
    /// `auth.mode = "keys"`.
    AuthKeys,
    /// A `[[key]]`, with its expiry.
    KeyTable,
    /// A key narrowed to models.
    KeyModels,
    /// A key narrowed to regions.
    KeyRegions,
    /// A key with limits on requests or tokens.
    KeyLimits,
    /// `residency = "strict"`.
    StrictResidency,
    /// `local_inference = true`.
    LocalInference,
    /// A strict model whose answers are cached.
    ModelCacheRegion,
}

/// One restriction and the place that asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restriction {
    /// What it is.
    pub what: RestrictionKind,
    /// Says that it is not enforced, and where it was asked for; to be printed when that is so.
    pub diagnostic: Diagnostic,
}

/// Everything that a configuration restricts. The caller drops what it enforces and refuses to serve with the rest.
#[must_use]
pub fn restrictions(config: &Config) -> Vec<Restriction> {
    config.restrictions.clone()
}
