//! What a cached answer is found by: a keyed digest of everything that can change the answer.

use adapters::Canonical;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName};
use router::spec::{CacheScope, ModelSpec, RedisSpec};
use router::{Operation, RegionName, TenantName};

/// Changes whenever what is digested, or what is stored under it, changes.
const VERSION: u8 = 1;
/// What the digest's key is for, so that no other use of the same secret gives the same key (BLAKE3, `derive_key`).
const CONTEXT: &str = "forebay 2026-11 response cache";
/// Headers that go upstream but say nothing about the answer, beside `x-stainless-*`.
const SILENT: [HeaderName; 4] = [ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT];
const SILENT_NAMES: [&str; 2] = ["traceparent", "tracestate"];

/// The name of a cached answer.
pub(crate) type Digest = [u8; 32];

/// Everything beside the body that can change an answer, or who may see it.
pub(crate) struct Asked<'a> {
    pub(crate) scope: CacheScope,
    pub(crate) tenant: Option<&'a TenantName>,
    pub(crate) operation: Operation,
    pub(crate) stream: bool,
    /// The model that the client's name stands for.
    pub(crate) model: &'a ModelSpec,
    /// The regions that the answer may not leave.
    pub(crate) walls: Option<&'a [RegionName]>,
    pub(crate) query: Option<&'a str>,
    /// As they go upstream.
    pub(crate) headers: &'a HeaderMap,
}

/// The key of all digests. Gateways that share a Redis share it: it is made of the credentials in that URL, so that who
/// cannot read the store cannot tell from a digest what was asked, and needs no further secret. Without a Redis it is
/// made up at the start of the process.
pub(crate) fn secret(redis: Option<&RedisSpec>, own: &[u8; 32]) -> [u8; 32] {
    let Some(redis) = redis else { return *own };
    let url = redis.url.expose();
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let credentials = authority.rsplit_once('@').map_or("", |(credentials, _)| credentials);
    blake3::derive_key(CONTEXT, credentials.as_bytes())
}

/// Digests one request.
pub(crate) fn digest(secret: &[u8; 32], asked: &Asked<'_>, body: &Canonical<'_>) -> Digest {
    let mut hasher = blake3::Hasher::new_keyed(secret);
    hasher.update(&[VERSION, u8::from(asked.stream)]);
    part(&mut hasher, asked.operation.as_str());
    match (asked.scope, asked.tenant) {
        (CacheScope::Shared, _) => part(&mut hasher, "shared"),
        (CacheScope::Tenant, None) => part(&mut hasher, "nobody"),
        (CacheScope::Tenant, Some(tenant)) => {
            part(&mut hasher, "tenant");
            part(&mut hasher, tenant.as_str());
        }
    }
    model(&mut hasher, asked.model);
    match asked.walls {
        None => part(&mut hasher, "anywhere"),
        Some(walls) => {
            part(&mut hasher, "walls");
            list(&mut hasher, walls.iter().map(RegionName::as_str));
        }
    }
    list(&mut hasher, asked.query);
    headers(&mut hasher, asked.headers);
    body.feed(&mut |piece| {
        hasher.update(piece);
    });
    *hasher.finalize().as_bytes()
}

/// The model and what stands behind its name: another upstream model gives other answers.
fn model(hasher: &mut blake3::Hasher, model: &ModelSpec) {
    part(hasher, model.name.as_str());
    list(hasher, model.upstream_model.as_ref().map(AsRef::as_ref));
    let named = model.deployments.iter().filter_map(|deployment| {
        Some([deployment.backend.as_str(), deployment.upstream_model.as_ref()?.as_str()])
    });
    list(hasher, named.flatten());
}

fn headers(hasher: &mut blake3::Hasher, headers: &HeaderMap) {
    let mut telling: Vec<_> = headers
        .iter()
        .filter(|(name, _)| {
            let text = name.as_str();
            let silent = SILENT.contains(name) || SILENT_NAMES.contains(&text);
            !silent && !text.starts_with("x-stainless-")
        })
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    // Stable: the values of one name keep their order.
    telling.sort_by_key(|(name, _)| *name);
    hasher.update(&(telling.len() as u64).to_le_bytes());
    for (name, value) in telling {
        part(hasher, name);
        part(hasher, value);
    }
}

fn list<'a>(hasher: &mut blake3::Hasher, items: impl IntoIterator<Item = &'a str>) {
    for item in items {
        hasher.update(&[1]);
        part(hasher, item);
    }
    hasher.update(&[0]);
}

/// With its length, so that no two sequences of parts read the same.
fn part(hasher: &mut blake3::Hasher, part: impl AsRef<[u8]>) {
    let part = part.as_ref();
    hasher.update(&(part.len() as u64).to_le_bytes());
    hasher.update(part);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;
    use router::ModelName;
    use router::spec::Secret;

    use super::*;

    struct World {
        scope: CacheScope,
        tenant: Option<&'static str>,
        operation: Operation,
        stream: bool,
        model: ModelSpec,
        walls: Option<Vec<&'static str>>,
        query: Option<&'static str>,
        headers: HeaderMap,
        body: &'static str,
        secret: [u8; 32],
    }

    type Change = fn(&mut World);

    fn world() -> World {
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", HeaderValue::from_static("x"));
        World {
            scope: CacheScope::Tenant,
            tenant: Some("a"),
            operation: Operation::ChatCompletions,
            stream: false,
            model: ModelSpec::new(ModelName::try_from("m").unwrap()),
            walls: None,
            query: None,
            headers,
            body: r#"{"model":"m","temperature":0}"#,
            secret: [0; 32],
        }
    }

    fn digest_of(world: &World) -> Digest {
        let tenant = world.tenant.map(|name| TenantName::try_from(name).unwrap());
        let walls = world.walls.as_ref().map(|names| {
            names.iter().map(|name| RegionName::try_from(*name).unwrap()).collect::<Vec<_>>()
        });
        let asked = Asked {
            scope: world.scope,
            tenant: tenant.as_ref(),
            operation: world.operation,
            stream: world.stream,
            model: &world.model,
            walls: walls.as_deref(),
            query: world.query,
            headers: &world.headers,
        };
        let body = adapters::canonical(world.body.as_bytes(), 128).unwrap();
        digest(&world.secret, &asked, &body)
    }

    #[test]
    fn everything_that_matters_makes_another_key() {
        let changes: [(&str, Change); 17] = [
            ("as it is", |_| {}),
            ("another tenant", |w| w.tenant = Some("b")),
            ("nobody", |w| w.tenant = None),
            ("shared", |w| w.scope = CacheScope::Shared),
            ("another operation", |w| w.operation = Operation::Completions),
            ("a stream", |w| w.stream = true),
            ("another model", |w| w.model.name = ModelName::try_from("n").unwrap()),
            ("another upstream model", |w| {
                w.model.upstream_model = Some(ModelName::try_from("m2").unwrap());
            }),
            ("walls", |w| w.walls = Some(vec!["eu"])),
            ("other walls", |w| w.walls = Some(vec!["eu", "us"])),
            ("no region", |w| w.walls = Some(vec![])),
            ("a query", |w| w.query = Some("a=1")),
            ("an empty query", |w| w.query = Some("")),
            ("a header", |w| {
                w.headers.insert("openai-beta", HeaderValue::from_static("x"));
            }),
            ("two values", |w| {
                w.headers.append("openai-beta", HeaderValue::from_static("x"));
                w.headers.append("openai-beta", HeaderValue::from_static("y"));
            }),
            ("another body", |w| w.body = r#"{"model":"m","temperature":0,"seed":1}"#),
            ("another secret", |w| w.secret = [1; 32]),
        ];
        let mut seen = std::collections::HashMap::new();
        for (what, change) in changes {
            let mut world = world();
            change(&mut world);
            let before = seen.insert(digest_of(&world), what);
            assert_eq!(before, None, "{what}");
        }
    }

    #[test]
    fn what_says_nothing_about_the_answer_changes_nothing() {
        let base = digest_of(&world());
        let mut other = world();
        other.headers.insert("user-agent", HeaderValue::from_static("y"));
        other.headers.insert("x-stainless-lang", HeaderValue::from_static("js"));
        other.headers.insert("traceparent", HeaderValue::from_static("1"));
        other.body = r#"{ "user":"u", "temperature": 0, "model":"alias" }"#;
        assert_eq!(digest_of(&other), base);
        // Whoever asks: a shared answer is everyone's.
        let shared = |tenant| digest_of(&World { scope: CacheScope::Shared, tenant, ..world() });
        assert_eq!(shared(Some("a")), shared(None));
    }

    #[test]
    fn gateways_with_the_same_redis_share_digests_and_others_do_not() {
        let redis = |url: &str| RedisSpec {
            url: Secret::new(url),
            region: None,
            timeout: Duration::from_millis(25),
            replicas: None,
        };
        let of = |url: &str| secret(Some(&redis(url)), &[7; 32]);
        assert_eq!(of("redis://u:p@one:6379"), of("rediss://u:p@two:6380/0"));
        assert_ne!(of("redis://u:p@one:6379"), of("redis://u:q@one:6379"));
        assert_eq!(of("redis://one/x@y"), of("redis://two"));
        assert_eq!(secret(None, &[7; 32]), [7; 32]);
    }
}
