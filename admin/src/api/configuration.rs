//! The configuration as a whole: what is in force, its versions, checks, reload, export and import.

use std::io;
use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use config::Environment;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::api::call::Call;
use crate::api::extract::{Query, expect_type, read};
use crate::api::object::{json_response, versions};
use crate::api::operation::Operation;
use crate::api::problem::{Flaw, Kind, Problem};
use crate::api::route::Route;
use crate::api::state::Api;
use crate::registry::{Applied, Problem as Mistake, Written};
use crate::role::Role;
use crate::store::StoreError;

/// Largest TOML text that is taken, in bytes.
const TEXT_MAX: usize = 16 << 20;
const TOML: &str = "application/toml";
const EXAMPLE: &str = "version = 1\n\n[[backend]]\nname = \"eu-vllm-1\"\nkind = \"vllm\"\nurl = \"http://10.0.0.4:8000\"\n";

/// How an import is done.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct How {
    /// Says what would change, and changes nothing.
    #[serde(default)]
    #[param(default = false)]
    dry_run: bool,
}

/// What a change of the whole came to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Outcome {
    /// The registry's version that holds the change; absent when nothing changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    /// The snapshot of this process's data plane in which it is in force; absent where none runs here.
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<u64>,
    /// What changed, or would.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<String>>,
    /// What is doubtful.
    warnings: Vec<Flaw>,
}

impl Outcome {
    /// Of a change that was made.
    pub(crate) const fn of(done: &Written) -> Self {
        Self {
            version: Some(done.version),
            applied: done.applied,
            changes: None,
            warnings: Vec::new(),
        }
    }
}

/// What a reload came to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Reloaded {
    /// The snapshot of this process's data plane in which it is in force; absent where none runs here.
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<u64>,
    /// Keys whose new value needs a restart.
    needs_restart: Vec<String>,
    /// Stored objects that take no part now.
    conflicts: Vec<Conflict>,
}

/// A stored object that takes no part.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Conflict {
    /// What it is.
    kind: &'static str,
    /// Its name.
    name: String,
    /// Why.
    errors: Vec<Flaw>,
}

/// What a check found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Checked {
    /// It could be in force.
    valid: bool,
    /// Errors and warnings with their places, as `forebay check --format json` has them.
    #[schema(value_type = Object)]
    report: Value,
}

pub(crate) fn routes() -> Vec<Route> {
    let text = || json!({"type": "string"});
    let outcome = || json!({"version": 18, "applied": 4, "warnings": []});
    vec![
        Route::get(
            "/admin/config/effective",
            Role::Viewer,
            Operation::new("getEffectiveConfig", "config", "Shows everything in force with its origin")
                .about("Defaults, files, stored objects and overrides as one TOML text; credentials are hidden.")
                .gives_as(200, TOML, "The text.", text(), json!(EXAMPLE))
                .tagged(),
            effective,
        ),
        Route::post(
            "/admin/config/validate",
            Role::Admin,
            Operation::new("validateConfig", "config", "Checks a configuration file")
                .about("As `forebay check` does, without reading any file: `${file:..}` is taken as given.")
                .takes_as(TOML, text(), json!(EXAMPLE))
                .gives::<Checked>(200, "What was found.", json!({"valid": true, "report": {"diagnostics": []}})),
            validate,
        ),
        Route::post(
            "/admin/config/reload",
            Role::Operator,
            Operation::new("reloadConfig", "config", "Reads the files again")
                .about("As SIGHUP does. A file that is wrong changes nothing.")
                .gives::<Reloaded>(200, "It is in force.", json!({"applied": 4, "needs_restart": [], "conflicts": []}))
                .fails(&[Kind::Conflict, Kind::Invalid]),
            reload,
        ),
        Route::get(
            "/admin/export",
            Role::Viewer,
            Operation::new("exportRegistry", "config", "Exports the registry")
                .about("As a configuration file; credentials are placeholders of the form `${file:secrets/..}`.")
                .gives_as(200, TOML, "The text.", text(), json!(EXAMPLE))
                .tagged(),
            export,
        ),
        Route::post(
            "/admin/import",
            Role::Admin,
            Operation::new("importRegistry", "config", "Imports a registry")
                .about("Makes the stored objects those of the text, all or none. Placeholders of credentials keep those that are there.")
                .query::<How>()
                .takes_as(TOML, text(), json!(EXAMPLE))
                .gives::<Outcome>(200, "It is done, or would be.", outcome())
                .fails(&[Kind::Conflict, Kind::ReadOnly, Kind::NoMasterKey]),
            import,
        ),
    ]
}

/// A text under its media type.
pub(crate) fn plain(media: &'static str, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

fn flaw(mistake: &Mistake) -> Flaw {
    Flaw {
        pointer: mistake.pointer.clone(),
        code: mistake.code.to_owned(),
        detail: mistake.detail.clone(),
    }
}

async fn effective(State(api): State<Api>) -> Response {
    plain(TOML, api.registry().effective())
}

async fn export(State(api): State<Api>) -> Response {
    plain(TOML, api.registry().export())
}

/// A body of TOML.
async fn toml_of(request: Request) -> Result<String, Problem> {
    let (parts, body) = request.into_parts();
    expect_type(&parts.headers, TOML)?;
    let bytes = read(body, TEXT_MAX).await?;
    String::from_utf8(bytes.into())
        .map_err(|_| Problem::new(Kind::InvalidRequest, "the body is not UTF-8"))
}

/// Variables are those of this process; files are taken to be there, and none is read.
struct Unread;

impl Environment for Unread {
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, _: &Path) -> io::Result<String> {
        // Long enough for every credential, and a digest or a master key as well as any.
        Ok("0".repeat(64))
    }

    fn list(&self, _: &Path) -> io::Result<Option<Vec<PathBuf>>> {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "files are not read here"))
    }
}

async fn validate(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let text = toml_of(request).await?;
    let checked = api.blocking(move |_| {
        let report = match config::load_text("body", &text, Path::new(""), &Unread) {
            Ok(loaded) => loaded.report(),
            Err(report) => report,
        };
        Checked {
            valid: !report.has_errors(),
            report: serde_json::from_str(&report.to_json()).unwrap_or_default(),
        }
    });
    Ok(json_response(StatusCode::OK, &checked.await?))
}

async fn reload(call: Call) -> Result<Response, Problem> {
    let Some(reload) = call.api.context().reload.clone() else {
        return Err(Problem::new(Kind::Conflict, "this process has no configuration file"));
    };
    let outcome = call.api.blocking(move |_| reload()).await?;
    let failed = outcome.is_err();
    let mut entry = call.audit("config.reload", "config", Value::Null);
    if failed {
        entry.outcome = "failed".to_owned();
    }
    let noted: Result<u64, StoreError> =
        call.api.store().write(move |tx| tx.add_audit(&entry)).await;
    if let Err(error) = noted {
        tracing::warn!(%error, "a reload is missing in the audit");
    }
    match outcome {
        Ok(applied) => Ok(json_response(StatusCode::OK, &reloaded(&applied))),
        Err(diagnostics) => {
            let flaw = Flaw {
                pointer: String::new(),
                code: "configuration".to_owned(),
                detail: diagnostics,
            };
            Err(Problem::invalid(vec![flaw]))
        }
    }
}

fn reloaded(applied: &Applied) -> Reloaded {
    let conflicts = applied.conflicts.iter().map(|conflict| Conflict {
        kind: conflict.kind.as_str(),
        name: conflict.name.clone(),
        errors: conflict.problems.iter().map(flaw).collect(),
    });
    Reloaded {
        applied: applied.version,
        needs_restart: applied.needs_restart.iter().map(|key| (*key).to_owned()).collect(),
        conflicts: conflicts.collect(),
    }
}

async fn import(call: Call, Query(how): Query<How>, request: Request) -> Result<Response, Problem> {
    let text = toml_of(request).await?;
    let world = call.api.world().await?;
    let change = call.change(None, &world);
    let imported = call.api.registry().import(text, how.dry_run, change).await?;
    let outcome = Outcome {
        version: imported.written.as_ref().map(|done| done.version),
        applied: imported.written.as_ref().and_then(|done| done.applied),
        changes: Some(imported.changes),
        warnings: imported.warnings.iter().map(flaw).collect(),
    };
    let mut response = json_response(StatusCode::OK, &outcome);
    if let Some(done) = &imported.written {
        versions(&mut response, done);
    }
    Ok(response)
}
