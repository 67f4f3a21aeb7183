//! What the store and the registry refuse, as problems.

use crate::api::problem::{Flaw, Kind, Problem};
use crate::registry::RegistryError;
use crate::store::StoreError;

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            error if error.is_storage() => Kind::StoreFull,
            StoreError::Busy => Kind::Busy,
            StoreError::Taken => Kind::Exists,
            _ => Kind::StoreUnavailable,
        };
        if matches!(kind, Kind::StoreFull | Kind::StoreUnavailable) {
            tracing::warn!(%error, "the store refused a request of the admin API");
        }
        Self::new(kind, error.to_string())
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        let detail = error.to_string();
        let kind = match error {
            RegistryError::Store(error) => return Self::from(error),
            RegistryError::Invalid(problems) => {
                let flaws = problems.into_iter().map(|problem| Flaw {
                    pointer: problem.pointer,
                    code: problem.code.to_owned(),
                    detail: problem.detail,
                });
                return Self::invalid(flaws.collect());
            }
            RegistryError::Stale { etag } => {
                return Self::new(Kind::Stale, detail).with_etag(etag.as_str());
            }
            RegistryError::NotFound { .. } => Kind::NotFound,
            RegistryError::Exists { .. } => Kind::Exists,
            RegistryError::ReadOnly { .. } => Kind::ReadOnly,
            RegistryError::Referenced { .. } => Kind::Referenced,
            RegistryError::NoMasterKey => Kind::NoMasterKey,
            RegistryError::AuthUnsaid | RegistryError::Publish(_) => Kind::Conflict,
            RegistryError::Follower => Kind::StoreUnavailable,
            RegistryError::Vault(_) | RegistryError::Damaged(_) => {
                tracing::error!(error = detail, "the registry cannot read what it keeps");
                Kind::Internal
            }
        };
        Self::new(kind, detail)
    }
}
