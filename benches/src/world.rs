//! A large world to route in: 500 backends in two regions, 2,000 models on eight of them each.

use std::sync::Arc;
use std::time::Instant;

use router::plan::{Query, plan};
use router::snapshot::Snapshot;
use router::spec::{BackendSpec, Catalog, Kind, ModelSpec, RegionSpec, SnapshotSpec};
use router::{BackendName, ModelName, NameError, Operation, RegionName};

const BACKENDS: usize = 500;
const MODELS: usize = 2_000;
/// Backends that serve one model.
const REPLICAS: usize = 8;
const REGIONS: [&str; 2] = ["eu", "us"];

fn spec() -> Result<SnapshotSpec, NameError> {
    let mut spec = SnapshotSpec::default();
    for name in REGIONS {
        spec.regions.push(RegionSpec { name: RegionName::try_from(name)?, neighbours: Vec::new() });
    }
    for b in 0..BACKENDS {
        let name = BackendName::try_from(format!("backend-{b}").as_str())?;
        let region = RegionName::try_from(REGIONS[b % REGIONS.len()])?;
        let url = format!("http://10.0.{}.{}:8000", b / 250, b % 250 + 1);
        spec.backends.push(BackendSpec {
            models: Some(Vec::new()),
            ..BackendSpec::new(name, Kind::Vllm, url, region)
        });
    }
    for m in 0..MODELS {
        let name = ModelName::try_from(format!("model-{m}").as_str())?;
        for replica in 0..REPLICAS {
            let backend = &mut spec.backends[(m + replica * (BACKENDS / REPLICAS)) % BACKENDS];
            backend.models.get_or_insert_default().push(name.clone());
        }
        spec.models.push(ModelSpec {
            region: Some(RegionName::try_from(REGIONS[m % 2])?),
            ..ModelSpec::new(name)
        });
    }
    Ok(spec)
}

fn build(now: Instant) -> Option<Arc<Snapshot<()>>> {
    let spec = Arc::new(spec().ok()?);
    Snapshot::build(spec, &Catalog::new(), None, &mut |_| (), now).ok().map(Arc::new)
}

/// Plans a request so often, each for another model, and draws the first candidate, which at once gives its slot back.
pub(crate) fn plans(times: u64) {
    let now = Instant::now();
    let Some(snapshot) = build(now) else { unreachable!("the world is valid") };
    let mut rng = fastrand::Rng::with_seed(1);
    let names: Vec<String> = (0..MODELS).map(|m| format!("model-{m}")).collect();
    for name in names.iter().cycle().step_by(7).zip(0..times).map(|(name, _)| name) {
        let query = Query {
            model: name,
            operation: Operation::ChatCompletions,
            region: None,
            key_region: None,
            key_regions: None,
            affinity: None,
            repeatable: true,
        };
        let candidate = plan(&snapshot, &query, &mut ()).map(|mut plan| plan.next(now, &mut rng));
        assert!(matches!(candidate, Ok(Ok(_))), "{name} has no candidate");
        drop(std::hint::black_box(candidate));
    }
}
