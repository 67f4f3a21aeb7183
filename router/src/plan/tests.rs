use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::backend::Backend;
use crate::fixture::{
    backend, backend_name, break_it, build, build_with, end, failed, failure, found, head,
    head_name, model, model_spec, query, region, regions, route, walk,
};
use crate::health::ProbeResult;
use crate::ids::RegionName;
use crate::load::{LoadSignals, LoadedModel};
use crate::operation::Operation;
use crate::outcome::{FailureKind, Outcome};
use crate::spec::{
    Catalog, DeploymentSpec, HeadOrder, ModelSpec, Policy, RegionSpec, Residency, RetrySpec,
    Secret, SnapshotSpec, TimeoutOverrides,
};

type World = Arc<Snapshot<()>>;

fn rng() -> fastrand::Rng {
    fastrand::Rng::with_seed(11)
}

/// A world in which retries are not what a test is about.
fn spec(backends: Vec<crate::spec::BackendSpec>, models: Vec<ModelSpec>) -> SnapshotSpec {
    SnapshotSpec {
        default_region: Some(region("eu")),
        regions: regions(&["eu", "us", "cn"]),
        backends,
        models,
        retry: RetrySpec { max_attempts: 8, budget_per_second: 1e6, ..RetrySpec::default() },
        ..SnapshotSpec::default()
    }
}

fn order(world: &World, query: &Query<'_>) -> Vec<String> {
    walk(&mut route(world, query), Instant::now(), &mut rng()).0
}

fn exhausted(world: &World, query: &Query<'_>, now: Instant) -> Exhausted {
    route(world, query).next(now, &mut rng()).unwrap_err()
}

fn live<'w>(world: &'w World, name: &str) -> &'w Arc<Backend<()>> {
    &world.backend(name).unwrap().live
}

/// Three heads: eu (priority), us, cn; the last two listed in the other order; us is nearer.
fn three_heads() -> SnapshotSpec {
    let mut asked = model_spec("m");
    asked.region = Some(region("eu"));
    asked.priority_head = Some(head_name("h-eu"));
    asked.heads = vec![head_name("h-cn"), head_name("h-us"), head_name("h-eu2")];
    let names = ["eu", "us", "cn", "eu2"];
    let place = |name: &&str| name[..2].to_owned();
    let backends = names.iter().map(|n| backend(&format!("b-{n}"), &place(n), &["m"])).collect();
    let mut spec = spec(backends, vec![asked]);
    spec.regions[0].neighbours = vec![region("us"), region("cn")];
    spec.regions[2].neighbours = vec![region("us")];
    spec.heads =
        names.iter().map(|n| head(&format!("h-{n}"), &place(n), &[&format!("b-{n}")])).collect();
    spec
}

#[test]
fn tiers_begin_with_the_priority_head_then_home_then_neighbours() {
    let world = build(three_heads()).unwrap();
    assert_eq!(order(&world, &query("m")), ["b-eu", "b-eu2", "b-us", "b-cn"]);
}

#[test]
fn an_asked_region_comes_first_and_its_neighbours_next() {
    let world = build(three_heads()).unwrap();
    let asked = Query { region: Some("cn"), ..query("m") };
    assert_eq!(order(&world, &asked), ["b-cn", "b-us", "b-eu", "b-eu2"]);
    let (cn, us) = (region("cn"), region("us"));
    let by_key = Query { key_region: Some(&cn), ..query("m") };
    assert_eq!(order(&world, &by_key), ["b-cn", "b-us", "b-eu", "b-eu2"]);
    let both = Query { region: Some("eu"), key_region: Some(&us), ..query("m") };
    assert_eq!(order(&world, &both)[0], "b-eu", "the header is more explicit than the key");
}

#[test]
fn an_unknown_region_is_refused_with_the_known_ones() {
    let world = build(three_heads()).unwrap();
    let asked = Query { region: Some("mars"), ..query("m") };
    let known = ["eu", "us", "cn"].map(region).to_vec();
    assert_eq!(plan(&world, &asked, &mut ()).unwrap_err(), PlanError::UnknownRegion { known });
    assert_eq!(plan(&world, &query("x"), &mut ()).unwrap_err(), PlanError::UnknownModel);
}

#[test]
fn without_heads_each_region_is_an_implicit_head() {
    let backends = vec![
        backend("us-1", "us", &["m"]),
        backend("eu-1", "eu", &["m"]),
        backend("eu-2", "eu", &["m"]),
        backend("eu-3", "eu", &["other"]),
    ];
    let world = build(spec(backends, vec![])).unwrap();
    let order = order(&world, &query("m"));
    assert_eq!((order.len(), order[2].as_str()), (3, "us-1"));
    let candidate = route(&world, &query("m")).next(Instant::now(), &mut rng()).unwrap();
    assert_eq!((candidate.head, candidate.region.as_str()), (None, "eu"));
}

#[test]
fn listed_heads_keep_their_order() {
    let mut asked = model_spec("m");
    asked.heads = vec![head_name("h")];
    let names = ["c", "a", "b"];
    let mut spec = spec(names.map(|n| backend(n, "eu", &["m"])).to_vec(), vec![asked]);
    spec.heads = vec![head("h", "eu", &names)];
    spec.heads[0].order = HeadOrder::Listed;
    assert_eq!(order(&build(spec).unwrap(), &query("m")), names);
}

#[test]
fn the_example_of_the_manual_runs_as_written() {
    let mut mistral = model_spec("mistral-7b");
    mistral.aliases = vec![model("gpt-4o-mini")];
    mistral.region = Some(region("eu"));
    mistral.regions = vec![region("us")];
    mistral.residency = Residency::Strict;
    mistral.priority_head = Some(head_name("head-eu"));
    mistral.heads = vec![head_name("head-us")];
    mistral.fallbacks = vec![model("llama3.1")];
    mistral.upstream_model = Some(model("mistralai/Mistral-7B-Instruct-v0.3"));
    mistral.timeouts.first_event = Some(Duration::from_secs(60));
    let mut vllm = backend("eu-vllm-1", "eu", &[]);
    vllm.api_key = Some(Secret::new("k"));
    let mut ollama = backend("us-ollama-1", "us", &[]);
    ollama.kind = Kind::Ollama;
    (vllm.models, ollama.models) = (None, None);
    let mut spec = spec(vec![vllm, ollama], vec![mistral]);
    spec.heads =
        vec![head("head-eu", "eu", &["eu-vllm-1"]), head("head-us", "us", &["us-ollama-1"])];
    let catalog = Catalog::from([
        (backend_name("eu-vllm-1"), Arc::from([found("mistralai/Mistral-7B-Instruct-v0.3")])),
        (backend_name("us-ollama-1"), Arc::from([found("llama3.1:latest")])),
    ]);
    let world = build_with(spec, &catalog).unwrap();
    let now = Instant::now();
    let mut plan = route(&world, &query("gpt-4o-mini"));
    let first = plan.next(now, &mut rng()).unwrap();
    assert_eq!(first.upstream_model.as_str(), "mistralai/Mistral-7B-Instruct-v0.3");
    assert_eq!(first.head, Some(head_name("head-eu")));
    assert_eq!(first.timeouts.first_event, Duration::from_secs(60));
    assert_eq!(first.api_key, Some(Secret::new("k")));
    end(first, &failed(FailureKind::ConnectFailed), now);
    // The second head does not serve mistral; the fallback was found there under Ollama's spelling.
    let second = plan.next(now, &mut rng()).unwrap();
    assert_eq!(second.model.name.as_str(), "llama3.1:latest");
    assert_eq!(second.member.spec.name.as_str(), "us-ollama-1");
    drop(second);
    assert_eq!(plan.next(now, &mut rng()).unwrap_err().reason, ExhaustedReason::Tried);
    assert_eq!(plan.model().name.as_str(), "mistral-7b");
}

#[test]
fn before_discovery_a_declared_head_is_taken_at_its_word() {
    let mut asked = model_spec("m");
    asked.heads = vec![head_name("h")];
    let mut unknown = backend("b", "eu", &[]);
    unknown.models = None;
    let mut spec = spec(vec![unknown], vec![asked]);
    spec.heads = vec![head("h", "eu", &["b"])];
    assert_eq!(order(&build(spec.clone()).unwrap(), &query("m")), ["b"]);
    let catalog = Catalog::from([(backend_name("b"), Arc::from([found("other")]))]);
    let world = build_with(spec.clone(), &catalog).unwrap();
    assert_eq!(plan(&world, &query("m"), &mut ()).unwrap_err(), PlanError::NotServed);
    spec.models[0].heads.clear();
    let world = build(spec).unwrap();
    assert_eq!(plan(&world, &query("m"), &mut ()).unwrap_err(), PlanError::NotServed);
}

#[test]
fn deployments_bring_their_own_name_weight_and_credential() {
    let mut asked = model_spec("m");
    asked.deployments = vec![DeploymentSpec {
        backend: backend_name("b"),
        upstream_model: Some(model("raw")),
        weight: Some(7),
        api_key: Some(Secret::new("own")),
    }];
    let mut b = backend("b", "eu", &["raw"]);
    b.api_key = Some(Secret::new("shared"));
    b.timeouts =
        TimeoutOverrides { idle: Some(Duration::from_secs(9)), ..TimeoutOverrides::default() };
    let world = build(spec(vec![b, backend("c", "eu", &["m"])], vec![asked])).unwrap();
    let mut plan = route(&world, &query("m"));
    let candidate = plan.next(Instant::now(), &mut rng()).unwrap();
    assert_eq!(candidate.upstream_model.as_str(), "raw");
    assert_eq!(candidate.api_key, Some(Secret::new("own")));
    assert_eq!(candidate.timeouts.idle, Duration::from_secs(9));
    assert_eq!(world.model("m").unwrap().route.tiers[0].members[0].weight, 7);
    assert!(plan.next(Instant::now(), &mut rng()).is_err(), "without heads, only deployments");
}

#[test]
fn operations_go_to_kinds_that_serve_them() {
    let mut tei = backend("tei", "eu", &["m"]);
    tei.kind = Kind::Tei;
    let world = build(spec(vec![tei], vec![])).unwrap();
    let embeddings = Query { operation: Operation::Embeddings, ..query("m") };
    assert_eq!(order(&world, &embeddings), ["tei"]);
    assert_eq!(plan(&world, &query("m"), &mut ()).unwrap_err(), PlanError::NotServed);
}

#[test]
fn strict_residency_fails_closed() {
    let mut strict = model_spec("m");
    strict.residency = Residency::Strict;
    strict.fallbacks = vec![model("n")];
    let backends = vec![backend("us", "us", &["m", "n"])];
    let world = build(spec(backends, vec![strict])).unwrap();
    let allowed = vec![region("eu")];
    let error = plan(&world, &query("m"), &mut ()).unwrap_err();
    assert_eq!(error, PlanError::RegionUnavailable { allowed });
    assert_eq!(order(&world, &query("n")), ["us"], "its fallback by itself is free");
}

#[test]
fn a_key_narrows_and_never_widens() {
    let mut strict = model_spec("m");
    (strict.residency, strict.regions) = (Residency::Strict, vec![region("us")]);
    let backends = ["eu", "us", "cn"].map(|place| backend(place, place, &["m", "free"]));
    let world = build(spec(backends.to_vec(), vec![strict])).unwrap();
    let (us_cn, cn, none) = ([region("us"), region("cn")], [region("cn")], []);
    let narrowed = |model, key| Query { key_regions: Some(key), ..query(model) };
    assert_eq!(order(&world, &narrowed("m", &us_cn)), ["us"]);
    assert_eq!(order(&world, &narrowed("free", &cn)), ["cn"]);
    for (name, key) in [("m", &cn[..]), ("m", &none[..]), ("free", &none[..])] {
        let error = plan(&world, &narrowed(name, key), &mut ()).unwrap_err();
        assert!(matches!(error, PlanError::RegionUnavailable { allowed } if allowed.is_empty()));
    }
}

#[test]
fn strict_models_never_leave_the_machine() {
    let mut ollama = backend("o", "eu", &["big:cloud"]);
    (ollama.kind, ollama.allow_cloud) = (Kind::Ollama, true);
    let mut asked = model_spec("m");
    asked.upstream_model = Some(model("big:cloud"));
    let mut strict = asked.clone();
    strict.residency = Residency::Strict;
    let world = build(spec(vec![ollama.clone()], vec![asked])).unwrap();
    assert_eq!(order(&world, &query("m")), ["o"]);
    let eu = [region("eu")];
    let narrowed = Query { key_regions: Some(&eu), ..query("m") };
    assert!(plan(&world, &narrowed, &mut ()).is_err(), "a key's regions hold for the cloud too");
    let world = build(spec(vec![ollama], vec![strict])).unwrap();
    let error = plan(&world, &query("m"), &mut ()).unwrap_err();
    assert!(matches!(error, PlanError::RegionUnavailable { .. }));
}

#[test]
fn local_inference_holds_for_fallbacks() {
    let mut asked = model_spec("m");
    (asked.local_inference, asked.fallbacks) = (true, vec![model("n")]);
    let mut near = backend("near", "eu", &["n"]);
    near.local = true;
    let backends = vec![backend("far", "eu", &["m", "n"]), near];
    let world = build(spec(backends, vec![asked])).unwrap();
    assert_eq!(order(&world, &query("m")), ["near"]);
}

#[test]
fn who_is_not_well_is_passed_over() {
    let now = Instant::now();
    let names = ["absent", "drained", "draining", "offline", "open", "resting", "well"];
    let mut backends = names.map(|name| backend(name, "eu", &["m"])).to_vec();
    backends[2].draining = true;
    let world = build(spec(backends, vec![])).unwrap();
    live(&world, "absent").mark_model_absent("m", now);
    live(&world, "drained").drain();
    for _ in 0..3 {
        live(&world, "offline").record_probe(ProbeResult::Failed, now);
    }
    break_it(&world, "open", now);
    let rest =
        Failure { retry_after: Some(Duration::from_secs(9)), ..failure(FailureKind::Overloaded) };
    let permit = live(&world, "resting").breaker().admit(now).unwrap();
    live(&world, "resting").report(permit, &Outcome::Failure(rest), now, &mut rng());
    for _ in 0..50 {
        let mut plan = route(&world, &query("m"));
        let candidate = plan.next(now, &mut rng()).unwrap();
        assert_eq!(candidate.member.spec.name.as_str(), "well");
    }
}

#[test]
fn saturation_is_told_with_a_time() {
    let now = Instant::now();
    let mut capped = backend("b", "eu", &["m"]);
    capped.max_in_flight = Some(2);
    let world = build(spec(vec![capped], vec![])).unwrap();
    let held: Vec<_> = (0..2).map(|_| route(&world, &query("m")).next(now, &mut rng())).collect();
    let told = exhausted(&world, &query("m"), now);
    assert_eq!(told.reason, ExhaustedReason::Saturated);
    assert_eq!(told.retry_after, Some(Duration::from_secs(1)));
    drop(held);
    assert!(route(&world, &query("m")).next(now, &mut rng()).is_ok());
    let rest =
        Failure { retry_after: Some(Duration::from_secs(9)), ..failure(FailureKind::Overloaded) };
    let candidate = route(&world, &query("m")).next(now, &mut rng()).unwrap();
    end(candidate, &Outcome::Failure(rest), now);
    let told = exhausted(&world, &query("m"), now + Duration::from_secs(2));
    assert_eq!(told.reason, ExhaustedReason::Saturated);
    assert_eq!(told.retry_after.map(|wait| wait.as_secs_f64().round()), Some(7.0));
}

#[test]
fn a_slot_is_held_until_it_is_dropped_and_a_permit_is_not_a_slot() {
    let now = Instant::now();
    let world = build(spec(vec![backend("b", "eu", &["m"])], vec![])).unwrap();
    let candidate = route(&world, &query("m")).next(now, &mut rng()).unwrap();
    let Candidate { slot, permit, member, .. } = candidate;
    member.live.report(permit, &Outcome::Success, now, &mut rng());
    assert_eq!(member.live.in_flight(), 1);
    assert_eq!(world.budget().active(), 1);
    drop(slot);
    assert_eq!((member.live.in_flight(), world.budget().active()), (0, 0));
}

#[test]
fn attempts_are_bounded_per_model_and_in_all() {
    let mut asked = model_spec("m0");
    asked.fallbacks = (1..6).map(|n| model(&format!("m{n}"))).collect();
    let names: Vec<String> = (0..30).map(|n| format!("b{n}")).collect();
    let backends = names.iter().enumerate();
    let backends = backends.map(|(n, name)| backend(name, "eu", &[&format!("m{}", n % 6)]));
    let mut spec = spec(backends.collect(), vec![asked]);
    spec.retry.max_attempts = 3;
    let world = build(spec).unwrap();
    let now = Instant::now();
    let mut plan = route(&world, &query("m0"));
    let mut models = Vec::new();
    while let Ok(candidate) = plan.next(now, &mut rng()) {
        models.push(candidate.model.name.to_string());
        end(candidate, &failed(FailureKind::ConnectFailed), now);
    }
    assert_eq!(models, ["m0", "m0", "m0", "m1", "m1", "m1", "m2", "m2"]);
}

#[test]
fn the_first_failover_is_free_and_later_ones_draw_on_the_budget() {
    let now = Instant::now();
    let names = ["a", "b", "c", "d"];
    let mut spec = spec(names.map(|name| backend(name, "eu", &["m"])).to_vec(), vec![]);
    spec.retry = RetrySpec { budget_per_second: 0.0, budget_ratio: 0.0, ..RetrySpec::default() };
    let world = build(spec).unwrap();
    let (tried, told) = walk(&mut route(&world, &query("m")), now, &mut rng());
    assert_eq!((tried.len(), told.reason), (2, ExhaustedReason::BudgetSpent));
}

#[test]
fn a_failover_to_a_trial_is_not_free() {
    let now = Instant::now();
    let mut spec = spec(vec![backend("a", "eu", &["m"]), backend("b", "us", &["m"])], vec![]);
    spec.retry.budget_per_second = 0.0;
    let world = build(spec).unwrap();
    break_it(&world, "b", now);
    live(&world, "b").record_probe(ProbeResult::Passed, now);
    let (tried, told) = walk(&mut route(&world, &query("m")), now, &mut rng());
    assert_eq!((tried, told.reason), (vec!["a".to_owned()], ExhaustedReason::BudgetSpent));
    let permit = live(&world, "b").breaker().admit(now).unwrap();
    assert!(permit.is_trial(), "what could not be paid was given back");
}

#[test]
fn requests_that_may_not_be_repeated_are_not_unless_they_never_left() {
    let now = Instant::now();
    let names = ["a", "b", "c"];
    let world = build(spec(names.map(|n| backend(n, "eu", &["m"])).to_vec(), vec![])).unwrap();
    let once = Query { repeatable: false, ..query("m") };
    let mut plan = route(&world, &once);
    drop(plan.next(now, &mut rng()).unwrap());
    assert_eq!(plan.next(now, &mut rng()).unwrap_err().reason, ExhaustedReason::Tried);
    assert!(!plan.allows_retry(&failure(FailureKind::ServerError)));
    assert!(plan.next(now, &mut rng()).is_err());
    let unsent = Failure { stage: Stage::Connect, ..failure(FailureKind::ConnectFailed) };
    assert!(plan.allows_retry(&unsent));
    drop(plan.next(now, &mut rng()).unwrap());
    assert!(plan.next(now, &mut rng()).is_err(), "that one may have left");
    let final_word = Failure { retry: Retry::Never, ..failure(FailureKind::ClientFault) };
    assert!(!route(&world, &query("m")).allows_retry(&final_word));
}

#[test]
fn in_panic_one_trial_goes_to_the_one_that_failed_least_recently() {
    let start = Instant::now();
    let names = ["a", "b", "c"];
    let world = build(spec(names.map(|n| backend(n, "eu", &["m"])).to_vec(), vec![])).unwrap();
    for (name, second) in [("a", 2), ("b", 1), ("c", 3)] {
        break_it(&world, name, start + Duration::from_secs(second));
    }
    let now = start + Duration::from_secs(4);
    let mut held = Vec::new();
    let mut next = || {
        let mut plan = route(&world, &query("m"));
        let candidate = plan.next(now, &mut rng())?;
        let name = candidate.member.spec.name.to_string();
        held.push(candidate);
        Ok::<_, Exhausted>(name)
    };
    assert_eq!([next(), next(), next()], ["b", "a", "c"].map(|name| Ok(name.to_owned())));
    let told = next().unwrap_err();
    assert_eq!(told.reason, ExhaustedReason::Unavailable);
    assert!(told.retry_after.is_some_and(|wait| (1..=5).contains(&wait.as_secs())));
    let b = held.remove(0);
    end(b, &Outcome::Success, now);
    assert_eq!(order(&world, &query("m"))[0], "b", "its success closed the breaker");
}

#[test]
fn in_an_outage_attempts_stay_near_what_is_offered() {
    // Three backends, all dead for 8 s; 250 requests a second.
    let start = Instant::now();
    let names = ["a", "b", "c"];
    let mut spec = spec(names.map(|n| backend(n, "eu", &["m"])).to_vec(), vec![]);
    spec.retry = RetrySpec::default();
    let world = build(spec).unwrap();
    let (mut attempts, mut rng) = (0, rng());
    for step in 0..2000_u64 {
        let now = start + Duration::from_millis(4 * step);
        let mut plan = route(&world, &query("m"));
        attempts += walk(&mut plan, now, &mut rng).0.len();
    }
    assert!(attempts <= 2400, "{attempts} attempts for 2000 requests");
    // They are back: the first panic trial finds out.
    let now = start + Duration::from_secs(9);
    let candidate = route(&world, &query("m")).next(now, &mut rng).unwrap();
    end(candidate, &Outcome::Success, now);
    for step in 0..100 {
        let now = now + Duration::from_millis(4 * step);
        let candidate = route(&world, &query("m")).next(now, &mut rng).unwrap();
        end(candidate, &Outcome::Success, now);
    }
}

#[test]
fn panic_does_not_touch_those_that_drain_and_never_leaves_the_allowed_regions() {
    let now = Instant::now();
    let mut strict = model_spec("m");
    strict.residency = Residency::Strict;
    let mut backends = vec![backend("eu-d", "eu", &["m"]), backend("us-x", "us", &["m"])];
    backends[0].draining = true;
    let world = build(spec(backends, vec![strict])).unwrap();
    break_it(&world, "eu-d", now);
    break_it(&world, "us-x", now);
    assert_eq!(exhausted(&world, &query("m"), now).reason, ExhaustedReason::NotServed);
}

#[test]
fn a_panic_trial_is_an_attempt_like_any_other() {
    let now = Instant::now();
    let names = ["a", "b"];
    let mut spec = spec(names.map(|n| backend(n, "eu", &["m"])).to_vec(), vec![]);
    spec.retry.max_attempts = 1;
    let world = build(spec).unwrap();
    break_it(&world, "b", now);
    assert_eq!(order(&world, &query("m")), ["a"], "its one attempt is spent");
    break_it(&world, "a", now);
    assert_eq!(order(&world, &query("m")).len(), 1);
}

#[test]
fn someone_full_is_no_panic() {
    let now = Instant::now();
    let mut backends = vec![backend("full", "eu", &["m"]), backend("down", "eu", &["m"])];
    backends[0].max_in_flight = Some(1);
    let world = build(spec(backends, vec![])).unwrap();
    break_it(&world, "down", now);
    let _held = route(&world, &query("m")).next(now, &mut rng()).unwrap();
    assert_eq!(exhausted(&world, &query("m"), now).reason, ExhaustedReason::Saturated);
}

#[test]
fn a_cold_ollama_gets_its_time_to_load_and_a_warm_one_is_preferred() {
    let now = Instant::now();
    let mut backends = vec![backend("cold", "eu", &["m"]), backend("warm", "eu", &["m"])];
    backends.iter_mut().for_each(|backend| backend.kind = Kind::Ollama);
    let world = build(spec(backends, vec![])).unwrap();
    let signals = |names: &[&str]| LoadSignals {
        waiting: None,
        running: None,
        kv_usage: None,
        loaded: Some(
            names.iter().map(|n| LoadedModel { name: (*n).to_owned(), digest: None }).collect(),
        ),
        vram: None,
        valid_for: Duration::from_secs(60),
    };
    live(&world, "cold").set_load(signals(&[]), now);
    live(&world, "warm").set_load(signals(&["m:latest"]), now);
    let mut plan = route(&world, &query("m"));
    let first = plan.next(now, &mut rng()).unwrap();
    assert_eq!((first.member.spec.name.as_str(), first.first_event_is_load), ("warm", false));
    let second = plan.next(now, &mut rng()).unwrap();
    assert_eq!((second.member.spec.name.as_str(), second.first_event_is_load), ("cold", true));
}

#[test]
fn a_prompt_that_is_too_long_moves_to_a_larger_model() {
    let now = Instant::now();
    let mut small = model_spec("small");
    (small.context_fallback, small.context_length) = (Some(model("large")), Some(4096));
    let mut large = model_spec("large");
    large.context_length = Some(32768);
    let both = backend("b", "eu", &["small", "large"]);
    let world = build(spec(vec![both.clone()], vec![small.clone(), large.clone()])).unwrap();
    let mut plan = route(&world, &query("small"));
    let candidate = plan.next(now, &mut rng()).unwrap();
    end(candidate, &failed(FailureKind::ClientFault), now);
    assert!(plan.context_fallback());
    let candidate = plan.next(now, &mut rng()).unwrap();
    assert_eq!(candidate.model.name.as_str(), "large");
    assert!(!plan.context_fallback(), "the large one has none");
    large.context_length = Some(2048);
    let world = build(spec(vec![both], vec![small, large])).unwrap();
    let mut plan = route(&world, &query("small"));
    drop(plan.next(now, &mut rng()).unwrap());
    assert!(!plan.context_fallback(), "known to be smaller");
}

#[test]
fn affinity_stays_with_its_backend_and_moves_on_when_it_fails() {
    let now = Instant::now();
    let names = ["a", "b", "c", "d", "e"];
    for policy in [Policy::PrefixHash, Policy::Session(crate::spec::SessionSource::User)] {
        let mut spec = spec(names.map(|n| backend(n, "eu", &["m"])).to_vec(), vec![]);
        spec.policy = policy;
        let world = build(spec).unwrap();
        let mut homes = HashSet::new();
        for affinity in 0..40 {
            let tied = Query { affinity: Some(affinity), ..query("m") };
            let order = || {
                let mut plan = route(&world, &tied);
                let name = |candidate: Candidate<()>| candidate.member.spec.name.to_string();
                let next = || plan.next(now, &mut rng()).ok().map(name);
                std::iter::from_fn(next).collect::<Vec<_>>()
            };
            let first = order();
            assert_eq!(first, order(), "the whole order is stable");
            assert_eq!(first.len(), names.len());
            homes.insert(first[0].clone());
        }
        assert_eq!(homes.len(), names.len());
    }
}

#[test]
fn round_robin_goes_in_turn_over_requests() {
    let now = Instant::now();
    let mut backends = vec![backend("a", "eu", &["m"]), backend("b", "eu", &["m"])];
    backends[0].weight = 3;
    let mut spec = spec(backends, vec![]);
    spec.policy = Policy::RoundRobin;
    let world = build(spec).unwrap();
    let mut counts: HashMap<String, u32> = HashMap::new();
    for _ in 0..400 {
        let candidate = route(&world, &query("m")).next(now, &mut rng()).unwrap();
        *counts.entry(end(candidate, &Outcome::Success, now)).or_default() += 1;
    }
    assert_eq!((counts["a"], counts["b"]), (300, 100));
}

/// A random world: regions, backends in them, heads over them, models with chains.
#[derive(Debug, Clone)]
struct Random {
    spec: SnapshotSpec,
    asked: Option<usize>,
    key: Option<Vec<RegionName>>,
    broken: Vec<bool>,
}

const PLACES: [&str; 4] = ["r0", "r1", "r2", "r3"];

fn random_model(number: usize) -> impl Strategy<Value = ModelSpec> {
    let parts = (
        prop::option::of(0..4_usize),
        prop::collection::vec(0..4_usize, 0..3),
        any::<bool>(),
        prop::collection::vec(0..5_usize, 0..4),
        prop::collection::vec(1..3_usize, 0..3),
        0..4_u8,
    );
    parts.prop_map(move |(home, more, strict, heads, next, policy)| {
        let mut spec = model_spec(&format!("m{number}"));
        spec.region = home.map(|home| region(PLACES[home]));
        spec.regions = more.into_iter().map(|place| region(PLACES[place])).collect();
        spec.residency = if strict { Residency::Strict } else { Residency::Prefer };
        spec.heads = heads.into_iter().map(|head| head_name(&format!("h{head}"))).collect();
        spec.heads.sort();
        spec.heads.dedup();
        // Only onward: no loops.
        spec.fallbacks =
            next.into_iter().map(|step| model(&format!("m{}", number + step))).collect();
        spec.policy = Some(match policy {
            0 => Policy::LeastLoad,
            1 => Policy::RoundRobin,
            2 => Policy::PrefixHash,
            _ => Policy::Session(crate::spec::SessionSource::User),
        });
        spec
    })
}

fn random() -> impl Strategy<Value = Random> {
    let backends =
        prop::collection::vec((0..4_usize, prop::collection::vec(0..4_usize, 1..4)), 1..9);
    let models = (random_model(0), random_model(1), random_model(2), random_model(3));
    let key = prop::option::of(prop::collection::vec(0..4_usize, 0..3));
    let broken = prop::collection::vec(any::<bool>(), 9);
    (backends, models, prop::option::of(0..4_usize), key, broken).prop_map(
        |(backends, models, asked, key, broken)| {
            let mut spec = spec(Vec::new(), vec![models.0, models.1, models.2, models.3]);
            spec.default_region = Some(region("r0"));
            spec.regions = PLACES
                .iter()
                .enumerate()
                .map(|(n, place)| RegionSpec {
                    name: region(place),
                    neighbours: vec![region(PLACES[(n + 1) % 4])],
                })
                .collect();
            for (n, (place, served)) in backends.iter().enumerate() {
                let served: Vec<String> = served.iter().map(|m| format!("m{m}")).collect();
                let served: Vec<&str> = served.iter().map(String::as_str).collect();
                spec.backends.push(backend(&format!("b{n}"), PLACES[*place], &served));
            }
            // Heads: one per region that has backends; those that models name and nobody stands in are dropped.
            for (n, place) in PLACES.iter().enumerate() {
                let here = spec.backends.iter().filter(|b| b.region.as_str() == *place);
                let names: Vec<String> = here.map(|b| b.name.to_string()).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                if !names.is_empty() {
                    spec.heads.push(head(&format!("h{n}"), place, &names));
                }
            }
            let known: Vec<_> = spec.heads.iter().map(|head| head.name.clone()).collect();
            for model in &mut spec.models {
                model.heads.retain(|head| known.contains(head));
            }
            let key = key.map(|key| key.into_iter().map(|place| region(PLACES[place])).collect());
            Random { spec, asked, key, broken }
        },
    )
}

/// The regions where attempts for a model may go, by the letter of the rules.
fn allowed(spec: &SnapshotSpec, name: &str) -> Option<HashSet<RegionName>> {
    let model = spec.models.iter().find(|model| model.name.as_str() == name)?;
    (model.residency == Residency::Strict).then(|| {
        let home = model.region.clone().or_else(|| spec.default_region.clone());
        home.into_iter().chain(model.regions.iter().cloned()).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever the world: no attempt leaves the allowed regions, a key only narrows, no backend has two turns, plans
    /// end, and what is left over is given back.
    #[test]
    fn plans_keep_residency_and_bounds(random in random(), affinity in any::<u64>(), seed in any::<u64>()) {
        let now = Instant::now();
        let world = build(random.spec.clone()).unwrap();
        for (member, broken) in world.backends().iter().zip(&random.broken) {
            if *broken {
                break_it(&world, member.spec.name.as_str(), now);
            }
        }
        let query = Query {
            region: random.asked.map(|place| PLACES[place]),
            key_regions: random.key.as_deref(),
            affinity: Some(affinity),
            ..query("m0")
        };
        let mut rng = fastrand::Rng::with_seed(seed);
        let root = allowed(&random.spec, "m0");
        if let Ok(mut plan) = plan(&world, &query, &mut ()) {
            let mut met = HashSet::new();
            let mut held = Vec::new();
            let mut of_model: HashMap<String, u32> = HashMap::new();
            while let Ok(candidate) = plan.next(now, &mut rng) {
                let place = &candidate.region;
                let own = allowed(&random.spec, candidate.model.name.as_str());
                for set in [&root, &own].into_iter().flatten() {
                    prop_assert!(set.contains(place), "{place} is outside {set:?}");
                }
                if let Some(key) = &random.key {
                    prop_assert!(key.contains(place), "{place} is outside the key's {key:?}");
                }
                prop_assert_eq!(&candidate.member.spec.region, place);
                prop_assert!(met.insert(candidate.member.spec.name.clone()), "a second turn");
                *of_model.entry(candidate.model.name.to_string()).or_default() += 1;
                held.push(candidate);
                prop_assert!(held.len() <= 8, "no end");
            }
            prop_assert!(of_model.values().all(|count| *count <= world.spec().retry.max_attempts));
            drop(held);
        }
        prop_assert_eq!((world.budget().active(), world.budget().retrying()), (0, 0));
        for member in world.backends() {
            prop_assert_eq!(member.live.in_flight(), 0);
        }
    }

    /// What a key is refused, no wider key is given elsewhere: the plan with the key's regions is a part of the plan
    /// without.
    #[test]
    fn a_keys_plan_is_part_of_the_plan_without_it(random in random(), seed in any::<u64>()) {
        let now = Instant::now();
        let world = build(random.spec.clone()).unwrap();
        let narrow = Query { key_regions: random.key.as_deref(), ..query("m0") };
        let reach = |query: &Query<'_>| -> HashSet<String> {
            let mut rng = fastrand::Rng::with_seed(seed);
            let Ok(mut plan) = plan(&world, query, &mut ()) else { return HashSet::new() };
            let mut all = HashSet::new();
            while let Ok(candidate) = plan.next(now, &mut rng) {
                all.insert(candidate.member.spec.name.to_string());
            }
            all
        };
        let (narrow, wide) = (reach(&narrow), reach(&query("m0")));
        prop_assert!(wide.len() >= 8 || narrow.is_subset(&wide));
    }
}

/// Planning must not grow with the world.
#[test]
fn a_plan_in_a_large_world_looks_at_its_own_model_only() {
    let backends: Vec<_> = (0..500)
        .map(|n| {
            let served: Vec<String> = (0..4).map(|k| format!("m{}", n * 4 + k)).collect();
            let served: Vec<&str> = served.iter().map(String::as_str).collect();
            backend(&format!("b{n:03}"), ["eu", "us", "cn"][n % 3], &served)
        })
        .collect();
    let world = build(spec(backends, vec![])).unwrap();
    assert_eq!((world.backends().len(), world.public_models().len()), (500, 2000));
    struct Count(u32);
    impl Observer for Count {
        fn tier(&mut self, _: &Model, _: usize, _: Option<Blocked>) {
            self.0 += 1;
        }
    }
    let mut count = Count(0);
    let mut plan = plan(&world, &query("m1234"), &mut count).unwrap();
    assert_eq!(count.0, 1);
    let candidate = plan.next(Instant::now(), &mut rng()).unwrap();
    assert_eq!(candidate.member.spec.name.as_str(), "b308");
}
