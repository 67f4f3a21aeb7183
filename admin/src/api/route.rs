//! Routes: none can be made without saying who may call it and what it does.

use axum::Router;
use axum::handler::Handler;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;

use crate::api::caller::Caller;
use crate::api::operation::Operation;
use crate::api::problem::{Kind, Problem};
use crate::api::repeat;
use crate::api::state::Api;
use crate::api::tag;
use crate::role::Role;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everyone who reaches the listener; only for what is the same in every installation.
    Public,
    /// Tokens of this role or a higher one.
    Role(Role),
}

impl From<Role> for Access {
    fn from(role: Role) -> Self {
        Self::Role(role)
    }
}

/// One method of one path.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    pub(crate) operation: Operation,
    handler: MethodRouter<Api>,
}

impl Route {
    /// `GET`, and with it `HEAD`.
    pub(crate) fn get<H, T>(
        path: &'static str,
        access: impl Into<Access>,
        operation: Operation,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Api>,
        T: 'static,
    {
        Self::new(Method::GET, path, access.into(), operation, on(MethodFilter::GET, handler))
    }

    pub(crate) fn post<H, T>(
        path: &'static str,
        access: impl Into<Access>,
        operation: Operation,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Api>,
        T: 'static,
    {
        Self::new(Method::POST, path, access.into(), operation, on(MethodFilter::POST, handler))
    }

    pub(crate) fn put<H, T>(
        path: &'static str,
        access: impl Into<Access>,
        operation: Operation,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Api>,
        T: 'static,
    {
        Self::new(Method::PUT, path, access.into(), operation, on(MethodFilter::PUT, handler))
    }

    pub(crate) fn patch<H, T>(
        path: &'static str,
        access: impl Into<Access>,
        operation: Operation,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Api>,
        T: 'static,
    {
        Self::new(Method::PATCH, path, access.into(), operation, on(MethodFilter::PATCH, handler))
    }

    pub(crate) fn delete<H, T>(
        path: &'static str,
        access: impl Into<Access>,
        operation: Operation,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Api>,
        T: 'static,
    {
        Self::new(Method::DELETE, path, access.into(), operation, on(MethodFilter::DELETE, handler))
    }

    fn new(
        method: Method,
        path: &'static str,
        access: Access,
        operation: Operation,
        handler: MethodRouter<Api>,
    ) -> Self {
        Self { method, path, access, operation, handler }
    }
}

/// Lets only callers of the role through. Who calls was found out before, see [`crate::api::caller`].
async fn permit(role: Role, request: axum::extract::Request, next: Next) -> Response {
    match request.extensions().get::<Caller>() {
        None => {
            Problem::new(Kind::Unauthorized, "send `Authorization: Bearer TOKEN`").into_response()
        }
        Some(caller) if caller.role < role => {
            let words = format!("this needs the role {role}; the token's is {}", caller.role);
            Problem::new(Kind::Forbidden, words).into_response()
        }
        Some(_) => next.run(request).await,
    }
}

/// The routes as axum takes them. Around each lies first its role, then what its operation promises.
pub(crate) fn router(routes: Vec<Route>, api: &Api) -> Router<Api> {
    let mut router = Router::new();
    for route in routes {
        let mut handler = route.handler;
        if route.operation.repeatable {
            let api = api.clone();
            handler = handler.route_layer(middleware::from_fn(move |request, next| {
                repeat::once(api.clone(), request, next)
            }));
        }
        if route.operation.tagged {
            handler = handler.route_layer(middleware::from_fn(tag::conditional));
        }
        if let Access::Role(role) = route.access {
            handler = handler
                .route_layer(middleware::from_fn(move |request, next| permit(role, request, next)));
        }
        router = router.route(route.path, handler);
    }
    router
}
