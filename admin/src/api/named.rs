//! From the `{id}` of a path to the name by which data planes know an object.

use router::spec::{BackendSpec, Catalog};

use crate::api::problem::{Kind, Problem};
use crate::api::state::Api;
use crate::store::ObjectKind;

/// The name of a backend.
///
/// # Errors
/// [`Kind::NotFound`].
pub(crate) fn backend(api: &Api, id: &str) -> Result<String, Problem> {
    let found = api.registry().object(ObjectKind::Backend, id, &Catalog::new());
    found.map(|object| object.name).ok_or_else(|| Problem::not_found("backend", id))
}

/// What is in force of a backend, credentials included: for requests to exactly this backend.
///
/// # Errors
/// [`Kind::NotFound`]; [`Kind::Conflict`] when it takes no part now.
pub(crate) fn backend_spec(api: &Api, id: &str) -> Result<BackendSpec, Problem> {
    let name = backend(api, id)?;
    let desired = api.registry().desired();
    let found = desired.spec.backends.iter().find(|spec| spec.name.as_str() == name);
    let out = || Problem::new(Kind::Conflict, format!("the backend {name:?} takes no part now"));
    found.cloned().ok_or_else(out)
}

/// The name of a model, discovered ones included.
///
/// # Errors
/// [`Kind::NotFound`]; as [`Api::blocking`].
pub(crate) async fn model(api: &Api, id: &str) -> Result<String, Problem> {
    let world = api.world().await?;
    let found = api.registry().object(ObjectKind::Model, id, &world.catalog);
    found.map(|object| object.name).ok_or_else(|| Problem::not_found("model", id))
}
