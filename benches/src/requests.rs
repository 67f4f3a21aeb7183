//! What keys' limits and the response cache cost a request, in a data plane of one backend and without sockets.

use bytes::Bytes;
use gateway::bench::Bench;
use gateway::key_digest;
use router::spec::{BackendSpec, KeyLimits, KeySpec, Kind, ModelSpec, RegionSpec, SnapshotSpec};
use router::{BackendName, KeyName, ModelName, NameError, RegionName, TenantName};

use crate::inputs;

const MODEL: &str = "mistral-7b";

fn spec() -> Result<SnapshotSpec, NameError> {
    let (region, model) = (RegionName::try_from("eu")?, ModelName::try_from(MODEL)?);
    let mut spec = SnapshotSpec::default();
    spec.regions.push(RegionSpec { name: region.clone(), neighbours: Vec::new() });
    let url = "http://10.0.0.1:8000".to_owned();
    spec.backends.push(BackendSpec {
        models: Some(vec![model.clone()]),
        ..BackendSpec::new(BackendName::try_from("one")?, Kind::Vllm, url, region)
    });
    spec.models.push(ModelSpec::new(model));
    spec.cache.default = true;
    spec.keys.push(KeySpec {
        name: KeyName::try_from("team")?,
        digest: key_digest("sk-bench"),
        tenant: TenantName::try_from("team")?,
        models: Vec::new(),
        region: None,
        regions: Vec::new(),
        expires: None,
        disabled: false,
        priority: 0,
        // All that there is; far more than is used.
        limits: KeyLimits {
            requests_per_minute: Some(1_000_000),
            requests_per_day: Some(100_000_000),
            tokens_per_minute: Some(1_000_000_000),
            tokens_per_day: Some(1_000_000_000_000),
            concurrent: Some(1_000),
            burst: None,
        },
    });
    Ok(spec)
}

/// A request that may be cached.
fn bench() -> Bench {
    let body = inputs::small_chat();
    let text = String::from_utf8_lossy(&body).replace("\"stream\":true,", "").replace("0.7", "0");
    let bench = spec().ok().and_then(|spec| Bench::new(spec, Bytes::from(text)));
    let Some(bench) = bench else { unreachable!("the request is valid") };
    bench
}

/// Admission by all windows and a place, and the settling of both.
pub(crate) fn charges(times: u64) {
    let bench = bench();
    for _ in 0..times {
        assert!(bench.charge(), "it is far from its limits");
    }
}

/// From the plan to the head of the stored answer.
pub(crate) fn hits(times: u64) {
    let stored = bench().stored(Bytes::from_static(inputs::ANSWER));
    let Some(mut bench) = stored else { unreachable!("it may be cached") };
    for _ in 0..times {
        assert!(bench.ask(), "it was stored");
    }
}

/// From the plan to the knowledge that there is none.
pub(crate) fn misses(times: u64) {
    let mut bench = bench();
    for _ in 0..times {
        assert!(!bench.ask(), "nothing was stored");
    }
}
