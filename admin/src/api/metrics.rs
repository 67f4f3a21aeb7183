//! What was measured, by range: of a backend, of a model.

use axum::extract::State;
use router::planes::Tally;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::api::extract::{Id, Query};
use crate::api::moment::{self, now_ms};
use crate::api::named;
use crate::api::operation::Operation;
use crate::api::problem::{Kind, Problem};
use crate::api::profile;
use crate::api::route::Route;
use crate::api::state::Api;
use crate::history::{self, Metric, Range, RangeError, Statistics};
use crate::role::Role;
use crate::store::{Series, Subject};

/// The range when nothing is said, seconds.
const RANGE: u64 = 60 * 60;
/// Widest step that can be asked for: a year, seconds.
const STEP_MAX: u64 = 365 * 24 * 60 * 60;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// The beginning; an hour before `to` when nothing is said.
    #[param(format = DateTime, example = "2026-03-01T09:30:00Z")]
    from: Option<String>,
    /// The end, not included; now when nothing is said.
    #[param(format = DateTime, example = "2026-03-01T10:30:00Z")]
    to: Option<String>,
    /// Comma-separated names of metrics; all when nothing is said.
    #[param(
        example = "requests,first_event_ms",
        pattern = "^(in_flight|queue|kv_use|vram|requests|errors|first_event_ms|duration_ms|tokens_per_second)(,(in_flight|queue|kv_use|vram|requests|errors|first_event_ms|duration_ms|tokens_per_second))*$"
    )]
    metrics: Option<String>,
    /// Width of a step, seconds; what comes may be wider, so that an answer has at most 10,000 points.
    #[param(minimum = 1, maximum = 31536000, example = 60)]
    step: Option<u64>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Span {
    /// The beginning; an hour before `to` when nothing is said.
    #[param(format = DateTime, example = "2026-03-01T09:30:00Z")]
    from: Option<String>,
    /// The end, not included; now when nothing is said.
    #[param(format = DateTime, example = "2026-03-01T10:30:00Z")]
    to: Option<String>,
}

/// Series of one subject.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Measured {
    /// Its name.
    #[schema(example = "eu-vllm-1")]
    subject: String,
    /// Unix seconds.
    from: u64,
    /// Unix seconds, not included.
    to: u64,
    /// A series for each metric that has points.
    series: Vec<OneSeries>,
}

/// One metric over time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OneSeries {
    /// `in_flight`, `queue`, `kv_use`, `vram`, `requests`, `errors` (per second), `first_event_ms`, `duration_ms`,
    /// `tokens_per_second`.
    #[schema(example = "requests")]
    metric: String,
    /// The width of a step, seconds.
    step: u64,
    /// Pairs of a step's beginning (unix seconds) and the mean over it; steps without a value are missing.
    #[schema(value_type = Vec<Vec<f64>>)]
    points: Vec<(u64, f64)>,
}

impl From<Series> for OneSeries {
    fn from(series: Series) -> Self {
        let points = series.points.iter().map(|point| (point.at, point.value)).collect();
        Self { metric: series.metric, step: series.step, points }
    }
}

/// What became of requests for a model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OfModel {
    /// Which model.
    #[schema(example = "mistral-7b")]
    model: String,
    /// Unix seconds.
    from: u64,
    /// Unix seconds, not included.
    to: u64,
    /// In this range.
    range: Statistics,
    /// Requests since the data planes that run now began.
    requests_since_start: u64,
    /// The end of the last request that a running data plane served.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, example = "2026-03-01T09:30:00.000Z")]
    last_used: Option<String>,
    /// What the last measured run came to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    profile: Option<Value>,
}

impl From<RangeError> for Problem {
    fn from(error: RangeError) -> Self {
        match error {
            RangeError::Slow => Self::new(Kind::Busy, error.to_string()),
            RangeError::Store(error) => Self::from(error),
        }
    }
}

/// A moment as unix seconds.
fn seconds(name: &str, text: &str) -> Result<u64, Problem> {
    let found = moment::parse(text).map(|ms| ms / 1000);
    found.ok_or_else(|| Problem::parameter(name, "a moment as RFC 3339 has it"))
}

fn range(from: Option<&str>, to: Option<&str>, step: Option<u64>) -> Result<Range, Problem> {
    let to = to.map_or(Ok(now_ms() / 1000), |text| seconds("to", text))?;
    let from = from.map_or(Ok(to.saturating_sub(RANGE)), |text| seconds("from", text))?;
    if step.is_some_and(|step| !(1..=STEP_MAX).contains(&step)) {
        let words = format!("a number of seconds from 1 to {STEP_MAX}");
        return Err(Problem::parameter("step", words));
    }
    Ok(Range { from: from.min(to), to, step })
}

fn metrics(text: Option<&str>) -> Result<Vec<Metric>, Problem> {
    let words = text.into_iter().flat_map(|text| text.split(',')).map(str::trim);
    let known = || {
        let words: Vec<_> = Metric::ALL.into_iter().map(Metric::as_str).collect();
        Problem::parameter("metrics", words.join(", "))
    };
    let mut found: Vec<Metric> =
        words.map(|word| Metric::of(word).ok_or_else(known)).collect::<Result<_, _>>()?;
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

pub(crate) fn routes() -> Vec<Route> {
    let about = "Means over steps of 10 s for the last 6 hours, of a minute for 3 days, of 15 minutes for 90 days. An answer \
                 has at most 10,000 points and takes at most 2 s.";
    let example = json!({
        "subject": "eu-vllm-1",
        "from": 1_772_357_400,
        "to": 1_772_361_000,
        "series": [{"metric": "requests", "step": 60, "points": [[1_772_357_400, 2.5]]}],
    });
    let statistics = json!({
        "model": "mistral-7b",
        "from": 1_772_357_400,
        "to": 1_772_361_000,
        "range": {"requests": 1200.0, "errors": 3.0, "success_rate": 0.9975, "output_tokens": 96000.0},
        "requests_since_start": 52_000,
    });
    vec![
        Route::get(
            "/admin/backends/{id}/metrics",
            Role::Viewer,
            Operation::new("getBackendMetrics", "backends", "What was measured of a backend")
                .about(about)
                .query::<Asked>()
                .gives::<Measured>(200, "The series.", example.clone()),
            of_backend,
        ),
        Route::get(
            "/admin/models/{id}/metrics",
            Role::Viewer,
            Operation::new("getModelMetrics", "models", "What was measured of a model")
                .about(about)
                .query::<Asked>()
                .gives::<Measured>(200, "The series.", example),
            of_model,
        ),
        Route::get(
            "/admin/models/{id}/statistics",
            Role::Viewer,
            Operation::new("getModelStatistics", "models", "What became of requests for a model")
                .about("Sums and means over a range, when it was last used, and the last measured run.")
                .query::<Span>()
                .gives::<OfModel>(200, "The statistics.", statistics),
            statistics_of,
        ),
    ]
}

async fn measured(api: &Api, subject: Subject, asked: Asked) -> Result<Measured, Problem> {
    let range = range(asked.from.as_deref(), asked.to.as_deref(), asked.step)?;
    let metrics = metrics(asked.metrics.as_deref())?;
    let name = subject.name.clone();
    let series = history::read(&api.store().get()?, subject, &metrics, range).await?;
    let series = series.into_iter().map(OneSeries::from).collect();
    Ok(Measured { subject: name, from: range.from, to: range.to, series })
}

async fn of_backend(
    State(api): State<Api>,
    Id(id): Id,
    Query(asked): Query<Asked>,
) -> Result<axum::Json<Measured>, Problem> {
    let name = named::backend(&api, &id)?;
    Ok(axum::Json(measured(&api, Subject::new(history::BACKEND, &name), asked).await?))
}

async fn of_model(
    State(api): State<Api>,
    Id(id): Id,
    Query(asked): Query<Asked>,
) -> Result<axum::Json<Measured>, Problem> {
    let name = named::model(&api, &id).await?;
    Ok(axum::Json(measured(&api, Subject::new(history::MODEL, &name), asked).await?))
}

async fn statistics_of(
    State(api): State<Api>,
    Id(id): Id,
    Query(span): Query<Span>,
) -> Result<axum::Json<OfModel>, Problem> {
    let model = named::model(&api, &id).await?;
    let range = range(span.from.as_deref(), span.to.as_deref(), None)?;
    let subject = Subject::new(history::MODEL, &model);
    let series = history::read(&api.store().get()?, subject, &[], range).await?;
    let name = model.clone();
    let tallies = api.blocking(move |context| {
        let planes = context.planes.all();
        let of_plane = |plane: &crate::live::PlaneRef| {
            let models = plane.inspect.totals().models.into_iter();
            models.filter(|(model, _)| model.as_str() == name).map(|(_, tally)| tally).next()
        };
        planes.iter().filter_map(of_plane).collect::<Vec<Tally>>()
    });
    let tallies = tallies.await?;
    let last = tallies.iter().filter_map(|tally| tally.last).max();
    let profile = profile::last(&api, &model).await?;
    Ok(axum::Json(OfModel {
        from: range.from,
        to: range.to,
        range: history::statistics(&series),
        requests_since_start: tallies.iter().map(|tally| tally.requests).sum(),
        last_used: last.map(|at| moment::show(moment::ms_of(at))),
        profile,
        model,
    }))
}
