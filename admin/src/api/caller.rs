//! Who is calling: the token of every request that reached a route, and what it may do.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;

use crate::api::problem::{Kind, Problem};
use crate::api::server::Peer;
use crate::api::state::Api;
use crate::role::Role;

/// A caller whose token was found to be good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The token's name, for audit and history.
    pub(crate) name: String,
    /// The token's id; that of the configuration's own token is `config`.
    pub(crate) id: String,
    /// What it may do.
    pub(crate) role: Role,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Problem::new(Kind::Unauthorized, NEEDED))
    }
}

/// The id of a request, for the audit and the log.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(|| Self(String::new())))
    }
}

const NEEDED: &str = "send `Authorization: Bearer TOKEN`";

/// Checks the token of every request, those for unknown paths and methods included, so that nobody without one learns
/// what there is. It runs after routing, on the route that will run.
pub(crate) async fn authenticate(
    State(api): State<Api>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let public = path.is_some_and(|path| api.is_public(request.method(), &path));
    if !public {
        let from = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
        match caller_of(&api, request.headers(), from).await {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
            }
            Err(problem) => return problem.into_response(),
        }
    }
    next.run(request).await
}

/// Who sends these headers. `from` is who is counted when the token is not good.
///
/// # Errors
/// As [`crate::api::tokens::Tokens::check`].
pub(crate) async fn caller_of(
    api: &Api,
    headers: &HeaderMap,
    from: Option<IpAddr>,
) -> Result<Caller, Problem> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (all.next(), all.next()) else {
        return Err(Problem::new(Kind::Unauthorized, NEEDED));
    };
    let token = value.to_str().ok().and_then(bearer);
    let token = token.ok_or_else(|| Problem::new(Kind::Unauthorized, NEEDED))?;
    api.tokens().check(api.store(), token, from).await
}

/// The token of `Bearer TOKEN`; the scheme's case does not matter (RFC 9110, 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::bearer;

    #[test]
    fn only_bearer_tokens_count() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc "), Some("abc"));
        for value in ["abc", "Basic abc", "Bearer", "Bearer ", ""] {
            assert_eq!(bearer(value), None, "{value:?}");
        }
    }
}
