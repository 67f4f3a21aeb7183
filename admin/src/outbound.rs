//! Requests of the admin API to servers that someone named: tests, discovery, measured runs. One place that parses the
//! URL, resolves it once, refuses addresses that nobody serves models at, and connects to exactly those that it checked.

mod client;
mod resolve;
mod target;
mod tls;

#[cfg(test)]
mod tests;

pub use client::{ANSWER_MAX, Ask, DEADLINE, Outbound, Reply, Streaming};
pub use resolve::{ADDRESSES_MAX, Resolve, Resolving, System};
pub use router::address::{Forbidden, forbidden};
pub use target::{Located, Target};

use std::time::Duration;

/// Why there is no answer. Holds nothing of what the other side said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// The URL cannot be one of an inference server.
    #[error("the URL cannot be used: {0}")]
    Url(String),
    /// The name has no address.
    #[error("the name has no address: {0}")]
    Dns(String),
    /// One of its addresses is not to be asked.
    #[error("{0}")]
    Forbidden(Forbidden),
    /// Nobody listens there.
    #[error("the connection was refused")]
    Refused,
    /// No way there, or the connection was lost on it.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// The certificate or the handshake.
    #[error("TLS: {0}")]
    Tls(String),
    /// Not within the deadline.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// More than [`ANSWER_MAX`] bytes.
    #[error("the answer is longer than {ANSWER_MAX} bytes")]
    TooLong,
    /// Something else than HTTP, or half an answer.
    #[error("the answer is not whole HTTP")]
    Broken,
}

impl OutboundError {
    /// The word in answers of the API.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Url(_) => "invalid_url",
            Self::Dns(_) => "dns",
            Self::Forbidden(_) => "forbidden_address",
            Self::Refused => "refused",
            Self::Unreachable(_) => "unreachable",
            Self::Tls(_) => "tls",
            Self::Timeout(_) => "timeout",
            Self::TooLong => "answer_too_long",
            Self::Broken => "not_http",
        }
    }
}
