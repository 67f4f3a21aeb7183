//! Request ids: the client's, echoed to it, and our own, which upstreams see.

use std::fmt::Write as _;

use http::HeaderValue;

/// Longest client id that is echoed, bytes.
pub(crate) const CLIENT_ID_MAX: usize = 128;

/// The id of one request.
#[derive(Debug, Clone)]
pub(crate) struct RequestId {
    own: String,
    client: Option<String>,
}

impl RequestId {
    /// Our own id from `random`, and the client's where it is printable ASCII of a sane length.
    pub(crate) fn new(random: u128, client: Option<&HeaderValue>) -> Self {
        let mut own = String::with_capacity(35);
        // Writing to a String cannot fail.
        let _ = write!(own, "fb-{random:032x}");
        let client = client
            .map(HeaderValue::as_bytes)
            .filter(|id| !id.is_empty() && id.len() <= CLIENT_ID_MAX)
            .filter(|id| id.iter().all(|byte| (0x21..=0x7e).contains(byte)))
            .and_then(|id| std::str::from_utf8(id).ok())
            .map(str::to_owned);
        Self { own, client }
    }

    /// What the client is told: its own id if it gave a valid one.
    pub(crate) fn as_str(&self) -> &str {
        self.client.as_deref().unwrap_or(&self.own)
    }

    /// Ours alone, unique whatever clients send.
    pub(crate) fn own(&self) -> &str {
        &self.own
    }

    /// What an upstream sees: vLLM refuses an id that it has seen, so each attempt has its own.
    pub(crate) fn upstream(&self, attempt: u32) -> HeaderValue {
        let mut text = String::with_capacity(self.own.len() + 4);
        let _ = write!(text, "{}-{attempt}", self.own);
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("fb"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_client_id_is_echoed_and_never_sent_upstream() {
        let id = RequestId::new(7, Some(&HeaderValue::from_static("mine-1")));
        assert_eq!(id.as_str(), "mine-1");
        assert_eq!(id.upstream(2), format!("fb-{:032x}-2", 7));
    }

    #[test]
    fn an_id_that_is_long_or_not_printable_is_replaced() {
        let long = HeaderValue::from_str(&"x".repeat(CLIENT_ID_MAX + 1)).unwrap();
        for bad in [HeaderValue::from_static("a b"), HeaderValue::from_static(""), long] {
            assert!(RequestId::new(1, Some(&bad)).as_str().starts_with("fb-"));
        }
    }
}
