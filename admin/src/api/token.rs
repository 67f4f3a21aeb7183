//! Tokens of this API: made once, shown once, and never worth more than the one that made them.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{ETAG, LOCATION};
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::api::call::Call;
use crate::api::extract::{BODY_MAX, Id, Json, Query, expect_type, read};
use crate::api::moment::{self, now_ms};
use crate::api::object::json_response;
use crate::api::objects::MERGE_PATCH;
use crate::api::operation::Operation;
use crate::api::page::{self, Page};
use crate::api::problem::{Flaw, Kind, Problem};
use crate::api::repeat::KeepInstead;
use crate::api::route::Route;
use crate::api::state::Api;
use crate::api::tag::Condition;
use crate::api::tokens::{CONFIGURED, digest_of, new_token};
use crate::registry::{Etag, IfMatch};
use crate::role::Role;
use crate::store::{StoreError, StoredToken, Tx, new_id};

/// Longest name of a token, in characters.
const NAME_MAX: usize = 64;

/// A token without itself.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Token {
    /// Its id.
    #[schema(example = "tok_2f6c1b7e9d0a")]
    id: String,
    /// Its name; audit and versions show it.
    #[schema(example = "ci")]
    name: String,
    /// `viewer`, `operator` or `admin`.
    #[schema(example = "operator")]
    role: &'static str,
    /// When it was made.
    #[schema(format = DateTime, example = "2026-03-01T09:30:00.000Z")]
    created_at: String,
    /// The name of the token that made it.
    created_by: String,
    /// From when on it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    expires: Option<String>,
    /// When it was last used, to the minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    last_used: Option<String>,
    /// It is refused.
    disabled: bool,
    /// The token itself; only in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// A token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenInput {
    /// Its name, which no other token has.
    #[schema(example = "ci", pattern = "^[A-Za-z0-9._-]{1,64}$")]
    name: String,
    /// `viewer`, `operator` or `admin`; not above the caller's own.
    #[schema(pattern = "^(viewer|operator|admin)$", example = "operator")]
    role: String,
    /// From when on it is refused.
    #[schema(format = DateTime)]
    expires: Option<String>,
}

/// What is to change of a token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenPatch {
    /// Its new name.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    name: Option<String>,
    /// Its new role; not above the caller's own.
    #[schema(pattern = "^(viewer|operator|admin)$")]
    role: Option<String>,
    /// Refused, or taken again.
    disabled: Option<bool>,
    /// From when on it is refused; null for never.
    #[serde(default, with = "nullable")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires: Option<Option<String>>,
}

mod nullable {
    //! Tells null from what is not there.
    use serde::{Deserialize, Deserializer};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Option<String>>, D::Error> {
        Option::<String>::deserialize(from).map(Some)
    }
}

/// Which part of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Part {
    /// Most entries of the page.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<u32>,
    /// The page's beginning, from `next_cursor` of the page before.
    cursor: Option<String>,
}

pub(crate) fn routes() -> Vec<Route> {
    let example = || {
        json!({
            "id": "tok_2f6c1b7e9d0a",
            "name": "ci",
            "role": "operator",
            "created_at": "2026-03-01T09:30:00.000Z",
            "created_by": "first",
            "disabled": false,
        })
    };
    vec![
        Route::get(
            "/admin/tokens",
            Role::Admin,
            Operation::new("listTokens", "tokens", "Lists tokens")
                .about("By name, without the tokens themselves. The configuration's own token is not among them.")
                .query::<Part>()
                .gives::<Page<Token>>(200, "A page.", json!({"data": [example()], "next_cursor": null}))
                .tagged(),
            list,
        ),
        Route::get(
            "/admin/tokens/{id}",
            Role::Admin,
            Operation::new("getToken", "tokens", "Shows one token").gives::<Token>(200, "The token.", example()).tagged(),
            get,
        ),
        Route::post(
            "/admin/tokens",
            Role::Admin,
            Operation::new("createToken", "tokens", "Makes a token")
                .about("The token is in this answer alone; a replay of an `Idempotency-Key` does not show it.")
                .takes::<TokenInput>(json!({"name": "ci", "role": "operator"}))
                .gives::<Token>(201, "It is made.", example())
                .header(201, "Location", "Where it is.")
                .header(201, "ETag", "Its state.")
                .fails(&[Kind::Exists])
                .repeatable(),
            create,
        ),
        Route::patch(
            "/admin/tokens/{id}",
            Role::Admin,
            Operation::new("patchToken", "tokens", "Changes a token")
                .about("A merge patch. The last token that may do everything keeps its role where the configuration has none.")
                .takes_type::<TokenPatch>(MERGE_PATCH, json!({"disabled": true}))
                .gives::<Token>(200, "It is changed.", example())
                .header(200, "ETag", "Its state now.")
                .fails(&[Kind::Exists, Kind::Conflict])
                .under_etag(),
            patch,
        ),
        Route::delete(
            "/admin/tokens/{id}",
            Role::Admin,
            Operation::new("deleteToken", "tokens", "Removes a token")
                .about("It is refused from then on, also where it is in use.")
                .gives_nothing(204, "It is gone.")
                .fails(&[Kind::Conflict])
                .under_etag(),
            delete,
        ),
    ]
}

fn show(token: &StoredToken) -> Token {
    Token {
        id: token.id.clone(),
        name: token.name.clone(),
        role: token.role.as_str(),
        created_at: moment::show(token.created_at),
        created_by: token.created_by.clone(),
        expires: token.expires.map(moment::show),
        last_used: token.last_used.map(moment::show),
        disabled: token.disabled,
        token: None,
    }
}

/// Changes with everything but the last use.
fn tag_of(token: &StoredToken) -> String {
    let facts = format!(
        "{}\0{}\0{}\0{:?}\0{}",
        token.id, token.name, token.role, token.expires, token.disabled
    );
    format!("\"{}\"", &blake3::hash(facts.as_bytes()).to_hex()[..24])
}

fn tagged(mut response: Response, token: &StoredToken) -> Response {
    if let Ok(tag) = HeaderValue::try_from(tag_of(token)) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

async fn list(State(api): State<Api>, Query(part): Query<Part>) -> Result<Response, Problem> {
    let limit = page::limit(part.limit)?;
    let after = page::key_of(part.cursor.as_deref())?;
    let all = api
        .store()
        .read(|tx| tx.tokens())
        .await
        .map_err(|error: StoreError| Problem::from(error))?;
    let page =
        page::page(all.iter(), |token| &token.name, after.as_deref(), limit, |token| show(token));
    Ok(json_response(StatusCode::OK, &page))
}

async fn get(State(api): State<Api>, Id(id): Id) -> Result<Response, Problem> {
    let wanted = id.clone();
    let found = api
        .store()
        .read(move |tx| tx.token(&wanted))
        .await
        .map_err(|error: StoreError| Problem::from(error))?;
    let token = found.ok_or_else(|| Problem::not_found("token", &id))?;
    Ok(tagged(json_response(StatusCode::OK, &show(&token)), &token))
}

async fn create(call: Call, Json(input): Json<TokenInput>) -> Result<Response, Problem> {
    let secret = new_token()
        .ok_or_else(|| Problem::new(Kind::Internal, "the system gives no randomness"))?;
    let token = StoredToken {
        id: new_id("tok", &mut fastrand::Rng::new()),
        name: name_of(&input.name)?,
        role: role_of(&input.role, call.caller.role)?,
        digest: digest_of(&secret),
        created_at: now_ms(),
        created_by: call.caller.name.clone(),
        expires: input.expires.as_deref().map(expiry_of).transpose()?,
        last_used: None,
        disabled: false,
    };
    let audit = call.audit(
        "token.create",
        &format!("token/{}", token.name),
        json!({"role": token.role.as_str()}),
    );
    let stored = token.clone();
    let done = call.api.store().write(move |tx| {
        tx.add_token(&stored)?;
        tx.add_audit(&audit)
    });
    done.await.map_err(|error: StoreError| taken(error, &token.name))?;
    let kept = serde_json::to_vec(&show(&token)).unwrap_or_default();
    let shown = Token { token: Some(secret.to_string()), ..show(&token) };
    let mut response = tagged(json_response(StatusCode::CREATED, &shown), &token);
    response.extensions_mut().insert(KeepInstead(kept.into()));
    if let Ok(place) = HeaderValue::try_from(format!("/admin/tokens/{}", token.id)) {
        response.headers_mut().insert(LOCATION, place);
    }
    Ok(response)
}

async fn patch(
    call: Call,
    Id(id): Id,
    Condition(condition): Condition,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    expect_type(&parts.headers, MERGE_PATCH)?;
    let patch: TokenPatch = crate::api::extract::json(&read(body, BODY_MAX).await?)?;
    let name = patch.name.as_deref().map(name_of).transpose()?;
    let role = patch.role.as_deref().map(|role| role_of(role, call.caller.role)).transpose()?;
    let expires = match patch.expires {
        None => None,
        Some(None) => Some(None),
        Some(Some(text)) => Some(Some(expiry_of(&text)?)),
    };
    let change = move |token: &mut StoredToken| {
        if let Some(name) = name {
            token.name = name;
        }
        token.role = role.unwrap_or(token.role);
        token.disabled = patch.disabled.unwrap_or(token.disabled);
        token.expires = expires.unwrap_or(token.expires);
    };
    let token = edit(call, id, condition, "token.patch", Some(change)).await?;
    Ok(tagged(json_response(StatusCode::OK, &show(&token)), &token))
}

async fn delete(
    call: Call,
    Id(id): Id,
    Condition(condition): Condition,
) -> Result<Response, Problem> {
    edit(call, id, condition, "token.delete", None::<fn(&mut StoredToken)>).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Changes or (without a change) removes a token, under the condition, in one transaction.
async fn edit<F>(
    call: Call,
    id: String,
    condition: IfMatch,
    action: &'static str,
    change: Option<F>,
) -> Result<StoredToken, Problem>
where
    F: FnOnce(&mut StoredToken) + Send + 'static,
{
    let configured = call.api.tokens().is_configured();
    let api = call.api.clone();
    let done = api.store().write(move |tx| {
        let Some(mut token) = tx.token(&id)? else { return Err(Problem::not_found("token", &id)) };
        let tag = tag_of(&token);
        if !condition.holds(&Etag(tag.clone())) {
            return Err(Problem::new(Kind::Stale, "the token has changed").with_etag(tag));
        }
        if token.role > call.caller.role {
            return Err(Problem::new(Kind::Forbidden, "a token above the caller's role"));
        }
        match change {
            Some(change) => {
                let name = token.name.clone();
                change(&mut token);
                tx.update_token(&token).map_err(|error| taken(error, &name))?;
            }
            None => {
                tx.delete_token(&token.id)?;
            }
        }
        if !configured && !someone_remains(tx)? {
            // Undoes the change: the transaction fails.
            return Err(Problem::new(
                Kind::Conflict,
                "nobody could change anything after this: it is the last admin token",
            ));
        }
        tx.add_audit(&call.audit(
            action,
            &format!("token/{}", token.name),
            json!({"role": token.role.as_str()}),
        ))?;
        Ok(token)
    });
    done.await
}

/// Whether a token is left that may do everything.
fn someone_remains(tx: &Tx) -> Result<bool, StoreError> {
    let now = now_ms();
    for token in tx.tokens()? {
        let good = !token.disabled && token.expires.is_none_or(|at| now < at);
        if good && tx.worth(&token)? == Role::Admin {
            return Ok(true);
        }
    }
    Ok(false)
}

fn taken(error: StoreError, name: &str) -> Problem {
    match error {
        StoreError::Taken => {
            Problem::new(Kind::Exists, format!("there is already a token called {name:?}"))
        }
        error => Problem::from(error),
    }
}

fn flaw(pointer: &str, detail: impl Into<String>) -> Problem {
    let detail = detail.into();
    Problem::invalid(vec![Flaw {
        pointer: pointer.to_owned(),
        code: "invalid_value".to_owned(),
        detail,
    }])
}

fn name_of(name: &str) -> Result<String, Problem> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(good) {
        return Err(flaw("/name", format!("1 to {NAME_MAX} letters, digits, `.`, `_` and `-`")));
    }
    if name == CONFIGURED {
        return Err(flaw("/name", "this is the name of the configuration's own token"));
    }
    Ok(name.to_owned())
}

fn role_of(role: &str, own: Role) -> Result<Role, Problem> {
    let role: Role = role.parse().map_err(|_| flaw("/role", "viewer, operator or admin"))?;
    if role > own {
        return Err(Problem::new(
            Kind::Forbidden,
            format!("a token of the role {own} makes none of the role {role}"),
        ));
    }
    Ok(role)
}

fn expiry_of(text: &str) -> Result<u64, Problem> {
    moment::parse(text).ok_or_else(|| {
        flaw("/expires", "a moment as in RFC 3339, for instance 2027-01-01T00:00:00Z")
    })
}
