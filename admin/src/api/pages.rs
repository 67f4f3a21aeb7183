//! The API's description of itself: the OpenAPI document and a page that shows it.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::api::operation::Operation;
use crate::api::route::{Access, Route};
use crate::api::state::Api;

const PAGE: &str = include_str!("pages/docs.html");
const SCRIPT: &str = include_str!("pages/app.js");
const STYLE: &str = include_str!("pages/app.css");

const TEXT: fn() -> Value = || json!({"type": "string"});

pub(crate) fn routes() -> Vec<Route> {
    let open = "Needs no token: it is the same in every installation.";
    vec![
        Route::get(
            "/admin/openapi.json",
            Access::Public,
            Operation::new("getOpenapi", "documentation", "This document").about(open).gives_as(
                200,
                "application/json",
                "The OpenAPI document.",
                json!({"type": "object"}),
                Value::Null,
            ),
            |State(api): State<Api>| async move { text("application/json", api.document().to_owned()) },
        ),
        Route::get(
            "/admin/docs",
            Access::Public,
            Operation::new("getDocs", "documentation", "A page that shows the document")
                .about(open)
                .gives_as(200, "text/html", "The page.", TEXT(), Value::Null),
            || async { text("text/html; charset=utf-8", PAGE) },
        ),
        Route::get(
            "/admin/docs/app.js",
            Access::Public,
            Operation::new("getDocsScript", "documentation", "The page's script")
                .about(open)
                .gives_as(200, "text/javascript", "The script.", TEXT(), Value::Null),
            || async { text("text/javascript; charset=utf-8", SCRIPT) },
        ),
        Route::get(
            "/admin/docs/app.css",
            Access::Public,
            Operation::new("getDocsStyle", "documentation", "The page's style")
                .about(open)
                .gives_as(200, "text/css", "The style.", TEXT(), Value::Null),
            || async { text("text/css; charset=utf-8", STYLE) },
        ),
    ]
}

fn text(media: &'static str, body: impl IntoResponse) -> Response {
    let mut response = body.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}
