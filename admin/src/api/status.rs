//! Live state as it joins the objects of an answer.

use router::Operation;
use router::health::{HealthState, ProbeResult};
use router::planes::BackendView;
use router::serving::serves;
use router::snapshot::Snapshot;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::world::{World, best};

/// A backend as one data plane sees it now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackendStatus {
    /// Which data plane.
    #[schema(example = "pid-4711")]
    plane: String,
    /// `online`, `degraded`, `offline`, `draining` or `unknown`.
    #[schema(example = "online")]
    state: &'static str,
    /// `closed`, `open` or `half_open`.
    #[schema(example = "closed")]
    breaker: &'static str,
    /// Requests under way, streams included.
    in_flight: u32,
    /// The last active check.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_check: Option<Check>,
    /// Decayed peak of the time to the first event, in milliseconds; absent when never measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_event_ms: Option<f64>,
    /// Why it is not online, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The operations that it serves.
    capabilities: Vec<&'static str>,
    /// What it says of its own load.
    #[serde(skip_serializing_if = "Option::is_none")]
    signals: Option<Signals>,
}

/// An active check.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Check {
    /// Seconds since then.
    age: f64,
    /// It passed.
    ok: bool,
    /// From its question to the whole answer, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<f64>,
}

/// What a backend says of its own load.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Signals {
    /// Requests that wait for a place there.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<u32>,
    /// Requests that it works on.
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<u32>,
    /// Share of its KV cache in use, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    kv_usage: Option<f32>,
    /// Bytes of the GPU's memory that its models take.
    #[serde(skip_serializing_if = "Option::is_none")]
    vram: Option<u64>,
    /// The models that it holds in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    loaded: Option<Vec<String>>,
}

impl BackendStatus {
    pub(crate) fn of(plane: &str, view: &BackendView) -> Self {
        let status = &view.status;
        let operations = Operation::ALL.iter().filter(|operation| serves(view.kind, **operation));
        Self {
            plane: plane.to_owned(),
            state: view.state.as_str(),
            breaker: status.breaker.as_str(),
            in_flight: status.in_flight,
            last_check: status.last_probe.map(|(age, result)| Check {
                age: age.as_secs_f64(),
                ok: result == ProbeResult::Passed,
                latency_ms: view.look.as_ref().map(|look| look.took.as_secs_f64() * 1e3),
            }),
            first_event_ms: status.first_event.map(|time| time.as_secs_f64() * 1e3),
            error: trouble(view),
            capabilities: operations.map(|operation| operation.as_str()).collect(),
            signals: status.signals.as_ref().map(|signals| Signals {
                waiting: signals.waiting,
                running: signals.running,
                kv_usage: signals.kv_usage,
                vram: signals.vram,
                loaded: signals
                    .loaded
                    .as_ref()
                    .map(|all| all.iter().map(|model| model.name.clone()).collect()),
            }),
        }
    }
}

/// Why a backend is not online, in words.
fn trouble(view: &BackendView) -> Option<String> {
    if view.state == HealthState::Online {
        return None;
    }
    if let Some(error) = view.look.as_ref().and_then(|look| look.error.as_ref()) {
        return Some(error.clone());
    }
    let words = match view.status.last_probe.map(|(_, result)| result) {
        _ if view.status.unauthorized => "it refuses our credentials",
        Some(ProbeResult::Unauthorized) => "it refuses our credentials",
        Some(ProbeResult::TimedOut) => "its check took too long",
        Some(ProbeResult::Failed) => "its check failed",
        Some(ProbeResult::Asleep) => "it is asleep",
        _ if view.status.open_for.is_some() => "its breaker is open",
        Some(ProbeResult::Passed) | None => return None,
    };
    Some(words.to_owned())
}

/// Where a model is served now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelStatus {
    /// The best state of the backends that serve it; `offline` when there is none.
    #[schema(example = "online")]
    state: &'static str,
    /// In the order in which its heads are tried, from its home region; a backend of several heads comes several times.
    backends: Vec<ServedBy>,
    /// Largest context in tokens, where it is configured or a backend says.
    #[serde(skip_serializing_if = "Option::is_none")]
    context_length: Option<u64>,
}

/// A backend that serves a model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ServedBy {
    /// Which backend.
    backend: String,
    /// Its name for the model.
    upstream_model: String,
    /// The head through which it is reached, where one is declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<String>,
    /// Where that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    /// The head is the model's priority head.
    priority: bool,
    /// How the backend is.
    state: &'static str,
}

/// A head now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HeadStatus {
    /// The best state of its members.
    #[schema(example = "online")]
    state: &'static str,
    /// Requests under way on its members, those that came through other heads included.
    in_flight: u32,
    /// Its backends in their order.
    members: Vec<Member>,
}

/// A backend of a head or a region.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Member {
    /// Which backend.
    backend: String,
    /// How it is.
    state: &'static str,
    /// Requests under way on all data planes.
    in_flight: u32,
}

/// A region now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RegionStatus {
    /// The best state of its backends.
    #[schema(example = "online")]
    state: &'static str,
    /// Its backends.
    members: Vec<Member>,
}

/// The status of a backend, one entry for each data plane that has it.
pub(crate) fn backend(world: &World, name: &str) -> Value {
    let all: Vec<BackendStatus> =
        world.backend(name).map(|(plane, view)| BackendStatus::of(plane, view)).collect();
    json(&all)
}

/// The status of a model.
pub(crate) fn model(world: &World, routes: Option<&Snapshot<()>>, name: &str) -> Value {
    let found = routes.and_then(|routes| Some((routes, routes.model(name)?)));
    let served = found.map(|(routes, model)| routes.served(model)).unwrap_or_default();
    let backends: Vec<ServedBy> = served
        .into_iter()
        .map(|served| ServedBy {
            state: world.state_of(served.backend.as_str()).as_str(),
            backend: served.backend.to_string(),
            upstream_model: served.upstream_model.to_string(),
            head: served.head.map(|head| head.to_string()),
            region: served.region.map(|region| region.to_string()),
            priority: served.priority,
        })
        .collect();
    let states = backends.iter().map(|served| world.state_of(&served.backend));
    let state = if backends.is_empty() { HealthState::Offline } else { best(states) };
    let context_length = found.and_then(|(_, model)| model.context_length);
    json(&ModelStatus { state: state.as_str(), backends, context_length })
}

/// The status of a head.
pub(crate) fn head(world: &World, backends: &[&str]) -> Value {
    let members = members(world, backends);
    let in_flight = members.iter().map(|member| member.in_flight).sum();
    json(&HeadStatus { state: state_of(world, backends), in_flight, members })
}

/// The status of a region.
pub(crate) fn region(world: &World, backends: &[&str]) -> Value {
    json(&RegionStatus { state: state_of(world, backends), members: members(world, backends) })
}

fn state_of(world: &World, backends: &[&str]) -> &'static str {
    best(backends.iter().map(|name| world.state_of(name))).as_str()
}

fn members(world: &World, backends: &[&str]) -> Vec<Member> {
    let member = |name: &&str| Member {
        backend: (*name).to_owned(),
        state: world.state_of(name).as_str(),
        in_flight: world.backend(name).map(|(_, view)| view.status.in_flight).sum(),
    };
    backends.iter().map(member).collect()
}

fn json<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
