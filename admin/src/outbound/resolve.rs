//! From a name to addresses: once per target.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

/// Most addresses of one name that are looked at; a name with more is refused.
pub const ADDRESSES_MAX: usize = 16;

/// What a [`Resolve`] gives.
pub type Resolving<'r> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'r>>;

/// Resolves names. A test's resolver may change its mind between two questions, as a hostile one would.
pub trait Resolve: Send + Sync {
    /// Every address of a host.
    fn resolve<'r>(&'r self, host: &'r str, port: u16) -> Resolving<'r>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Resolve for System {
    fn resolve<'r>(&'r self, host: &'r str, port: u16) -> Resolving<'r> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, port)).await?;
            Ok(found.take(ADDRESSES_MAX + 1).collect())
        })
    }
}
