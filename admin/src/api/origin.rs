//! Which pages and names may reach the listener: a page that a browser opened elsewhere must not, and neither a name that
//! was made to point here (DNS rebinding).

use std::net::{IpAddr, SocketAddr};

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderName, Uri};

use crate::api::problem::{Kind, Problem};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names of a listener.
#[derive(Debug, Clone)]
pub(crate) struct Origins {
    loopback: bool,
    hosts: Vec<String>,
}

impl Origins {
    /// `hosts` are further names, without ports.
    pub(crate) fn new(listener: SocketAddr, hosts: &[String]) -> Self {
        let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Self { loopback: listener.ip().is_loopback(), hosts }
    }

    /// The same listener with other names.
    pub(crate) fn with_hosts(&self, hosts: &[String]) -> Self {
        let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        Self { loopback: self.loopback, hosts }
    }

    /// Addresses cannot be rebound, so a listener that is not on loopback takes every one of them.
    fn knows(&self, host: &str) -> bool {
        let name = host.trim_start_matches('[').trim_end_matches(']');
        if name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
        {
            return true;
        }
        name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback() || !self.loopback)
    }
}

/// Refuses requests under names that are not ours, and those that a page of another site sends.
pub(crate) fn check(origins: &Origins, headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
    let refused = |words: &str| Err(Problem::new(Kind::HostRefused, words));
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return refused("one Host header is needed");
    };
    let Ok(host) = host.to_str() else { return refused("the Host header is not text") };
    if !origins.knows(name_of(host)) {
        return refused("the Host header names another host; see `admin.hosts`");
    }
    // The absolute form of a target takes the place of Host (RFC 9112, 3.2.2); the two must not differ.
    if uri.authority().is_some_and(|authority| !authority.as_str().eq_ignore_ascii_case(host)) {
        return refused("the target and the Host header differ");
    }
    let own = |origin: &str| {
        origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"))
            .is_some_and(|at| at.eq_ignore_ascii_case(host))
    };
    for origin in headers.get_all(ORIGIN) {
        if !origin.to_str().is_ok_and(own) {
            return Err(Problem::new(
                Kind::OriginRefused,
                "pages of other origins may not call this API",
            ));
        }
    }
    if headers.get_all(SEC_FETCH_SITE).iter().any(|site| site == "cross-site") {
        return Err(Problem::new(
            Kind::OriginRefused,
            "pages of other sites may not call this API",
        ));
    }
    Ok(())
}

/// The host without its port.
fn name_of(host: &str) -> &str {
    if host.starts_with('[') {
        return host.split_inclusive(']').next().unwrap_or(host);
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn allowed(listener: &str, pairs: &[(&'static str, &str)]) -> bool {
        let origins = Origins::new(listener.parse().unwrap(), &["forebay.example".to_owned()]);
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        check(&origins, &headers, &Uri::from_static("/admin/backends")).is_ok()
    }

    #[test]
    fn a_loopback_listener_answers_to_its_own_names() {
        for host in
            ["localhost:8081", "LOCALHOST", "127.0.0.1:8081", "[::1]:8081", "forebay.example:8081"]
        {
            assert!(allowed("127.0.0.1:8081", &[("host", host)]), "{host}");
        }
        let strangers =
            ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", ""];
        for host in strangers {
            assert!(!allowed("127.0.0.1:8081", &[("host", host)]), "{host}");
        }
        assert!(!allowed("127.0.0.1:8081", &[]));
        assert!(!allowed("127.0.0.1:8081", &[("host", "localhost"), ("host", "localhost")]));
    }

    #[test]
    fn another_listener_answers_to_addresses_and_to_names_that_were_given() {
        assert!(allowed("10.0.0.1:8081", &[("host", "10.0.0.1:8081")]));
        assert!(allowed("0.0.0.0:8081", &[("host", "forebay.example")]));
        assert!(!allowed("0.0.0.0:8081", &[("host", "evil.example")]));
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let host = ("host", "localhost:8081");
        assert!(allowed("127.0.0.1:8081", &[host, ("origin", "http://localhost:8081")]));
        for origin in [
            "http://evil.example",
            "null",
            "http://localhost:9999",
            "http://localhost:8081.evil.example",
        ] {
            assert!(!allowed("127.0.0.1:8081", &[host, ("origin", origin)]), "{origin}");
        }
        assert!(!allowed("127.0.0.1:8081", &[host, ("sec-fetch-site", "cross-site")]));
    }
}
