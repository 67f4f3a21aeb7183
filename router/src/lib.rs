//! The pure core of forebay: no I/O, no async, no clock reads. Time and randomness are parameters.

mod absent;
pub mod backend;
mod balance;
pub mod breaker;
pub mod budget;
mod candidate;
mod chain;
mod clock;
mod diagnosis;
pub mod explain;
#[cfg(test)]
mod fixture;
mod handle;
pub mod health;
pub mod ids;
mod judge;
pub mod load;
pub mod model;
pub mod operation;
pub mod outcome;
mod panic;
pub mod plan;
pub mod planes;
pub mod poison;
mod query;
mod regions;
pub mod serving;
pub mod snapshot;
pub mod spec;
mod stages;
mod tiers;
mod validate;
mod window;

pub use absent::{ABSENT_ENTRIES, ABSENT_MEMORY};
pub use balance::LOAD_BOUND;
pub use chain::CHAIN_MAX;
pub use handle::Attach;
pub use ids::{BackendName, HeadName, KeyName, ModelName, NameError, RegionName, TenantName};
pub use judge::PassedOver;
pub use operation::Operation;
pub use regions::REGIONS_MAX;
pub use validate::WEIGHT_MAX;
