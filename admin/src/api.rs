//! The admin API: HTTP over the registry, the store and the live state of the data planes.

mod audit;
mod audited;
mod call;
mod caller;
mod collection;
mod configuration;
mod discover;
mod document;
mod engines;
mod events;
mod explain;
mod extract;
mod jobs;
mod json;
mod metrics;
mod model;
mod moment;
mod named;
mod object;
mod object_operations;
mod objects;
mod operating;
mod operation;
mod origin;
mod page;
mod pages;
mod planes;
mod probing;
mod problem;
mod profile;
mod refusal;
mod region;
mod remote;
mod repeat;
mod route;
mod server;
mod state;
mod status;
mod storage;
mod tag;
mod token;
mod tokens;
mod versions;
mod world;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use axum::Router;
use axum::middleware;
use zeroize::Zeroizing;

pub use self::remote::{Remote, Served};
pub use self::storage::StoreSource;
use crate::api::problem::{Kind, Problem};
use crate::api::route::Route;
use crate::api::state::Api;
use crate::live::Planes;
use crate::registry::{Applied, Registry};
use crate::store::StoreError;

/// Reads the configuration files again and puts them in force, or gives what is wrong with them, in words.
pub type Reload = Arc<dyn Fn() -> Result<Applied, String> + Send + Sync>;

/// What the API works on.
pub struct Context {
    /// The desired state.
    pub registry: Registry,
    /// The store.
    pub store: StoreSource,
    /// The data planes.
    pub planes: Arc<dyn Planes>,
    /// The token of the configuration; it may do everything.
    pub token: Option<Zeroizing<String>>,
    /// Names beside `localhost` and addresses under which the listener may be called, without ports.
    pub hosts: Vec<String>,
    /// How to reload; `None` = there is no file.
    pub reload: Option<Reload>,
}

impl Context {
    /// Makes the first token where there is none, neither stored nor in the configuration. It is nowhere else: whoever
    /// starts the process prints it once. Blocks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn first_token(&self) -> Result<Option<Zeroizing<String>>, StoreError> {
        if self.token.is_some() {
            return Ok(None);
        }
        tokens::first(&(self.store)()?)
    }
}

/// Every route there is.
fn routes() -> Vec<Route> {
    let mut routes = pages::routes();
    routes.extend(objects::routes());
    routes.extend(model::routes());
    routes.extend(region::routes());
    routes.extend(token::routes());
    routes.extend(configuration::routes());
    routes.extend(versions::routes());
    routes.extend(audit::routes());
    routes.extend(planes::routes());
    routes.extend(explain::routes());
    routes.extend(probing::routes());
    routes.extend(operating::routes());
    routes.extend(metrics::routes());
    routes.extend(discover::routes());
    routes.extend(profile::routes());
    routes.extend(jobs::routes());
    routes.extend(events::routes());
    routes.sort_by_key(|route| (route.path, route.method.to_string()));
    routes
}

/// The OpenAPI document, as pretty JSON.
#[must_use]
pub fn openapi() -> String {
    document::openapi(&routes())
}

/// Serves the API on a runtime and a thread of its own until `end` is ready; the thread ends once the answers under way
/// are out.
///
/// # Errors
/// When the thread or its runtime cannot be made, or the listener has no address.
pub fn serve(
    listener: TcpListener,
    context: Context,
    end: impl Future<Output = ()> + Send + 'static,
) -> io::Result<Served> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let routes = routes();
    let api = Api::new(context, &routes, address)?;
    let (remote, moves) = Remote::new(&api, &runtime);
    let thread = thread::Builder::new().name("admin".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let beating = api.clone();
            tokio::spawn(async move { beating.engines().beat(beating.store()).await });
            let ending = api.clone();
            let end = async move {
                end.await;
                ending.engines().end();
            };
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    server::accept(listener, moves, router(routes, &api), end).await;
                }
                Err(error) => tracing::error!(%error, "the admin listener failed"),
            }
        });
    })?;
    Ok(Served { remote, thread })
}

/// All routes with what lies around them: first [`server::edge`], then [`caller::authenticate`], then each route's role.
fn router(routes: Vec<Route>, api: &Api) -> Router {
    route::router(routes, api)
        .fallback(|| async {
            Problem::new(Kind::NotFound, "there is no such path; see /admin/docs")
        })
        .layer(middleware::from_fn_with_state(api.clone(), caller::authenticate))
        .layer(middleware::from_fn_with_state(api.clone(), server::edge))
        .with_state(api.clone())
}
