//! Who is calling: one extractor for every way to carry a key, and one look-up.

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use router::spec::{KeyDigest, KeySpec};

use crate::error::{ErrorKind, Rejection};
use crate::plane::World;

/// Headers that carry a key as it is, beside `Authorization: Bearer`.
const PLAIN_CARRIERS: [&str; 2] = ["x-api-key", "api-key"];
const SCHEME: &[u8] = b"bearer ";

/// The digest under which a snapshot knows a secret.
#[must_use]
pub fn key_digest(secret: &str) -> KeyDigest {
    keyed(digest(&SHA256, secret.as_bytes()).as_ref())
}

/// The same for a secret of which only the SHA-256 is known.
#[must_use]
pub fn key_digest_of_sha256(sha256: &[u8; 32]) -> KeyDigest {
    keyed(sha256)
}

/// A second, keyed hash, whose key lives only in this process: what a look-up's time may tell of it tells nothing of a
/// secret, nor of its plain hash.
fn keyed(sha256: &[u8]) -> KeyDigest {
    static KEY: OnceLock<[u8; 32]> = OnceLock::new();
    let key = KEY.get_or_init(|| {
        let mut key = [0; 32];
        if aws_lc_rs::rand::fill(&mut key).is_err() {
            // No randomness, no secret key: the plain hash still has to be met whole.
            tracing::warn!("the system gives no randomness; key digests are not keyed");
        }
        key
    });
    KeyDigest(*blake3::keyed_hash(key, sha256).as_bytes())
}

/// The caller's key; `None` where none is needed and none that we know was given.
///
/// A key that we know is held to even where none is needed: it only narrows.
pub(crate) fn authenticate(
    world: &World,
    headers: &HeaderMap,
) -> Result<Option<Arc<KeySpec>>, Rejection> {
    let required = world.spec().auth.required;
    if !required && world.spec().keys.is_empty() {
        return Ok(None);
    }
    let Some(secret) = presented(headers)? else {
        return if required { Err(refused()) } else { Ok(None) };
    };
    let known = std::str::from_utf8(secret).ok().and_then(|secret| world.key(&key_digest(secret)));
    match known {
        Some(key) if key.is_valid(unix_now()) => Ok(Some(Arc::clone(key))),
        // A client of an open gateway may send any key, as SDKs insist on one; a revoked one is refused all the same.
        None if !required => Ok(None),
        Some(_) | None => Err(refused()),
    }
}

/// A key that was good a while ago, as a world of now knows it: revoked, it is refused.
pub(crate) fn still(
    world: &World,
    key: Option<&KeySpec>,
) -> Result<Option<Arc<KeySpec>>, Rejection> {
    let required = world.spec().auth.required;
    match key.and_then(|key| world.key(&key.digest)) {
        Some(key) if key.is_valid(unix_now()) => Ok(Some(Arc::clone(key))),
        None if !required => Ok(None),
        Some(_) | None => Err(refused()),
    }
}

/// The same words whatever was wrong.
fn refused() -> Rejection {
    Rejection::new(ErrorKind::InvalidApiKey, "a valid API key is needed: Authorization: Bearer KEY")
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The one secret that the headers carry.
fn presented(headers: &HeaderMap) -> Result<Option<&[u8]>, Rejection> {
    let bearer = headers.get_all(AUTHORIZATION).iter().filter_map(|value| bearer(value.as_bytes()));
    let plain = PLAIN_CARRIERS.iter().flat_map(|name| headers.get_all(*name));
    let mut all = bearer.chain(plain.map(|value| value.as_bytes().trim_ascii()));
    let Some(first) = all.next() else { return Ok(None) };
    if all.any(|other| other != first) {
        let message = "the request carries two different keys";
        return Err(Rejection::new(ErrorKind::InvalidRequest, message));
    }
    Ok(Some(first))
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, secret) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| secret.trim_ascii())
}

/// Whether a key may ask for a model by this name.
pub(crate) fn permit_model(key: Option<&KeySpec>, name: &str) -> Result<(), Rejection> {
    if key.is_none_or(|key| key.allows_model(name)) {
        return Ok(());
    }
    let message = format!("this key may not use the model {name:?}");
    Err(Rejection::new(ErrorKind::PermissionDenied, message).param(Some("model")))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn every_carrier_gives_the_same_secret() {
        for pair in [
            ("authorization", "Bearer k-1"),
            ("authorization", "bearer  k-1 "),
            ("x-api-key", "k-1"),
            ("api-key", "k-1"),
        ] {
            assert_eq!(presented(&headers(&[pair])).unwrap(), Some(&b"k-1"[..]), "{pair:?}");
        }
        assert_eq!(presented(&headers(&[("authorization", "Basic azox")])).unwrap(), None);
        let same = headers(&[("authorization", "Bearer k"), ("x-api-key", "k")]);
        assert_eq!(presented(&same).unwrap(), Some(&b"k"[..]));
        let two = headers(&[("authorization", "Bearer a"), ("x-api-key", "b")]);
        assert!(presented(&two).is_err());
    }

    #[test]
    fn a_secret_and_its_sha256_are_one_key() {
        let sha256: [u8; 32] = digest(&SHA256, b"secret").as_ref().try_into().unwrap();
        assert_eq!(key_digest("secret"), key_digest_of_sha256(&sha256));
        assert_ne!(key_digest("secret"), key_digest("secret2"));
        assert_ne!(key_digest("secret").0, sha256);
    }
}
