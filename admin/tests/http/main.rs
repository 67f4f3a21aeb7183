//! The admin API over real HTTP and a real store: who may call, and what becomes of the objects.
#![expect(clippy::unwrap_used, clippy::panic, unreachable_pub, reason = "tests")]

mod access;
mod client;
mod objects;
#[expect(dead_code, reason = "each test binary uses its part of the plane")]
#[path = "../support/plane.rs"]
mod plane;
mod server;
