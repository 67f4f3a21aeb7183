//! The pure core of forebay.

pub mod ids;
pub mod operation;
pub mod outcome;
pub mod spec;

pub use ids::{BackendName, HeadName, KeyName, ModelName, NameError, RegionName, TenantName};
pub use operation::Operation;
