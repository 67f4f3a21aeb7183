//! Lists, reads and writes of backends, models, heads, regions and keys: the same for all of them.

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use router::health::HealthState;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::IntoParams;

use crate::api::call::Call;
use crate::api::collection::{COLLECTIONS, Collection, OPERABLE};
use crate::api::extract::{BODY_MAX, Id, Query, expect_type, json, read};
use crate::api::json::Object as Unique;
use crate::api::object::{READ_ONLY, Surroundings, answer, json_response, show, written};
use crate::api::object_operations as operations;
use crate::api::page;
use crate::api::problem::{Flaw, Kind, Problem};
use crate::api::route::Route;
use crate::api::state::Api;
use crate::api::tag::Condition;
use crate::api::world::World;
use crate::registry::{Object, Written};
use crate::role::Role;
use crate::store::ObjectKind;

pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";

/// Which objects of a kind.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// Names that begin so.
    name: Option<String>,
    /// From there: `file`, `stored`, `discovered` or `builtin`.
    origin: Option<String>,
    /// In this region.
    region: Option<String>,
    /// Backends of this kind.
    kind: Option<String>,
    /// In this live state: `online`, `degraded`, `offline`, `draining` or `unknown`.
    state: Option<String>,
    /// Most entries of the page.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<u32>,
    /// The page's beginning, from `next_cursor` of the page before.
    cursor: Option<String>,
}

pub(crate) fn routes() -> Vec<Route> {
    COLLECTIONS.iter().flat_map(of_collection).collect()
}

fn of_collection(collection: &'static Collection) -> Vec<Route> {
    let Collection { path, item, .. } = *collection;
    let mut routes = vec![
        Route::get(
            path,
            Role::Viewer,
            operations::list(collection),
            move |state: State<Api>, filter: Query<Filter>| list(state, collection, filter),
        ),
        Route::get(
            item,
            Role::Viewer,
            operations::get(collection),
            move |state: State<Api>, id: Id| get(state, collection, id),
        ),
        Route::post(
            path,
            Role::Admin,
            operations::create(collection),
            move |call: Call, request: Request| create(collection, call, request),
        ),
        Route::put(
            item,
            Role::Admin,
            operations::replace(collection),
            move |call: Call, id: Id, condition: Condition, request: Request| {
                replace(collection, call, id, condition, request)
            },
        ),
        Route::patch(
            item,
            collection.patch,
            operations::patch(collection),
            move |call: Call, id: Id, condition: Condition, request: Request| {
                patch(collection, call, id, condition, request)
            },
        ),
        Route::delete(
            item,
            Role::Admin,
            operations::delete(collection),
            move |call: Call, id: Id, condition: Condition| delete(collection, call, id, condition),
        ),
    ];
    if let Some((path, role)) = collection.overrides {
        routes.push(Route::put(
            path,
            role,
            operations::put_override(collection),
            move |call: Call, id: Id, condition: Condition, request: Request| {
                put_override(collection, call, id, condition, request)
            },
        ));
        routes.push(Route::delete(
            path,
            role,
            operations::clear_override(collection),
            move |call: Call, id: Id, condition: Condition| {
                clear_override(collection, call, id, condition)
            },
        ));
    }
    routes
}

async fn list(
    State(api): State<Api>,
    collection: &'static Collection,
    Query(filter): Query<Filter>,
) -> Result<Response, Problem> {
    let limit = page::limit(filter.limit)?;
    let after = page::key_of(filter.cursor.as_deref())?;
    let wanted = filter.checked()?;
    let world = api.world().await?;
    let desired = api.registry().desired();
    let routes = api.routes_of(&desired, &world.catalog);
    let around = Surroundings { world: &world, desired: &desired, routes: routes.as_deref() };
    let mut objects = api.registry().objects(collection.kind, &world.catalog);
    objects.sort_by(|one, other| one.name.cmp(&other.name));
    let chosen = objects.iter().filter(|object| wanted.fits(object, &around));
    let page = page::page(
        chosen,
        |object| &object.name,
        after.as_deref(),
        limit,
        |object| show(object, &around),
    );
    Ok(json_response(StatusCode::OK, &page))
}

/// A filter whose words are known.
struct Wanted {
    filter: Filter,
    state: Option<HealthState>,
}

impl Filter {
    fn checked(self) -> Result<Wanted, Problem> {
        let state = match &self.state {
            None => None,
            Some(word) => {
                let found = HealthState::ALL.into_iter().find(|state| state.as_str() == word);
                Some(found.ok_or_else(|| {
                    Problem::parameter("state", "online, degraded, offline, draining or unknown")
                })?)
            }
        };
        if self.origin.as_ref().is_some_and(|word| {
            !["file", "stored", "discovered", "builtin"].contains(&word.as_str())
        }) {
            return Err(Problem::parameter("origin", "file, stored, discovered or builtin"));
        }
        Ok(Wanted { filter: self, state })
    }
}

impl Wanted {
    fn fits(&self, object: &Object, around: &Surroundings<'_>) -> bool {
        let Filter { name, origin, region, kind, .. } = &self.filter;
        let field = |name: &str| object.body.get(name).and_then(Value::as_str);
        name.as_ref().is_none_or(|prefix| object.name.starts_with(prefix))
            && origin.as_ref().is_none_or(|origin| object.origin.as_str() == origin)
            && region.as_ref().is_none_or(|region| field("region") == Some(region))
            && kind.as_ref().is_none_or(|kind| field("kind") == Some(kind))
            && self.state.is_none_or(|state| {
                let shown = show(object, around);
                let status = shown.get("status");
                let first = status.and_then(|status| status.get(0)).or(status);
                match object.kind {
                    ObjectKind::Backend => around.world.state_of(&object.name) == state,
                    _ => first.and_then(|status| status["state"].as_str()) == Some(state.as_str()),
                }
            })
    }
}

async fn get(
    State(api): State<Api>,
    collection: &'static Collection,
    Id(id): Id,
) -> Result<Response, Problem> {
    let world = api.world().await?;
    let object = api.registry().object(collection.kind, &id, &world.catalog);
    let object = object.ok_or_else(|| Problem::not_found(collection.word, &id))?;
    let shown = with_surroundings(&api, &world, |around| show(&object, around));
    Ok(answer(StatusCode::OK, &object, &shown))
}

async fn create(
    collection: &'static Collection,
    call: Call,
    request: Request,
) -> Result<Response, Problem> {
    let body = object_of(request, "application/json").await?;
    let world = call.api.world().await?;
    let change = call.change(None, &world);
    let done = call.api.registry().create(collection.kind, whole(body)?, change).await?;
    finish(&call.api, StatusCode::CREATED, collection, &done).await
}

async fn replace(
    collection: &'static Collection,
    call: Call,
    Id(id): Id,
    Condition(condition): Condition,
    request: Request,
) -> Result<Response, Problem> {
    let body = object_of(request, "application/json").await?;
    let world = call.api.world().await?;
    let change = call.change(Some(condition), &world);
    let done = call.api.registry().replace(collection.kind, &id, whole(body)?, change).await?;
    finish(&call.api, StatusCode::OK, collection, &done).await
}

async fn patch(
    collection: &'static Collection,
    call: Call,
    Id(id): Id,
    Condition(condition): Condition,
    request: Request,
) -> Result<Response, Problem> {
    let patch = writable(object_of(request, MERGE_PATCH).await?);
    operable(&call, &patch)?;
    let world = call.api.world().await?;
    let change = call.change(Some(condition), &world);
    let done = call.api.registry().patch(collection.kind, &id, patch, change).await?;
    finish(&call.api, StatusCode::OK, collection, &done).await
}

async fn delete(
    collection: &'static Collection,
    call: Call,
    Id(id): Id,
    Condition(condition): Condition,
) -> Result<Response, Problem> {
    let world = call.api.world().await?;
    let change = call.change(Some(condition), &world);
    let mut done = call.api.registry().delete(collection.kind, &id, change).await?;
    done.object = None;
    finish(&call.api, StatusCode::NO_CONTENT, collection, &done).await
}

async fn put_override(
    collection: &'static Collection,
    call: Call,
    Id(id): Id,
    Condition(condition): Condition,
    request: Request,
) -> Result<Response, Problem> {
    let body = object_of(request, "application/json").await?;
    operable(&call, &body)?;
    let world = call.api.world().await?;
    let change = call.change(Some(condition), &world);
    let done = call.api.registry().set_override(collection.kind, &id, body, change).await?;
    finish(&call.api, StatusCode::OK, collection, &done).await
}

async fn clear_override(
    collection: &'static Collection,
    call: Call,
    Id(id): Id,
    Condition(condition): Condition,
) -> Result<Response, Problem> {
    let world = call.api.world().await?;
    let change = call.change(Some(condition), &world);
    let done = call.api.registry().clear_override(collection.kind, &id, change).await?;
    finish(&call.api, StatusCode::OK, collection, &done).await
}

/// Operators switch and weigh; everything else is an admin's.
fn operable(call: &Call, body: &Map<String, Value>) -> Result<(), Problem> {
    let foreign = body.keys().find(|name| !OPERABLE.contains(&name.as_str()));
    match foreign.filter(|_| call.caller.role < Role::Admin) {
        None => Ok(()),
        Some(name) => {
            let words = format!("an operator may change {}, not {name:?}", OPERABLE.join(", "));
            Err(Problem::new(Kind::Forbidden, words))
        }
    }
}

/// The body, without what answers hold beside the keys of the file: what was read can be sent back.
fn writable(mut body: Map<String, Value>) -> Map<String, Value> {
    READ_ONLY.iter().for_each(|name| {
        body.remove(*name);
    });
    body
}

/// The body of an object that is given whole: what is not there is left out, and null stands for nothing.
fn whole(body: Map<String, Value>) -> Result<Map<String, Value>, Problem> {
    let body = writable(body);
    let null = body.iter().find(|(_, value)| value.is_null());
    if let Some((name, _)) = null {
        return Err(Problem::invalid(vec![Flaw {
            pointer: format!("/{}", name.replace('~', "~0").replace('/', "~1")),
            code: "invalid-value".to_owned(),
            detail: "null removes a part in a merge patch; here, leave it out".to_owned(),
        }]));
    }
    Ok(body)
}

/// A body that is one JSON object.
pub(crate) async fn object_of(
    request: Request,
    media: &str,
) -> Result<Map<String, Value>, Problem> {
    let (parts, body) = request.into_parts();
    expect_type(&parts.headers, media)?;
    let Unique(body) = json(&read(body, BODY_MAX).await?)?;
    Ok(body)
}

/// The answer to a write, with the live state after it.
pub(crate) async fn finish(
    api: &Api,
    status: StatusCode,
    collection: &Collection,
    done: &Written,
) -> Result<Response, Problem> {
    let world = api.world().await?;
    Ok(with_surroundings(api, &world, |around| written(status, collection, done, around)))
}

fn with_surroundings<T>(api: &Api, world: &World, work: impl FnOnce(&Surroundings<'_>) -> T) -> T {
    let desired = api.registry().desired();
    let routes = api.routes_of(&desired, &world.catalog);
    work(&Surroundings { world, desired: &desired, routes: routes.as_deref() })
}
