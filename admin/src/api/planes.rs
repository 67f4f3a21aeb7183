//! `GET /admin/state`: what each data plane does now, and whether it does what is asked for.

use axum::extract::State;
use router::planes::QueueView;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::api::moment;
use crate::api::operation::Operation;
use crate::api::problem::Problem;
use crate::api::route::Route;
use crate::api::state::Api;
use crate::api::status::BackendStatus;
use crate::live::PlaneRef;
use crate::role::Role;

/// What is asked for, and what is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = State)]
pub(crate) struct WholeState {
    /// The revision of what is asked for.
    desired_revision: u64,
    /// Why the store is not in use; what is in force is then the last good state.
    #[serde(skip_serializing_if = "Option::is_none")]
    degraded: Option<String>,
    /// Every data plane, by name.
    planes: Vec<PlaneState>,
}

/// One data plane.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlaneState {
    /// Its process.
    #[schema(example = "pid-4711")]
    name: String,
    /// It answers.
    reachable: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What it says; absent when it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<Live>,
}

/// What a data plane says.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Live {
    /// Its process's number.
    pid: u32,
    /// The snapshot that requests see.
    version: u64,
    /// The revision that this snapshot was made from.
    revision: u64,
    /// That is what is asked for.
    up_to_date: bool,
    /// Client connections that are open.
    connections: u64,
    /// Bytes of request bodies held.
    buffered_bytes: u64,
    /// It takes no new work and will end.
    stopping: bool,
    /// The last configuration that it was offered and did not take.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Refusal>,
    /// Its backends, by name.
    backends: Vec<NamedStatus>,
    /// The models that requests wait for.
    queues: Vec<Queue>,
}

/// A configuration that is not in force.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Refusal {
    /// When it was offered.
    #[schema(format = DateTime, example = "2026-03-01T09:30:00.000Z")]
    at: String,
    /// What is wrong with it.
    reason: String,
}

/// A backend as this data plane sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NamedStatus {
    /// Which backend.
    #[schema(example = "eu-vllm-1")]
    name: String,
    /// What it speaks.
    #[schema(example = "vllm")]
    kind: &'static str,
    /// Where it stands.
    #[schema(example = "eu")]
    region: String,
    /// How it is.
    status: BackendStatus,
}

/// Requests that wait for a free backend of a model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Queue {
    /// Which model.
    #[schema(example = "mistral-7b")]
    model: String,
    /// How many wait.
    depth: u32,
    /// Most that may.
    size: u32,
    /// How long the oldest has waited, milliseconds.
    oldest_ms: f64,
    /// How long one that came now would wait, milliseconds; absent where nothing became free yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_ms: Option<f64>,
}

impl From<QueueView> for Queue {
    fn from(view: QueueView) -> Self {
        Self {
            model: view.model.to_string(),
            depth: view.depth,
            size: view.size,
            oldest_ms: view.oldest.as_secs_f64() * 1e3,
            expected_ms: view.expected.map(|time| time.as_secs_f64() * 1e3),
        }
    }
}

impl PlaneState {
    /// Asks a plane; may block.
    fn of(plane: &PlaneRef, desired: u64) -> Self {
        let reachable = plane.unreachable.is_none();
        let live = reachable.then(|| Live::of(plane, desired));
        Self { name: plane.name.clone(), reachable, error: plane.unreachable.clone(), live }
    }
}

impl Live {
    fn of(plane: &PlaneRef, desired: u64) -> Self {
        let process = plane.inspect.process();
        let backends = plane.inspect.backends();
        let named = backends.iter().map(|view| NamedStatus {
            name: view.name.to_string(),
            kind: view.kind.as_str(),
            region: view.region.to_string(),
            status: BackendStatus::of(&plane.name, view),
        });
        Self {
            pid: process.pid,
            version: plane.inspect.version(),
            revision: process.revision,
            up_to_date: process.revision == desired,
            connections: process.connections,
            buffered_bytes: process.buffered_bytes,
            stopping: process.stopping,
            refusal: process
                .refusal
                .map(|(at, reason)| Refusal { at: moment::show(moment::ms_of(at)), reason }),
            backends: named.collect(),
            queues: plane.inspect.queues().into_iter().map(Queue::from).collect(),
        }
    }
}

pub(crate) fn routes() -> Vec<Route> {
    vec![Route::get(
        "/admin/state",
        Role::Viewer,
        Operation::new("getState", "state", "What each data plane does now")
            .about(
                "Live state of every data plane: the version that it applied beside the one that is asked for, its \
                 backends with their breakers, who waits, and the last configuration that it refused. A plane that does \
                 not answer is shown as such.",
            )
            .gives::<WholeState>(200, "The state.", json!({"desired_revision": 7, "planes": []})),
        state,
    )]
}

async fn state(State(api): State<Api>) -> Result<axum::Json<WholeState>, Problem> {
    let registry = api.registry();
    let (desired, degraded) = (registry.desired().revision, registry.degraded());
    let planes = api.blocking(move |context| {
        let planes = context.planes.all();
        planes.iter().map(|plane| PlaneState::of(plane, desired)).collect()
    });
    let planes = planes.await?;
    Ok(axum::Json(WholeState { desired_revision: desired, degraded, planes }))
}
