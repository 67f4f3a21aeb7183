use std::time::Duration;

use super::*;
use crate::candidate::ExhaustedReason;
use crate::fixture::{
    backend, break_it, build, head, head_name, model, model_spec, query, region, regions,
};
use crate::spec::{Residency, SnapshotSpec};

fn world() -> SnapshotSpec {
    let mut asked = model_spec("m");
    asked.region = Some(region("eu"));
    asked.priority_head = Some(head_name("h-eu"));
    asked.heads = vec![head_name("h-us")];
    asked.fallbacks = vec![model("n")];
    let mut spec = SnapshotSpec {
        default_region: Some(region("eu")),
        regions: regions(&["eu", "us"]),
        backends: vec![
            backend("a", "eu", &["m"]),
            backend("b", "eu", &["m"]),
            backend("c", "eu", &["other"]),
            backend("u", "us", &["m", "n"]),
        ],
        models: vec![asked],
        ..SnapshotSpec::default()
    };
    spec.heads = vec![head("h-eu", "eu", &["a", "b", "c"]), head("h-us", "us", &["u"])];
    spec
}

fn verdicts(explanation: &Explanation) -> Vec<(String, Verdict)> {
    let candidates = explanation.tiers.iter().flat_map(|tier| &tier.candidates);
    candidates.map(|candidate| (candidate.backend.to_string(), candidate.verdict)).collect()
}

#[test]
fn the_order_and_every_reason_is_told_and_nothing_is_taken() {
    let now = Instant::now();
    let world = build(world()).unwrap();
    break_it(&world, "b", now);
    let told = explain(&world, &query("m"), now).unwrap();
    let seen = verdicts(&told);
    let name = |place: usize| seen[place].0.as_str();
    assert_eq!((name(0), seen[0].1), ("a", Verdict::Attempt(1)));
    assert_eq!(name(1), "b");
    assert!(matches!(seen[1].1, Verdict::PassedOver(PassedOver::Open { .. })));
    assert_eq!((name(2), seen[2].1), ("c", Verdict::PassedOver(PassedOver::ModelNotServed)));
    assert_eq!((name(3), seen[3].1), ("u", Verdict::Attempt(2)));
    assert_eq!((name(4), seen[4].1), ("u", Verdict::PassedOver(PassedOver::Tried)));
    assert_eq!(told.tiers[2].model.as_str(), "n");
    assert_eq!((told.refused, told.exhausted), (None, None));
    assert_eq!(world.budget().active(), 0);
}

#[test]
fn the_explanation_tells_what_then_happens() {
    let now = Instant::now();
    let mut spec = world();
    spec.retry.budget_per_second = 1e6;
    let world = build(spec).unwrap();
    // Two equal backends in one tier: their order is chance, that of the tiers is not.
    let told = explain(&world, &query("m"), now).unwrap();
    let tried: Vec<_> = verdicts(&told)
        .into_iter()
        .filter(|(_, verdict)| matches!(verdict, Verdict::Attempt(_)))
        .map(|(name, _)| name)
        .collect();
    let mut plan = plan(&world, &query("m"), &mut ()).unwrap();
    let (mut met, _) = crate::fixture::walk(&mut plan, now, &mut fastrand::Rng::with_seed(2));
    assert_eq!(tried, ["a", "b", "u"]);
    met[..2].sort();
    assert_eq!(met, tried);
}

#[test]
fn a_refused_plan_shows_what_is_blocked() {
    let mut spec = world();
    spec.models[0].residency = Residency::Strict;
    let world = build(spec).unwrap();
    let us = [region("us")];
    let narrowed = Query { key_regions: Some(&us), ..query("m") };
    let told = explain(&world, &narrowed, Instant::now()).unwrap();
    assert_eq!(told.refused, Some(PlanError::RegionUnavailable { allowed: vec![] }));
    assert_eq!(told.allowed, Some(vec![]));
    assert_eq!(told.tiers.len(), 3);
    assert!(told.tiers.iter().all(|tier| tier.blocked == Some(Blocked::Region)));
    assert!(explain(&world, &query("nobody"), Instant::now()).is_err());
}

#[test]
fn an_outage_is_told() {
    let now = Instant::now();
    let world = build(world()).unwrap();
    for name in ["a", "b", "u"] {
        break_it(&world, name, now);
    }
    let told = explain(&world, &query("m"), now).unwrap().exhausted.unwrap();
    assert_eq!(told.reason, ExhaustedReason::Unavailable);
    assert!(told.retry_after.is_some_and(|wait| wait <= Duration::from_secs(5)));
}
