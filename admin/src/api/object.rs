//! An object of the registry as an answer shows it, and its schemas.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, ETAG, LOCATION};
use http::{HeaderName, HeaderValue, StatusCode};
use router::snapshot::Snapshot;
use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};

use crate::api::collection::{COLLECTIONS, Collection};
use crate::api::moment;
use crate::api::page;
use crate::api::problem::{Kind, Problem};
use crate::api::repeat::KeepInstead;
use crate::api::status::{
    self, BackendStatus, Check, HeadStatus, Member, ModelStatus, RegionStatus, ServedBy, Signals,
};
use crate::api::world::World;
use crate::registry::{Desired, Object, Origin, Written};
use crate::store::ObjectKind;

/// Counts the states of the registry; the one that holds the change.
const X_FOREBAY_VERSION: HeaderName = HeaderName::from_static("x-forebay-version");
/// The snapshot of this process's data plane in which the change is in force.
const X_FOREBAY_APPLIED: HeaderName = HeaderName::from_static("x-forebay-applied");
/// What an answer holds beside the keys of the file; callers may send it back, and it is not looked at.
pub(crate) const READ_ONLY: [&str; 8] =
    ["id", "origin", "declared_in", "overrides", "conflict", "created_at", "updated_at", "status"];
/// The names of credentials, wherever they are in an object.
const CREDENTIALS: [&str; 3] = ["api_key", "secret", "secret_sha256"];

/// What an object's answer is made from beside the object.
pub(crate) struct Surroundings<'a> {
    pub(crate) world: &'a World,
    pub(crate) desired: &'a Desired,
    pub(crate) routes: Option<&'a Snapshot<()>>,
}

/// The object with its live state.
pub(crate) fn show(object: &Object, around: &Surroundings<'_>) -> Map<String, Value> {
    let mut out = object.body.clone();
    out.insert("name".to_owned(), json!(object.name));
    out.insert("id".to_owned(), json!(object.id));
    out.insert("origin".to_owned(), json!(object.origin.as_str()));
    if let Origin::File { file, line } = &object.origin {
        out.insert("declared_in".to_owned(), json!({"file": file, "line": line}));
    }
    if let Some(overrides) = &object.overrides {
        out.insert("overrides".to_owned(), Value::Object(overrides.clone()));
    }
    if let Some(problem) = &object.disabled {
        let conflict =
            json!({"pointer": problem.pointer, "code": problem.code, "detail": problem.detail});
        out.insert("conflict".to_owned(), conflict);
    }
    for (name, at) in [("created_at", object.created_at), ("updated_at", object.updated_at)] {
        if let Some(at) = at {
            out.insert(name.to_owned(), json!(moment::show(at)));
        }
    }
    if let Some(status) = status_of(object, around) {
        out.insert("status".to_owned(), status);
    }
    out
}

fn status_of(object: &Object, around: &Surroundings<'_>) -> Option<Value> {
    let Surroundings { world, desired, routes } = around;
    Some(match object.kind {
        ObjectKind::Backend => status::backend(world, &object.name),
        ObjectKind::Model => status::model(world, *routes, &object.name),
        ObjectKind::Head => {
            let members = object.body.get("backends").and_then(Value::as_array);
            let members: Vec<&str> =
                members.into_iter().flatten().filter_map(Value::as_str).collect();
            status::head(world, &members)
        }
        ObjectKind::Region => {
            let within = desired
                .spec
                .backends
                .iter()
                .filter(|backend| backend.region.as_str() == object.name);
            let within: Vec<&str> = within.map(|backend| backend.name.as_str()).collect();
            status::region(world, &within)
        }
        ObjectKind::Key => return None,
    })
}

/// The answer with one object.
pub(crate) fn answer(status: StatusCode, object: &Object, shown: &Map<String, Value>) -> Response {
    let mut response = json_response(status, shown);
    if let Ok(tag) = HeaderValue::try_from(object.etag.as_str()) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// The answer to a write: 201 or 200 with the object, 204 without one.
pub(crate) fn written(
    status: StatusCode,
    collection: &Collection,
    written: &Written,
    around: &Surroundings<'_>,
) -> Response {
    let mut response = match &written.object {
        None => StatusCode::NO_CONTENT.into_response(),
        Some(object) => {
            let mut shown = show(object, around);
            let kept = serde_json::to_vec(&shown).unwrap_or_default();
            if let Some(secret) = &written.secret {
                shown.insert("secret".to_owned(), json!(secret.expose()));
            }
            let mut response = answer(status, object, &shown);
            if written.secret.is_some() {
                response.extensions_mut().insert(KeepInstead(kept.into()));
            }
            if status == StatusCode::CREATED
                && let Ok(place) =
                    HeaderValue::try_from(format!("{}/{}", collection.path, object.id))
            {
                response.headers_mut().insert(LOCATION, place);
            }
            response
        }
    };
    versions(&mut response, written);
    response
}

/// Says which state of the registry holds a change, and where it is in force already.
pub(crate) fn versions(response: &mut Response, written: &Written) {
    let headers = response.headers_mut();
    headers.insert(X_FOREBAY_VERSION, HeaderValue::from(written.version));
    if let Some(applied) = written.applied {
        headers.insert(X_FOREBAY_APPLIED, HeaderValue::from(applied));
    }
}

/// A JSON answer.
pub(crate) fn json_response<T: serde::Serialize>(status: StatusCode, value: &T) -> Response {
    let Ok(body) = serde_json::to_vec(value) else {
        return Problem::new(Kind::Internal, "the answer cannot be written").into_response();
    };
    let mut response = body.into_response();
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The reference of a schema.
pub(crate) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// The schemas of all kinds and of what is in them. They follow from the table of the file's keys.
pub(crate) fn schemas() -> Vec<(String, Value)> {
    let mut all = vec![
        named::<BackendStatus>(),
        named::<Check>(),
        named::<Signals>(),
        named::<ModelStatus>(),
        named::<ServedBy>(),
        named::<HeadStatus>(),
        named::<RegionStatus>(),
        named::<Member>(),
        ("Credential".to_owned(), credential()),
        ("DeclaredIn".to_owned(), declared_in()),
    ];
    for collection in &COLLECTIONS {
        let Some(mut input) = config::object_schema(collection.kind.as_str()) else { continue };
        let name = collection.schema;
        all.push((name.to_owned(), shown(collection, &input)));
        if collection.kind == ObjectKind::Key
            && let Some(properties) = input["properties"].as_object_mut()
        {
            // Keys are made here, and known nowhere else.
            properties.remove("secret");
            properties.remove("secret_sha256");
        }
        all.push((format!("{name}Page"), page::schema_of(name)));
        all.push((format!("{name}Patch"), patch(&input)));
        if collection.overrides.is_some() {
            all.push((format!("{name}Override"), overridable(&input, collection)));
        }
        credentials(&mut input, &mut |_, property| {
            let facts = property.as_object_mut();
            let description = facts.and_then(|facts| facts.remove("description"));
            *property = json!({
                "anyOf": [property.take(), reference("Credential")],
                "description": description,
            });
        });
        nullable(&mut input);
        let mut replacement = input.clone();
        if let Some(required) = replacement["required"].as_array_mut() {
            required.retain(|member| member != "name");
        }
        replacement["description"] =
            json!("The whole object; the path has its name, unless it is to have another one.");
        all.push((format!("{name}Replacement"), replacement));
        all.push((format!("{name}Input"), input));
    }
    all
}

fn named<T: ToSchema + PartialSchema>() -> (String, Value) {
    (T::name().into_owned(), serde_json::to_value(T::schema()).unwrap_or_default())
}

/// Visits every property that holds a credential.
fn credentials(schema: &mut Value, visit: &mut dyn FnMut(&str, &mut Value)) {
    match schema {
        Value::Object(map) => {
            for (name, value) in map.iter_mut() {
                if CREDENTIALS.contains(&name.as_str()) {
                    visit(name, value);
                } else {
                    credentials(value, visit);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| credentials(item, visit)),
        _ => {}
    }
}

/// What is answered: the keys of the file, credentials as what is known of them, and what is read only.
fn shown(collection: &Collection, input: &Value) -> Value {
    let mut schema = input.clone();
    credentials(&mut schema, &mut |_, property| *property = reference("Credential"));
    let status = match collection.kind {
        ObjectKind::Backend => json!({
            "type": "array",
            "description": "How each data plane sees it now.",
            "items": reference("BackendStatus"),
        }),
        ObjectKind::Model => reference("ModelStatus"),
        ObjectKind::Head => reference("HeadStatus"),
        ObjectKind::Region => reference("RegionStatus"),
        ObjectKind::Key => Value::Null,
    };
    let mut more = json!({
        "id": {"type": "string", "description": "Its id, which stays when the name changes; the name of what is not stored."},
        "origin": {
            "enum": ["file", "stored", "discovered", "builtin"],
            "description": "Where it is from: a configuration file, this API, a backend that serves it, or the look for \
                servers on this host.",
        },
        "declared_in": reference("DeclaredIn"),
        "overrides": {
            "type": "object",
            "description": "What of the above comes from an override.",
            "additionalProperties": true,
        },
        "conflict": reference("Flaw"),
        "created_at": {"type": "string", "format": "date-time", "description": "When it was stored."},
        "updated_at": {"type": "string", "format": "date-time", "description": "When it or its override was changed."},
    });
    if !status.is_null() {
        more["status"] = status;
    }
    if collection.kind == ObjectKind::Key {
        more["secret"] = json!({
            "type": "string",
            "description": "The key itself; only in the answer that made it.",
        });
    }
    if let (Some(properties), Value::Object(more)) = (schema["properties"].as_object_mut(), more) {
        properties.extend(more);
    }
    let required = if collection.kind == ObjectKind::Region { vec![] } else { vec!["name"] };
    let required: Vec<&str> = required.into_iter().chain(["id", "origin"]).collect();
    schema["required"] = json!(required);
    schema["description"] =
        json!(format!("A {} as it is in force, with its live state.", collection.word));
    schema
}

/// Null stands for what is not said, wherever something may be left out.
fn nullable(schema: &mut Value) {
    let required = schema.get("required").cloned().unwrap_or_default();
    let is_required =
        |name: &str| required.as_array().is_some_and(|all| all.iter().any(|one| one == name));
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (_, property) in properties.iter_mut().filter(|(name, _)| !is_required(name)) {
            or_null(property);
        }
    }
    if let Some(more) = schema.get_mut("additionalProperties").filter(|more| more.is_object()) {
        or_null(more);
    }
    if let Some(kinds) = schema.get_mut("anyOf").and_then(Value::as_array_mut) {
        kinds.iter_mut().for_each(nullable);
    }
}

fn or_null(property: &mut Value) {
    nullable(property);
    let mut value = property.take();
    let mut facts = Map::new();
    for fact in ["default", "description", "writeOnly"] {
        let found = value.as_object_mut().and_then(|value| value.remove(fact));
        facts.extend(found.map(|found| (fact.to_owned(), found)));
    }
    facts.insert("anyOf".to_owned(), json!([value, {"type": "null"}]));
    *property = Value::Object(facts);
}

/// A merge patch (RFC 7396): any part, and null for what is to go.
fn patch(input: &Value) -> Value {
    let mut schema = input.clone();
    credentials(&mut schema, &mut |_, property| property["writeOnly"] = json!(true));
    if let Some(properties) = schema["properties"].as_object_mut() {
        for (_, property) in properties.iter_mut() {
            let mut value = property.take();
            let facts = value.as_object_mut();
            let description = facts.and_then(|facts| {
                // What is absent from a patch stays as it is.
                facts.remove("default");
                facts.remove("description")
            });
            *property = json!({"anyOf": [value, {"type": "null"}]});
            if let Some(description) = description {
                property["description"] = description;
            }
        }
    }
    if let Some(map) = schema.as_object_mut() {
        map.remove("required");
    }
    schema["description"] = json!("A merge patch (RFC 7396): what is absent stays, null removes.");
    schema
}

/// What an override may hold.
fn overridable(input: &Value, collection: &Collection) -> Value {
    let mut schema = input.clone();
    let names = collection.overridable();
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.retain(|name, _| names.contains(&name.as_str()));
    }
    if let Some(map) = schema.as_object_mut() {
        map.remove("required");
    }
    nullable(&mut schema);
    schema["description"] = json!(format!("Values over those of a {}.", collection.word));
    schema
}

fn credential() -> Value {
    json!({
        "type": "object",
        "description": "What may be known of a credential that is kept. Sent back as it is, it leaves the credential alone.",
        "required": ["set"],
        "properties": {
            "set": {"type": "boolean", "description": "There is one."},
            "last4": {"type": "string", "description": "Its last characters, where it is long enough."},
            "fingerprint": {"type": "string", "description": "The same for equal credentials, keyed with the master key."},
        },
    })
}

fn declared_in() -> Value {
    json!({
        "type": "object",
        "description": "Where a file declares it.",
        "required": ["file", "line"],
        "properties": {
            "file": {"type": "string", "description": "The file."},
            "line": {"type": "integer", "minimum": 1, "description": "The line, from 1."},
        },
    })
}
