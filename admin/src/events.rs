//! What happens in the data planes becomes part of the store's history of events, each event once, whoever else follows
//! the same planes.

mod follower;
mod words;

pub use follower::{EVENTS_AT_ONCE, FEEDS_MAX, Follower, INTERVAL};
pub use words::{Words, words};
