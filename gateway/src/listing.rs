//! `/v1/models`: what is configured or was found, whatever happens to be down right now.

use adapters::models::{ListedModel, list, one as object};
use bytes::Bytes;
use router::model::Model;
use router::plan::PlanError;
use router::spec::KeySpec;

use crate::error::Rejection;
use crate::plane::World;
use crate::route;

/// The body of `GET /v1/models`: what this key may use.
pub(crate) fn all(world: &World, key: Option<&KeySpec>) -> Bytes {
    let shown = world.public_models().iter().filter(|model| {
        may_use(key, model.name.as_str()) && !is_other_spelling(world, model.name.as_str())
    });
    list(shown.map(|model| public(model)))
}

/// Ollama's `x:latest` beside somebody's `x` is the same model, and listed once.
fn is_other_spelling(world: &World, name: &str) -> bool {
    name.strip_suffix(":latest")
        .and_then(|stem| world.model(stem))
        .is_some_and(|model| model.name.as_str() != name)
}

fn may_use(key: Option<&KeySpec>, name: &str) -> bool {
    key.is_none_or(|key| key.allows_model(name))
}

/// The body of `GET /v1/models/{id}`, under the name that was asked for.
pub(crate) fn one(world: &World, key: Option<&KeySpec>, id: &str) -> Result<Bytes, Rejection> {
    match world.model(id).filter(|_| may_use(key, id)) {
        Some(model) => Ok(object(&ListedModel { id, ..public(model) })),
        None => Err(route::refused(&PlanError::UnknownModel, id)),
    }
}

fn public(model: &Model) -> ListedModel<'_> {
    ListedModel {
        id: model.name.as_str(),
        created: model.created.unwrap_or(0),
        owned_by: model.owned_by.as_deref(),
        parent: model.parent.as_deref(),
        max_model_len: model.context_length,
    }
}
