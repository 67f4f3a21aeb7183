//! What a client asks of the cache: `Cache-Control` (RFC 9111, 5.2.1) and `x-forebay-cache-ttl`.

use std::time::Duration;

use http::HeaderMap;
use http::header::CACHE_CONTROL;

use crate::error::{ErrorKind, Rejection};

const TTL: &str = "x-forebay-cache-ttl";

/// A client's wishes; the default is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wishes {
    /// No stored answer, but the new one may be stored.
    pub(crate) no_cache: bool,
    /// No stored answer, and nothing is stored.
    pub(crate) no_store: bool,
    /// A stored answer or none.
    pub(crate) only_if_cached: bool,
    /// A stored answer no older than this.
    pub(crate) max_age: Option<Duration>,
    /// How long the new one is kept.
    pub(crate) ttl: Option<Duration>,
}

/// Reads them; directives that mean nothing here are passed over.
///
/// # Errors
/// A lifetime that cannot be read.
pub(crate) fn wishes(headers: &HeaderMap) -> Result<Wishes, Rejection> {
    let mut wishes = Wishes::default();
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    for directive in values.flat_map(|value| value.split(',')) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-cache" => wishes.no_cache = true,
            "no-store" => wishes.no_store = true,
            "only-if-cached" => wishes.only_if_cached = true,
            "max-age" => {
                // What cannot be read is taken as "nothing is fresh enough".
                let seconds = value.trim().trim_matches('"').parse().unwrap_or(0);
                wishes.max_age = Some(Duration::from_secs(seconds));
            }
            _ => {}
        }
    }
    if let Some(value) = headers.get(TTL) {
        let ttl = value.to_str().ok().and_then(span).ok_or_else(|| {
            let message = format!("{TTL} is a time such as 600 (seconds) or 10m");
            Rejection::new(ErrorKind::InvalidRequest, message).param(Some(TTL))
        })?;
        wishes.no_store |= ttl.is_zero();
        wishes.ttl = Some(ttl);
    }
    Ok(wishes)
}

fn span(text: &str) -> Option<Duration> {
    let text = text.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(pairs: &[(&'static str, &str)]) -> Result<Wishes, Rejection> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        wishes(&headers)
    }

    #[test]
    fn directives() {
        assert_eq!(read(&[]).unwrap(), Wishes::default());
        let all =
            read(&[("cache-control", "No-Cache, max-age=\"5\""), ("cache-control", "no-store")]);
        let max_age = Some(Duration::from_secs(5));
        let expected = Wishes { no_cache: true, no_store: true, max_age, ..Wishes::default() };
        assert_eq!(all.unwrap(), expected);
        assert!(read(&[("cache-control", "only-if-cached")]).unwrap().only_if_cached);
        assert_eq!(read(&[("cache-control", "max-age=x")]).unwrap().max_age, Some(Duration::ZERO));
        assert_eq!(read(&[("cache-control", "no-transform, x=1")]).unwrap(), Wishes::default());
    }

    #[test]
    fn lifetimes() {
        let ttl = |text: &str| read(&[(TTL, text)]).map(|wishes| wishes.ttl);
        assert_eq!(ttl("90").unwrap(), Some(Duration::from_secs(90)));
        assert_eq!(ttl("10m").unwrap(), Some(Duration::from_secs(600)));
        assert!(read(&[(TTL, "0")]).unwrap().no_store);
        for bad in ["", "soon", "-1", "1.5"] {
            assert!(ttl(bad).is_err(), "{bad}");
        }
    }
}
