//! How tokens are made and recognised. Only their digests are ever stored or compared.
//!
//! A token is 256 random bits, so that a plain digest of it cannot be searched for.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::api::caller::Caller;
use crate::api::moment::now_ms;
use crate::api::problem::{Kind, Problem};
use crate::api::storage::Storage;
use crate::role::Role;
use crate::store::{Store, StoreError, StoredToken};

/// What every token begins with, so that scanners for secrets find them.
const PREFIX: &str = "fbt-";
/// The id and the name of the token that stands in the configuration.
pub(crate) const CONFIGURED: &str = "config";
/// A token's last use is written down at most this often.
const TOUCH_EVERY_MS: u64 = 60_000;
/// Most wrong tokens from one address within [`FAILURES_WINDOW`]; more are not looked at one by one in the log.
pub(crate) const FAILURES_MAX: u32 = 1000;
const FAILURES_WINDOW: Duration = Duration::from_secs(60);
/// Most addresses whose failures are counted.
const ADDRESSES_MAX: usize = 1024;

/// The tokens that are accepted.
pub(crate) struct Tokens {
    /// The digest of the configuration's token.
    configured: RwLock<Option<[u8; 32]>>,
    failures: Mutex<HashMap<IpAddr, (Instant, u32)>>,
}

impl Tokens {
    pub(crate) fn new(configured: Option<&str>) -> Self {
        Self { configured: RwLock::new(configured.map(digest_of)), failures: Mutex::default() }
    }

    /// Whether the configuration has a token.
    pub(crate) fn is_configured(&self) -> bool {
        self.configured().is_some()
    }

    /// The configuration has another token from now on.
    pub(crate) fn configure(&self, token: Option<&str>) {
        *self.configured.write().unwrap_or_else(PoisonError::into_inner) = token.map(digest_of);
    }

    fn configured(&self) -> Option<[u8; 32]> {
        *self.configured.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who presents this token. A good one is good however many bad ones came before it.
    ///
    /// # Errors
    /// The same for every token that is not good, until there were too many; and those of the store.
    pub(crate) async fn check(
        &self,
        store: &Storage,
        token: &str,
        from: Option<IpAddr>,
    ) -> Result<Caller, Problem> {
        let presented = digest_of(token);
        if self.configured().is_some_and(|digest| bool::from(digest.ct_eq(&presented))) {
            return Ok(Caller {
                name: CONFIGURED.to_owned(),
                id: CONFIGURED.to_owned(),
                role: Role::Admin,
            });
        }
        let now = now_ms();
        let found = store
            .read(move |tx| {
                let Some(token) = tx.token_by_digest(&presented)? else { return Ok(None) };
                let role = tx.worth(&token)?;
                Ok::<_, StoreError>(Some((token, role)))
            })
            .await?;
        let good = found
            .filter(|(token, _)| bool::from(token.digest.ct_eq(&presented)) && is_good(token, now));
        let Some((token, role)) = good else { return Err(self.refuse(from)) };
        if token.last_used.is_none_or(|at| now.saturating_sub(at) >= TOUCH_EVERY_MS) {
            touch(store, token.id.clone(), now);
        }
        Ok(Caller { name: token.name, id: token.id, role })
    }

    /// Counts a token that is not good.
    fn refuse(&self, from: Option<IpAddr>) -> Problem {
        let refused = Problem::new(Kind::Unauthorized, "the token is not valid");
        let Some(from) = from else { return refused };
        let now = Instant::now();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, (since, _)| now.duration_since(*since) < FAILURES_WINDOW);
        if failures.len() >= ADDRESSES_MAX && !failures.contains_key(&from) {
            return Problem::new(Kind::TooManyRequests, "too many tokens that are not valid");
        }
        let (_, count) = failures.entry(from).or_insert((now, 0));
        *count = count.saturating_add(1);
        match *count {
            1 => {
                tracing::warn!(address = %from, "a token that is not valid; more within a minute are counted only");
            }
            FAILURES_MAX => {
                tracing::warn!(address = %from, failures = *count, "too many tokens that are not valid");
            }
            count if count > FAILURES_MAX => {
                return Problem::new(Kind::TooManyRequests, "too many tokens that are not valid");
            }
            _ => {}
        }
        refused
    }
}

/// Neither disabled nor expired.
fn is_good(token: &StoredToken, now: u64) -> bool {
    !token.disabled && token.expires.is_none_or(|at| now < at)
}

/// The write is nobody's to wait for; a store that cannot be written still serves readers.
fn touch(store: &Storage, id: String, now: u64) {
    let store = Storage(Arc::clone(&store.0));
    tokio::spawn(async move {
        let done: Result<(), StoreError> = store.write(move |tx| tx.touch_token(&id, now)).await;
        if let Err(error) = done {
            tracing::debug!(%error, "a token's last use was not written down");
        }
    });
}

/// What stands for a token: nothing that is stored or compared can be used in its place.
pub(crate) fn digest_of(token: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    out
}

/// A new token; `None` when the system gives no randomness.
pub(crate) fn new_token() -> Option<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    rand::fill(&mut *bytes).ok()?;
    Some(Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(*bytes))))
}

/// Makes the first token when there is none, neither stored nor in the configuration. It may do everything.
pub(crate) fn first(store: &Store) -> Result<Option<Zeroizing<String>>, StoreError> {
    let Some(token) = new_token() else {
        return Err(StoreError::Other("the system gives no randomness".to_owned()));
    };
    let digest = digest_of(&token);
    let made = store.write_blocking(move |tx| {
        if !tx.tokens()?.is_empty() {
            return Ok::<_, StoreError>(false);
        }
        tx.add_token(&StoredToken {
            id: crate::store::new_id("tok", &mut fastrand::Rng::new()),
            name: "first".to_owned(),
            role: Role::Admin,
            digest,
            created_at: now_ms(),
            created_by: String::new(),
            expires: None,
            last_used: None,
            disabled: false,
        })?;
        Ok(true)
    })?;
    Ok(made.then_some(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_guess_are_counted_within_bounds() {
        let tokens = Tokens::new(None);
        let from = |n: u32| Some(IpAddr::V4(n.into()));
        for _ in 0..FAILURES_MAX {
            assert_eq!(tokens.refuse(from(1)).kind(), Kind::Unauthorized);
        }
        assert_eq!(tokens.refuse(from(1)).kind(), Kind::TooManyRequests);
        for n in 2..3000 {
            tokens.refuse(from(n));
        }
        assert_eq!(tokens.failures.lock().unwrap().len(), ADDRESSES_MAX);
    }

    #[test]
    fn tokens_are_long_and_differ() {
        let (one, other) = (new_token().unwrap(), new_token().unwrap());
        assert_ne!(*one, *other);
        assert_eq!(one.len(), PREFIX.len() + 43);
        assert_ne!(digest_of(&one), digest_of(&other));
    }
}
