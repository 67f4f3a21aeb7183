//! One look at every backend of a specification, without serving anything: what `forebay explain` and `check --online`
//! know of the world.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use router::health::ProbeResult;
use router::snapshot::{BuildError, SnapshotHandle};
use router::spec::SnapshotSpec;
use tokio::time::Instant;

use crate::plane::{Counted, Link, WorldHandle};
use crate::probes::{self, Load};

/// Why the look could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// The specification has errors.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Build(Vec<BuildError>),
    /// A runtime could not be made.
    #[error(transparent)]
    System(#[from] io::Error),
    /// The metrics could not be set up.
    #[error("metrics: {0}")]
    Metrics(String),
}

/// What one backend answered.
#[derive(Debug, Clone)]
pub struct Surveyed {
    /// Its name.
    pub backend: String,
    /// What its health check came to.
    pub health: ProbeResult,
    /// How many models it lists, or why there is no list.
    pub models: Result<usize, String>,
    /// How long the health check took.
    pub elapsed: Duration,
}

/// Asks every enabled backend for its health, models and load, all at once, each question within `timeout`. Nobody ramps up
/// in the world that comes out of it: it is as a gateway that has served for a while would see it.
///
/// # Errors
/// When the specification cannot be built; a backend that does not answer is no error.
pub fn survey(
    mut spec: SnapshotSpec,
    timeout: Duration,
) -> Result<(WorldHandle, Vec<Surveyed>), SurveyError> {
    spec.health.slow_start = Duration::ZERO;
    let counted = Counted::new().map_err(|error| SurveyError::Metrics(error.to_string()))?;
    let attach = move |spec: &router::spec::BackendSpec| Arc::new(Link::new(spec, 1, &counted));
    let now = std::time::Instant::now();
    let world = SnapshotHandle::new(spec, Box::new(attach), now).map_err(SurveyError::Build)?;
    let world = Arc::new(world);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(async {
        let snapshot = world.load();
        let asked: Vec<_> = snapshot
            .backends()
            .iter()
            .filter(|member| member.spec.enabled)
            .map(|member| tokio::spawn(one(Arc::clone(&world), member.clone(), timeout)))
            .collect();
        let mut found = Vec::with_capacity(asked.len());
        for task in asked {
            found.extend(task.await);
        }
        found
    });
    drop(runtime);
    let world =
        Arc::into_inner(world).ok_or_else(|| io::Error::other("a question outlived the survey"))?;
    Ok((world, found))
}

async fn one(
    world: Arc<WorldHandle>,
    member: router::snapshot::Member<Arc<Link>>,
    timeout: Duration,
) -> Surveyed {
    let begun = Instant::now();
    let mut health = probes::health(&member, timeout).await.result;
    let elapsed = begun.elapsed();
    if let Load::Said { signals, asleep } = probes::load(&member, timeout).await {
        member.live.set_load(signals, Instant::now().into_std());
        if asleep && health == ProbeResult::Passed {
            health = ProbeResult::Asleep;
        }
    }
    // There is no time for several looks: what one finds counts as many times as the thresholds ask for.
    let spec = Arc::clone(world.load().spec());
    for _ in 0..spec.health.up.max(spec.health.down) {
        member.live.record_probe(health, Instant::now().into_std());
    }
    let models = match probes::models(&member, timeout).await {
        Ok(models) => {
            let count = models.len();
            world.set_catalog(&member.spec.name, models.into(), Instant::now().into_std());
            Ok(count)
        }
        Err(error) => Err(error.to_string()),
    };
    Surveyed { backend: member.spec.name.to_string(), health, models, elapsed }
}
