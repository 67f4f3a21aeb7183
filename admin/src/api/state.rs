//! What every handler can reach.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use http::Method;
use router::snapshot::Snapshot;
use router::spec::Catalog;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::Context;
use crate::api::engines::Engines;
use crate::api::origin::Origins;
use crate::api::problem::{Kind, Problem};
use crate::api::repeat::UnderWay;
use crate::api::route::{Access, Route};
use crate::api::server::REQUESTS_MAX;
use crate::api::storage::Storage;
use crate::api::tokens::Tokens;
use crate::api::world::{Routes, World};
use crate::registry::{Desired, Registry};

/// The API's state; a clone is a reference to the same.
#[derive(Clone)]
pub(crate) struct Api(Arc<Inner>);

struct Inner {
    context: Context,
    tokens: Tokens,
    /// The routes that need no token.
    public: HashSet<(Method, &'static str)>,
    /// Made when it is first asked for.
    document: OnceLock<String>,
    origins: RwLock<Arc<Origins>>,
    places: Arc<Semaphore>,
    storage: Storage,
    under_way: UnderWay,
    routes: Routes,
    engines: Engines,
}

impl Api {
    /// # Errors
    /// When a thread of an engine cannot be made.
    pub(crate) fn new(context: Context, routes: &[Route], address: SocketAddr) -> io::Result<Self> {
        let public = routes
            .iter()
            .filter(|route| route.access == Access::Public)
            .map(|route| (route.method.clone(), route.path))
            .collect();
        let tokens = Tokens::new(context.token.as_ref().map(|token| token.as_str()));
        let origins = RwLock::new(Arc::new(Origins::new(address, &context.hosts)));
        let places = Arc::new(Semaphore::new(REQUESTS_MAX));
        let storage = Storage(Arc::clone(&context.store));
        let engines = Engines::start(&context.planes, &context.store)?;
        Ok(Self(Arc::new(Inner {
            context,
            tokens,
            public,
            document: OnceLock::new(),
            origins,
            places,
            storage,
            under_way: UnderWay::default(),
            routes: Routes::default(),
            engines,
        })))
    }

    pub(crate) fn context(&self) -> &Context {
        &self.0.context
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.0.context.registry
    }

    pub(crate) fn store(&self) -> &Storage {
        &self.0.storage
    }

    /// What runs beside requests.
    pub(crate) fn engines(&self) -> &Engines {
        &self.0.engines
    }

    /// The requests with an `Idempotency-Key` that are under way.
    pub(crate) fn under_way(&self) -> &UnderWay {
        &self.0.under_way
    }

    /// What the data planes say now.
    ///
    /// # Errors
    /// As [`Self::blocking`].
    pub(crate) async fn world(&self) -> Result<World, Problem> {
        self.blocking(|context| World::gather(&*context.planes)).await
    }

    /// Where models are served, by what is desired and what was found.
    pub(crate) fn routes_of(
        &self,
        desired: &Arc<Desired>,
        catalog: &Catalog,
    ) -> Option<Arc<Snapshot<()>>> {
        self.0.routes.of(desired, catalog)
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// The OpenAPI document.
    pub(crate) fn document(&self) -> &str {
        self.0.document.get_or_init(super::openapi)
    }

    pub(crate) fn origins(&self) -> Arc<Origins> {
        Arc::clone(&self.0.origins.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_origins(&self, origins: Origins) {
        *self.0.origins.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(origins);
    }

    /// A place among the requests under way, if one is free.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.places).try_acquire_owned().ok()
    }

    /// Whether a route needs no token; `HEAD` is allowed where `GET` is.
    pub(crate) fn is_public(&self, method: &Method, path: &str) -> bool {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        self.0.public.iter().any(|(known, at)| known == method && *at == path)
    }

    /// Runs what may block — calls to data planes, files — beside the threads that serve.
    ///
    /// # Errors
    /// [`Kind::Internal`] when it panicked.
    pub(crate) async fn blocking<T, F>(&self, work: F) -> Result<T, Problem>
    where
        F: FnOnce(&Context) -> T + Send + 'static,
        T: Send + 'static,
    {
        let api = self.clone();
        let done = tokio::task::spawn_blocking(move || work(api.context())).await;
        done.map_err(|error| {
            tracing::error!(%error, "a defect: the work of a request panicked");
            Problem::new(Kind::Internal, "see the log under this request's id")
        })
    }
}
