//! Wire dialects of inference servers, as pure functions over bytes.
//!
//! Nothing here opens a socket, reads a clock or knows a client. A request passes [`operation::resolve`],
//! [`peek::peek`] and [`splice::encode`] on its way up; an answer passes [`sse::Scanner`] or
//! [`answer::inspect`], and [`classify::classify`] when it is not a success, on its way down. Discovery and
//! health use [`models`], [`details`], [`probe`] and [`metrics_text`].

pub mod answer;
pub mod canonical;
pub mod classify;
pub mod details;
pub mod error;
mod json;
pub mod metrics_text;
pub mod models;
pub mod operation;
pub mod peek;
pub mod probe;
pub mod splice;
pub mod sse;
pub mod usage;

pub use answer::{Answer, inspect};
pub use canonical::{Canonical, canonical};
pub use classify::{Verdict, classify, classify_event, retry_after};
pub use error::{UpstreamError, envelope, event};
pub use operation::{Resolved, resolve};
pub use peek::{Peek, PeekError, peek};
pub use splice::{Edit, Pieces, Rewrite, encode, splice};
pub use sse::{ErrorEvent, EventSpan, Scan, Scanner, StreamDialect, StreamEnd};
pub use usage::{Ending, Usage};
