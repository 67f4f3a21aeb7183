//! What a request asks of routing, kept for as long as it has no answer: one that waited plans anew.

use std::sync::Arc;
use std::time::Duration;

use adapters::Peek;
use bytes::Bytes;
use http::HeaderMap;
use router::Operation;
use router::plan::{PlanError, Query, RoutePlan, plan};
use router::spec::KeySpec;

use crate::auth;
use crate::error::{ErrorKind, Rejection};
use crate::plane::{Link, World};
use crate::proxy::Asked;

const X_FOREBAY_REGION: &str = "x-forebay-region";

/// The facts that a plan is made from, beside the model's name.
pub(crate) struct Route {
    operation: Operation,
    /// The caller's key.
    pub(crate) key: Option<Arc<KeySpec>>,
    region: Option<String>,
    affinity: Option<u64>,
}

impl Route {
    pub(crate) fn of(
        world: &World,
        asked: &Asked,
        headers: &HeaderMap,
        body: &Bytes,
        peek: &Peek<'_>,
    ) -> Result<Self, Rejection> {
        let key = asked.key.clone();
        let region = match headers.get(X_FOREBAY_REGION) {
            None => None,
            Some(value) => Some(value.to_str().map(str::to_owned).map_err(|_| {
                Rejection::new(ErrorKind::UnknownRegion, "x-forebay-region is not a region's name")
            })?),
        };
        let tenant = key.as_deref().map(|key| &key.tenant);
        let affinity = crate::affinity::of(world, tenant, headers, body, peek);
        Ok(Self { operation: asked.operation, key, region, affinity })
    }

    /// Plans in the world that the request began with.
    pub(crate) fn plan(
        &self,
        world: &Arc<World>,
        model: &str,
    ) -> Result<RoutePlan<Arc<Link>>, Rejection> {
        self.with_key(self.key.as_deref(), world, model)
    }

    /// Plans in a world that was published since: the key must still be good, with all that it is bound to now.
    pub(crate) fn plan_again(
        &self,
        world: &Arc<World>,
        model: &str,
    ) -> Result<RoutePlan<Arc<Link>>, Rejection> {
        let key = auth::still(world, self.key.as_deref())?;
        self.with_key(key.as_deref(), world, model)
    }

    fn with_key(
        &self,
        key: Option<&KeySpec>,
        world: &Arc<World>,
        model: &str,
    ) -> Result<RoutePlan<Arc<Link>>, Rejection> {
        auth::permit_model(key, model)?;
        let query = Query {
            model,
            operation: self.operation,
            region: self.region.as_deref(),
            key_region: key.and_then(|key| key.region.as_ref()),
            key_regions: key
                .map(|key| key.regions.as_slice())
                .filter(|regions| !regions.is_empty()),
            affinity: self.affinity,
            repeatable: true,
        };
        plan(world, &query, &mut ()).map_err(|error| refused(&error, model))
    }
}

/// A plan that cannot be made, in the client's terms.
pub(crate) fn refused(error: &PlanError, model: &str) -> Rejection {
    match error {
        PlanError::UnknownModel => {
            let message =
                format!("the model {model:?} does not exist; GET /v1/models lists those that do");
            Rejection::new(ErrorKind::ModelNotFound, message).param(Some("model"))
        }
        PlanError::UnknownRegion { known } => {
            let known: Vec<_> = known.iter().map(ToString::to_string).collect();
            let message = format!("unknown region; known: {}", known.join(", "));
            Rejection::new(ErrorKind::UnknownRegion, message)
        }
        PlanError::RegionUnavailable { .. } => Rejection::new(
            ErrorKind::RegionUnavailable,
            format!("{model:?} may not be served in the regions that are left"),
        ),
        PlanError::NotServed | PlanError::NoAnswer => Rejection::new(
            ErrorKind::OperationNotServed,
            format!("no backend serves {model:?} at the moment"),
        )
        .retry_after(Some(Duration::from_secs(5))),
    }
}
