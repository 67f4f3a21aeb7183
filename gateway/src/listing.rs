//! `/v1/models`: what is configured or was found, whatever happens to be down right now.

use adapters::models::{ListedModel, list, one as object};
use bytes::Bytes;
use router::model::Model;
use router::plan::PlanError;

use crate::error::Rejection;
use crate::plane::World;
use crate::proxy;

/// The body of `GET /v1/models`.
pub(crate) fn all(world: &World) -> Bytes {
    list(world.public_models().iter().map(|model| public(model)))
}

/// The body of `GET /v1/models/{id}`, under the name that was asked for.
pub(crate) fn one(world: &World, id: &str) -> Result<Bytes, Rejection> {
    match world.model(id) {
        Some(model) => Ok(object(&ListedModel { id, ..public(model) })),
        None => Err(proxy::refused(&PlanError::UnknownModel, id)),
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
