//! What no compiler checks: sizes, waits, and that the documents say what the code does.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed test is how these tests report")]

mod documents;
mod generated;
mod sources;
mod tree;
