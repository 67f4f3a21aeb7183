//! Tokens: how they are made, kept and recognised. Only their digests are ever stored or compared.

use aws_lc_rs::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

use crate::api::caller::Caller;
use crate::api::problem::{Kind, Problem};
use crate::role::Role;

/// The tokens that are accepted.
pub(crate) struct Tokens {
    /// The digest of the configuration's token.
    configured: Option<[u8; 32]>,
}

impl Tokens {
    pub(crate) fn new(configured: Option<&str>) -> Self {
        Self { configured: configured.map(digest_of) }
    }

    /// Who presents this token.
    ///
    /// # Errors
    /// The same for every token that is not good.
    pub(crate) async fn check(&self, token: &str) -> Result<Caller, Problem> {
        let presented = digest_of(token);
        if let Some(digest) = &self.configured
            && bool::from(digest.ct_eq(&presented))
        {
            return Ok(Caller {
                name: "config".to_owned(),
                id: "config".to_owned(),
                role: Role::Admin,
            });
        }
        Err(Problem::new(Kind::Unauthorized, "the token is not valid"))
    }
}

/// What stands for a token: nothing that is stored or compared can be used in its place.
pub(crate) fn digest_of(token: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    out
}
