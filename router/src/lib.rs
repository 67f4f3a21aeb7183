//! The pure core of forebay: no I/O, no async, no clock reads. Time and randomness are parameters.

pub mod backend;
pub mod balance;
pub mod breaker;
pub mod budget;
mod chain;
mod clock;
mod diagnosis;
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
pub mod poison;
mod regions;
pub mod serving;
pub mod snapshot;
pub mod spec;
mod stages;
mod tiers;
mod validate;
mod window;

pub use chain::CHAIN_MAX;
pub use handle::Attach;
pub use ids::{BackendName, HeadName, KeyName, ModelName, NameError, RegionName, TenantName};
pub use judge::PassedOver;
pub use operation::Operation;
pub use regions::REGIONS_MAX;
pub use validate::WEIGHT_MAX;
