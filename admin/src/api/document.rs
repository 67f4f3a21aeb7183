//! The OpenAPI document, made from the same table that serves.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};

use crate::api::object;
use crate::api::problem::{Flaw, Kind, ProblemBody};
use crate::api::route::{Access, Route};

/// The groups of operations, in the order of the page.
pub(crate) const TAGS: &[(&str, &str)] = &[
    (
        "backends",
        "Inference servers: what is registered, how they are, and what can be done with them.",
    ),
    ("models", "Public names of models, where they are served, and in which order."),
    ("heads", "Access points in a region, each a group of backends."),
    ("regions", "Regions and their neighbours."),
    ("keys", "The keys of those who call the public API."),
    ("tokens", "Tokens of this API."),
    ("config", "The configuration as a whole: what is in force, its versions, export and import."),
    ("state", "Live state of the data planes, and why requests go where they go."),
    ("operations", "Finding servers, measuring them, and purging the cache."),
    ("history", "What happened: events, audit, jobs."),
    ("documentation", "This document."),
];

const ABOUT: &str = "The control plane of forebay: a registry of backends, models, heads, regions and keys, and the live \
    state of the data planes that serve them.\n\nEvery request needs `Authorization: Bearer TOKEN`. Names in JSON are those \
    of the configuration file. Changes need `If-Match` with the `ETag` of what they change. Errors are problem details \
    (RFC 9457).";

/// The document, as pretty JSON with an end of line.
pub(crate) fn openapi(routes: &[Route]) -> String {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let mut schemas: BTreeMap<String, Value> = own_schemas();
    for route in routes {
        let mut operation = route.operation.to_json(&path_parameters(route.path), &common(route));
        operation.insert("x-forebay-role".to_owned(), role(route.access));
        if route.access == Access::Public {
            operation.insert("security".to_owned(), json!([]));
        }
        let item = paths.entry(route.path).or_default();
        item.insert(route.method.as_str().to_ascii_lowercase(), Value::Object(operation));
        schemas.extend(route.operation.schemas.iter().cloned());
    }
    let used = |tag: &str| routes.iter().any(|route| route.operation.tag == tag);
    let tags: Vec<Value> = TAGS
        .iter()
        .filter(|(name, _)| used(name))
        .map(|(name, words)| json!({"name": name, "description": words}))
        .collect();
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "forebay admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "contact": {"name": "forebay", "url": "https://github.com/forebay/forebay"},
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The listener that served this document."}],
        "security": [{"token": []}],
        "tags": tags,
        "paths": paths,
        "x-forebay-problems": problems(),
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "A token of this API."},
            },
            "parameters": parameters(),
            "schemas": schemas,
        },
    });
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

fn problems() -> Vec<Value> {
    let problem = |kind: Kind| {
        let row = kind.row();
        json!({"code": row.code, "status": row.status.as_u16(), "title": row.title, "description": kind.words()})
    };
    Kind::ALL.into_iter().map(problem).collect()
}

fn role(access: Access) -> Value {
    match access {
        Access::Public => Value::Null,
        Access::Role(role) => json!(role.as_str()),
    }
}

/// The problems that every route of a shape has.
fn common(route: &Route) -> Vec<Kind> {
    let mut kinds =
        vec![Kind::HostRefused, Kind::OriginRefused, Kind::TooManyRequests, Kind::Internal];
    if route.access != Access::Public {
        kinds.extend([Kind::Unauthorized, Kind::Forbidden, Kind::Busy, Kind::StoreUnavailable]);
    }
    if route.path.contains('{') {
        kinds.extend([Kind::NotFound, Kind::InvalidRequest]);
    }
    if route.method != http::Method::GET {
        kinds.push(Kind::StoreFull);
    }
    kinds
}

fn path_parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names
        .map(|name| match name {
            "id" => json!({"$ref": "#/components/parameters/Id"}),
            _ => json!({
                "name": name,
                "in": "path",
                "required": true,
                "description": "Its number.",
                "schema": {"type": "integer", "format": "int64", "minimum": 0},
            }),
        })
        .collect()
}

fn parameters() -> Value {
    json!({
        "Id": {
            "name": "id",
            "in": "path",
            "required": true,
            "description": "The object's id or its name, percent-encoded (a model's name may hold `/` and `:`).",
            "schema": {"type": "string", "minLength": 1, "maxLength": 256},
            "example": "eu-vllm-1",
        },
        "IfMatch": {
            "name": "If-Match",
            "in": "header",
            "required": true,
            "description": "The `ETag` of the object as the caller knows it, or `*` for whatever it is now.",
            "schema": {"type": "string"},
            "example": "*",
        },
        "IfNoneMatch": {
            "name": "If-None-Match",
            "in": "header",
            "required": false,
            "description": "An `ETag`: where it is still true, the answer is 304 without a body.",
            "schema": {"type": "string"},
        },
        "IdempotencyKey": {
            "name": "Idempotency-Key",
            "in": "header",
            "required": false,
            "description": "Any text of the caller's, new for each thing to be done: the same key and body within 24 hours \
                do it once and get the first answer again, marked `Idempotent-Replayed: true`.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        },
    })
}

fn own_schemas() -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    out.insert(
        "Problem".to_owned(),
        serde_json::to_value(ProblemBody::schema()).unwrap_or_default(),
    );
    out.extend(object::schemas());
    out.insert(Flaw::name().into_owned(), serde_json::to_value(Flaw::schema()).unwrap_or_default());
    out
}
