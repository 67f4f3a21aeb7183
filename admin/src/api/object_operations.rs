//! What the OpenAPI document says of the routes that all kinds of objects have.

use serde_json::{Value, json};

use crate::api::collection::Collection;
use crate::api::object::reference;
use crate::api::objects::{Filter, MERGE_PATCH};
use crate::api::operation::Operation;
use crate::api::problem::Kind;

const JSON: &str = "application/json";

fn operation(collection: &Collection, verb: &str, summary: String) -> Operation {
    let name = if verb == "list" { collection.plural } else { collection.schema };
    Operation::new(format!("{verb}{name}"), collection.tag, summary)
}

/// The answer with one object.
fn gives_one(operation: Operation, collection: &Collection, status: u16, words: &str) -> Operation {
    let schema = reference(collection.schema);
    operation.gives_as(status, JSON, words, schema, collection.answer_example())
}

/// What every write may come to.
fn changes(operation: Operation) -> Operation {
    let operation =
        operation.fails(&[Kind::ReadOnly, Kind::NoMasterKey, Kind::Conflict, Kind::StoreFull]);
    operation.fails(&[Kind::Exists, Kind::Referenced])
}

/// The headers of an answer to a write.
fn versioned(operation: Operation, status: u16) -> Operation {
    operation
        .header(status, "ETag", "The object's state now.")
        .header(status, "X-Forebay-Version", "The version of the registry that holds the change.")
        .header(
            status,
            "X-Forebay-Applied",
            "The snapshot of this process's data plane in which it is in force.",
        )
}

pub(crate) fn list(collection: &Collection) -> Operation {
    let page = json!({"data": [collection.answer_example()], "next_cursor": Value::Null});
    operation(collection, "list", format!("Lists {}s", collection.word))
        .about("By name, in pages. What comes and goes between two pages neither repeats nor hides anything else.")
        .query::<Filter>()
        .gives_as(200, JSON, "A page.", reference(&format!("{}Page", collection.schema)), page)
        .tagged()
}

pub(crate) fn get(collection: &Collection) -> Operation {
    let operation = operation(collection, "get", format!("Shows one {}", collection.word)).about(
        "With its live state. The `ETag` is that of what is desired and does not change with the live state.",
    );
    gives_one(operation, collection, 200, "The object.").tagged()
}

pub(crate) fn create(collection: &Collection) -> Operation {
    let operation = operation(collection, "create", format!("Makes a {}", collection.word))
        .about(match collection.kind {
            crate::store::ObjectKind::Key => {
                "The secret is made here and shown in this answer alone; a replay of an `Idempotency-Key` does not show it."
            }
            _ => "In force when the answer is there. A name that was only discovered is declared by it.",
        })
        .takes_as(JSON, reference(&format!("{}Input", collection.schema)), collection.example());
    let operation = gives_one(operation, collection, 201, "It is made.")
        .header(201, "Location", "Where it is.")
        .repeatable();
    changes(versioned(operation, 201))
}

pub(crate) fn replace(collection: &Collection) -> Operation {
    let operation = operation(collection, "replace", format!("Replaces a {}", collection.word))
        .about("Everything is what the body says, but for credentials that are absent: they stay.")
        .takes_as(
            JSON,
            reference(&format!("{}Replacement", collection.schema)),
            collection.example(),
        );
    changes(versioned(gives_one(operation, collection, 200, "It is replaced."), 200).under_etag())
}

pub(crate) fn patch(collection: &Collection) -> Operation {
    let operation = operation(collection, "patch", format!("Changes parts of a {}", collection.word))
        .about(match collection.kind {
            crate::store::ObjectKind::Backend => {
                "A merge patch (RFC 7396). Of an object that a file declares or that was discovered it changes the override. \
                 Operators may change `weight`, `enabled` and `draining`."
            }
            _ => "A merge patch (RFC 7396). Of an object that a file declares or that was discovered it changes the override.",
        })
        .takes_as(MERGE_PATCH, reference(&format!("{}Patch", collection.schema)), collection.patch_example());
    changes(versioned(gives_one(operation, collection, 200, "It is changed."), 200).under_etag())
}

pub(crate) fn delete(collection: &Collection) -> Operation {
    let operation = operation(collection, "delete", format!("Removes a {}", collection.word))
        .about("Only what is stored can be removed, and only while nothing stored refers to it.")
        .gives_nothing(204, "It is gone.")
        .under_etag();
    changes(operation)
}

pub(crate) fn put_override(collection: &Collection) -> Operation {
    let operation = Operation::new(
        format!("override{}", collection.schema),
        collection.tag,
        format!("Overrides parts of a {}", collection.word),
    )
    .about(
        "Puts values over those of the file or of what was discovered; the former override is replaced. A discovered object \
         is declared by it.",
    )
    .takes_as(JSON, reference(&format!("{}Override", collection.schema)), collection.override_example());
    changes(versioned(gives_one(operation, collection, 200, "It is in force."), 200).under_etag())
}

pub(crate) fn clear_override(collection: &Collection) -> Operation {
    let operation = Operation::new(
        format!("clear{}Override", collection.schema),
        collection.tag,
        format!("Removes the override of a {}", collection.word),
    )
    .about("What the file says, or what was discovered, is in force again.");
    changes(versioned(gives_one(operation, collection, 200, "It is removed."), 200).under_etag())
}
