//! Whom a URL names.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderValue, Uri};

use super::OutboundError;
use router::address::{Forbidden, forbidden};

/// A base URL, taken apart once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The normal form of the URL: what would be stored.
    pub url: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) https: bool,
    pub(super) authority: HeaderValue,
    pub(super) prefix: String,
    /// PEM text of further roots that are trusted.
    pub(super) ca_pem: Option<String>,
}

impl Target {
    /// Reads a base URL by the rules of the configuration (`config::base_url`): `http` or `https`, no credentials, no
    /// query.
    ///
    /// # Errors
    /// [`OutboundError::Url`].
    pub fn parse(url: &str) -> Result<Self, OutboundError> {
        let bad = |reason: &str| OutboundError::Url(reason.to_owned());
        let url = config::base_url(url).map_err(bad)?;
        let uri: Uri = url.parse().map_err(|_| bad("it is no URL"))?;
        let authority = uri.authority().ok_or_else(|| bad("the host is missing"))?;
        let https = uri.scheme_str() == Some("https");
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        let header = HeaderValue::try_from(authority.as_str()).map_err(|_| bad("the host"))?;
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { url, host, port, https, authority: header, prefix, ca_pem: None })
    }

    /// Trusts these roots too.
    #[must_use]
    pub fn with_ca(mut self, pem: Option<&str>) -> Self {
        self.ca_pem = pem.map(str::to_owned);
        self
    }

    /// Why its address is not to be asked, where the URL names one. What a name means is only known when it is asked.
    #[must_use]
    pub fn forbidden(&self) -> Option<Forbidden> {
        self.literal().and_then(|address| forbidden(address.ip()))
    }

    /// The address itself, where the URL names one.
    pub(super) fn literal(&self) -> Option<SocketAddr> {
        let ip: IpAddr = self.host.parse().ok()?;
        Some(SocketAddr::new(ip, self.port))
    }
}

/// A target whose addresses were resolved and checked. Only these are ever connected to.
#[derive(Debug, Clone)]
pub struct Located {
    pub(super) target: Target,
    pub(super) addresses: Vec<SocketAddr>,
}

impl Located {
    /// The normal form of its base URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.target.url
    }
}
