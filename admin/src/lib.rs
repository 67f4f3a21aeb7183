//! forebay's control plane: the registry of backends, models, regions and heads, its store and vault, and the admin API.

pub mod api;
pub mod events;
pub mod history;
pub mod jobs;
pub mod live;
pub mod outbound;
pub mod probing;
pub mod profiling;
pub mod registry;
pub mod role;
pub mod store;
pub mod vault;
