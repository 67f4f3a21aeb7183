//! The two parts of a model that are moved about most: its home region and the head that is tried first.

use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::api::call::Call;
use crate::api::collection::{COLLECTIONS, Collection};
use crate::api::extract::{Id, Json};
use crate::api::object::reference;
use crate::api::objects::finish;
use crate::api::operation::Operation;
use crate::api::problem::{Kind, Problem};
use crate::api::route::Route;
use crate::api::tag::Condition;
use crate::role::Role;

const MODEL: &Collection = &COLLECTIONS[1];

/// A model's new home region.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelRegion {
    /// The region's name.
    #[schema(example = "eu", pattern = "^[A-Za-z0-9._-]{1,64}$")]
    region: String,
}

/// The head that is tried first.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelPriorityHead {
    /// The head's name.
    #[schema(example = "head-eu", pattern = "^[A-Za-z0-9._-]{1,64}$")]
    priority_head: String,
}

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::put(
            "/admin/models/{id}/region",
            Role::Admin,
            operation("setModelRegion", "Gives a model its home region")
                .about("Of a model that a file declares or that was discovered this is an override.")
                .takes::<ModelRegion>(json!({"region": "eu"})),
            set_region,
        ),
        Route::put(
            "/admin/models/{id}/priority-head",
            Role::Admin,
            operation("setModelPriorityHead", "Gives a model the head that is tried first")
                .about("A head outside of the model's allowed regions is refused; the answer names those that would do.")
                .takes::<ModelPriorityHead>(json!({"priority_head": "head-eu"})),
            set_priority_head,
        ),
    ]
}

fn operation(id: &'static str, summary: &'static str) -> Operation {
    Operation::new(id, MODEL.tag, summary)
        .gives_as(
            200,
            "application/json",
            "The model now.",
            reference(MODEL.schema),
            MODEL.answer_example(),
        )
        .header(200, "ETag", "The model's state now.")
        .under_etag()
        .fails(&[Kind::Conflict, Kind::ReadOnly])
}

async fn set_region(
    call: Call,
    Id(id): Id,
    Condition(condition): Condition,
    Json(body): Json<ModelRegion>,
) -> Result<Response, Problem> {
    let world = call.api.world().await?;
    let change = call.change(Some(condition), &world);
    let done = call.api.registry().set_region(&id, &body.region, change).await?;
    finish(&call.api, StatusCode::OK, MODEL, &done).await
}

async fn set_priority_head(
    call: Call,
    Id(id): Id,
    Condition(condition): Condition,
    Json(body): Json<ModelPriorityHead>,
) -> Result<Response, Problem> {
    let world = call.api.world().await?;
    let change = call.change(Some(condition), &world);
    let done = call.api.registry().set_priority_head(&id, &body.priority_head, change).await?;
    finish(&call.api, StatusCode::OK, MODEL, &done).await
}
