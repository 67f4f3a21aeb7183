//! Which headers cross the gateway, in either direction.

use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::plane::World;
use crate::report::{Cached, Report};

/// Request headers that go upstream by name, beside the prefixes below and `forward_headers`.
const FORWARDED: [HeaderName; 3] = [ACCEPT, USER_AGENT, HeaderName::from_static("traceparent")];
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Request headers that go upstream by the start of their name.
const FORWARDED_PREFIXES: [&str; 3] = ["openai-", "anthropic-", "x-stainless-"];
/// Never forwarded, whatever `forward_headers` says: framing, credentials, and what upstreams trust.
const NEVER_FORWARDED: [&str; 21] = [
    "authorization",
    "x-api-key",
    "api-key",
    "proxy-authorization",
    "cookie",
    "origin",
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "accept-encoding",
    "x-vllm-priority",
    "x-data-parallel-rank",
    "x-request-id",
];
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The client's headers that every attempt of a request carries.
pub(crate) fn forwarded(client: &HeaderMap, extra: &[String]) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(16);
    let hop_by_hop = named_by_connection(client);
    for (name, value) in client {
        let text = name.as_str();
        let wanted = FORWARDED.contains(name)
            || *name == TRACESTATE
            || FORWARDED_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
            || extra.iter().any(|extra| extra == text);
        if wanted && !NEVER_FORWARDED.contains(&text) && !hop_by_hop.contains(name) {
            out.append(name.clone(), value.clone());
        }
    }
    out.insert(CONTENT_TYPE, JSON);
    out.insert(ACCEPT_ENCODING, IDENTITY);
    out
}

/// Completes the headers of one attempt: the backend's own authority and credential, our own unique id.
pub(crate) fn address(
    headers: &mut HeaderMap,
    host: &HeaderValue,
    api_key: Option<&str>,
    id: HeaderValue,
) {
    headers.insert(HOST, host.clone());
    headers.insert(X_REQUEST_ID, id);
    if let Some(mut value) =
        api_key.and_then(|key| HeaderValue::try_from(format!("Bearer {key}")).ok())
    {
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
}

/// Response headers that are ours or the connection's, not the upstream's.
const STRIPPED: [HeaderName; 6] =
    [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, TE, TRAILER, UPGRADE];
const STRIPPED_NAMES: [&str; 9] = [
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "server",
    "date",
    "set-cookie",
    "x-request-id",
    "alt-svc",
    "strict-transport-security",
];

/// Takes out of an upstream's answer what must not reach a client: hop-by-hop headers, those that `Connection` names,
/// and what speaks for the gateway.
pub(crate) fn clean_response(headers: &mut HeaderMap) {
    let named = named_by_connection(headers);
    for name in STRIPPED.iter().chain(&named) {
        headers.remove(name);
    }
    for name in STRIPPED_NAMES {
        headers.remove(name);
    }
    let ours: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            name.as_str().starts_with("x-forebay-") || name.as_str().starts_with("access-control-")
        })
        .cloned()
        .collect();
    for name in ours {
        headers.remove(name);
    }
}

/// The headers that concern one connection only, because its `Connection` header says so (RFC 9110, 7.6.1).
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect()
}

/// Names where an answer, or the last attempt at one, came from: names only, never URLs.
pub(crate) fn origin(world: &World, report: &Report, headers: &mut HeaderMap) {
    cached(world, report, headers);
    let from_somewhere = report.attempts > 0 || report.cached == Some(Cached::Hit);
    if !world.service().expose_headers || !from_somewhere {
        return;
    }
    let pairs = [
        ("x-forebay-backend", report.backend.as_deref()),
        ("x-forebay-region", report.region.as_deref()),
        ("x-forebay-head", report.head.as_deref()),
        ("x-forebay-model", report.model.as_deref()),
    ];
    for (name, value) in pairs {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    if report.attempts > 0 {
        headers.insert("x-forebay-attempts", HeaderValue::from(report.attempts));
    }
}

/// Says what the cache did, where it was asked.
pub(crate) fn cached(world: &World, report: &Report, headers: &mut HeaderMap) {
    if let Some(cached) = report.cached.filter(|_| world.service().expose_headers) {
        headers.insert("x-forebay-cache", HeaderValue::from_static(cached.as_str()));
    }
}

/// Browsers of an allowed origin may read the answer.
pub(crate) fn cors(headers: &mut HeaderMap, allowed: &[String], origin: Option<&HeaderValue>) {
    let Some(origin) = origin.filter(|_| !allowed.is_empty()) else { return };
    let any = allowed.iter().any(|allowed| allowed == "*");
    if any || allowed.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) {
        let value = if any { HeaderValue::from_static("*") } else { origin.clone() };
        headers.insert("access-control-allow-origin", value);
        headers.insert("access-control-expose-headers", HeaderValue::from_static("*"));
        if !any {
            headers.append("vary", HeaderValue::from_static("origin"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_allow_list_goes_upstream_and_credentials_never() {
        let mut client = HeaderMap::new();
        for name in [
            "authorization",
            "x-api-key",
            "cookie",
            "origin",
            "x-forwarded-for",
            "x-vllm-priority",
            "x-custom",
            "x-wanted",
            "openai-project",
            "x-stainless-lang",
            "accept-encoding",
        ] {
            client.insert(HeaderName::from_static(name), HeaderValue::from_static("v"));
        }
        let extra = ["x-wanted".to_owned(), "authorization".to_owned()];
        let out = forwarded(&client, &extra);
        let mut names: Vec<_> = out.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["accept-encoding", "content-type", "openai-project", "x-stainless-lang", "x-wanted"]
        );
        assert_eq!(out["accept-encoding"], "identity");
    }

    #[test]
    fn what_connection_names_is_removed_with_it() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("close, x-hop"));
        headers.insert("x-hop", HeaderValue::from_static("1"));
        headers.insert("x-forebay-backend", HeaderValue::from_static("spoof"));
        headers.insert("openai-processing-ms", HeaderValue::from_static("5"));
        clean_response(&mut headers);
        assert_eq!(headers.len(), 1);
        assert!(headers.contains_key("openai-processing-ms"));
    }
}
