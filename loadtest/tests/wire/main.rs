//! The upstream over raw sockets: what a script says is what is on the wire, byte for byte.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panic")]

mod connections;
mod faults;
mod profiles;
mod raw;
mod shapes;
