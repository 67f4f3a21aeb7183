use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::fixture::{
    backend, backend_name, build, build_with, found, head, head_name, model, model_spec, region,
    regions,
};
use crate::spec::{DeploymentSpec, DiscoverySpec, RegionSpec};

fn spec(backends: Vec<BackendSpec>, models: Vec<ModelSpec>) -> SnapshotSpec {
    SnapshotSpec {
        default_region: Some(region("eu")),
        regions: regions(&["eu", "us"]),
        backends,
        models,
        ..SnapshotSpec::default()
    }
}

fn errors(spec: SnapshotSpec) -> Vec<String> {
    let Err(errors) = build(spec) else { return Vec::new() };
    errors
        .iter()
        .map(|error| match &error.suggestion {
            Some(near) => format!("{error} (did you mean {near:?}?)"),
            None => error.to_string(),
        })
        .collect()
}

fn public(world: &Snapshot<()>) -> Vec<&str> {
    world.public_models().iter().map(|model| model.name.as_str()).collect()
}

#[test]
fn nothing_at_all_is_a_world() {
    let world = build(SnapshotSpec::default()).unwrap();
    assert!(world.backends().is_empty() && world.public_models().is_empty());
    assert_eq!(world.version(), 1);
}

#[test]
fn backends_alone_are_enough() {
    let mut one = backend("b", "eu", &[]);
    one.models = None;
    let spec = SnapshotSpec { backends: vec![one], ..SnapshotSpec::default() };
    let catalog = Catalog::from([(backend_name("b"), Arc::from([found("m"), found("a/b")]))]);
    let world = build_with(spec, &catalog).unwrap();
    assert_eq!(public(&world), ["a/b", "m"]);
    assert!(!world.model("m").unwrap().declared);
}

#[test]
fn a_name_used_as_upstream_is_not_public_by_itself() {
    let mut used = model_spec("public");
    used.upstream_model = Some(model("org/raw"));
    let world = build(spec(vec![backend("b", "eu", &["org/raw", "else"])], vec![used.clone()]));
    assert_eq!(public(&world.unwrap()), ["else", "public"]);
    let both = vec![used, model_spec("org/raw")];
    let world = build(spec(vec![backend("b", "eu", &["org/raw"])], both)).unwrap();
    assert_eq!(public(&world), ["org/raw", "public"]);
}

#[test]
fn discovered_models_can_be_kept_private() {
    let mut found_here = backend("b", "eu", &[]);
    found_here.models = None;
    let mut spec = spec(vec![found_here, backend("c", "eu", &["listed"])], vec![]);
    spec.discovery = DiscoverySpec { expose: false, ..DiscoverySpec::default() };
    let catalog = Catalog::from([(backend_name("b"), Arc::from([found("secret")]))]);
    let world = build_with(spec, &catalog).unwrap();
    assert_eq!(public(&world), ["listed"]);
    assert!(world.model("secret").is_none());
}

#[test]
fn names_aliases_and_ollamas_latest_lead_to_the_model() {
    let mut aliased = model_spec("mistral-7b");
    aliased.aliases = vec![model("gpt-4o-mini")];
    let mut ollama = backend("o", "eu", &["llama3:latest", "qwen", "phi:3b"]);
    ollama.kind = Kind::Ollama;
    let world = build(spec(vec![ollama, backend("v", "eu", &["plain"])], vec![aliased])).unwrap();
    let name = |asked: &str| world.model(asked).map(|model| model.name.to_string());
    assert_eq!(name("gpt-4o-mini").as_deref(), Some("mistral-7b"));
    assert_eq!(name("llama3").as_deref(), Some("llama3:latest"));
    assert_eq!(name("qwen:latest").as_deref(), Some("qwen"));
    assert_eq!(name("phi"), None);
    assert_eq!(name("plain:latest"), None, "the tag means nothing to other kinds");
    assert_eq!(public(&world), ["llama3:latest", "mistral-7b", "phi:3b", "plain", "qwen"]);
}

#[test]
fn a_declared_model_finds_ollamas_spelling_of_it() {
    let mut ollama = backend("o", "eu", &[]);
    (ollama.kind, ollama.models) = (Kind::Ollama, None);
    let catalog = Catalog::from([(backend_name("o"), Arc::from([found("Llama3.1:latest")]))]);
    let spec = spec(vec![ollama], vec![model_spec("llama3.1")]);
    let world = build_with(spec, &catalog).unwrap();
    assert_eq!(public(&world), ["llama3.1"]);
    let tiers = &world.model("llama3.1").unwrap().route.tiers;
    assert_eq!((tiers.len(), tiers[0].members[0].upstream.as_str()), (1, "llama3.1"));
}

#[test]
fn cloud_models_are_ignored_unless_allowed() {
    let mut ollama = backend("o", "eu", &[]);
    (ollama.kind, ollama.models) = (Kind::Ollama, None);
    let mut hidden = found("looks-local");
    hidden.remote = true;
    let models = Arc::from([found("kimi:cloud"), found("mine"), hidden]);
    let catalog = Catalog::from([(backend_name("o"), models)]);
    let world = build_with(spec(vec![ollama.clone()], vec![]), &catalog).unwrap();
    assert_eq!(public(&world), ["mine"]);
    ollama.allow_cloud = true;
    let world = build_with(spec(vec![ollama], vec![]), &catalog).unwrap();
    assert_eq!(public(&world), ["kimi:cloud", "looks-local", "mine"]);
}

#[test]
fn a_declared_deployment_does_not_smuggle_a_remote_model_in() {
    let mut ollama = backend("o", "eu", &[]);
    (ollama.kind, ollama.models) = (Kind::Ollama, None);
    let mut hidden = found("looks-local");
    hidden.remote = true;
    let catalog = Catalog::from([(backend_name("o"), Arc::from([hidden]))]);
    let mut asked = model_spec("m");
    asked.deployments = vec![DeploymentSpec {
        backend: backend_name("o"),
        upstream_model: Some(model("looks-local")),
        weight: None,
        api_key: None,
    }];
    let world = build_with(spec(vec![ollama.clone()], vec![asked.clone()]), &catalog).unwrap();
    assert!(world.model("m").unwrap().route.tiers.is_empty());
    ollama.allow_cloud = true;
    let world = build_with(spec(vec![ollama], vec![asked]), &catalog).unwrap();
    assert!(world.model("m").unwrap().route.tiers[0].members[0].remote);
}

#[test]
fn what_backends_say_of_a_model_is_shown() {
    let (mut one, mut other) = (found("m"), found("m"));
    (one.context_length, one.created) = (Some(8192), Some(5));
    (other.context_length, other.owned_by) = (Some(4096), Some("vllm".to_owned()));
    let mut backends = vec![backend("a", "eu", &[]), backend("b", "eu", &[])];
    backends.iter_mut().for_each(|backend| backend.models = None);
    let catalog = Catalog::from([
        (backend_name("a"), Arc::from([one])),
        (backend_name("b"), Arc::from([other])),
    ]);
    let world = build_with(spec(backends, vec![model_spec("m")]), &catalog).unwrap();
    let shown = world.model("m").unwrap();
    assert_eq!(shown.context_length, Some(4096), "the smallest is safe");
    assert_eq!((shown.created, shown.owned_by.as_deref()), (Some(5), Some("vllm")));
}

#[test]
fn disabled_backends_take_no_part() {
    let mut off = backend("off", "eu", &["m"]);
    off.enabled = false;
    let mut asked = model_spec("m");
    asked.heads = vec![head_name("h")];
    let mut spec = spec(vec![off, backend("on", "eu", &["m"])], vec![asked]);
    spec.heads = vec![head("h", "eu", &["off", "on"])];
    let world = build(spec).unwrap();
    assert_eq!(world.backends().len(), 1);
    assert_eq!(world.model("m").unwrap().route.tiers[0].members.len(), 1);
}

#[test]
fn every_error_is_reported_at_once_with_the_nearest_name() {
    let mut bad = model_spec("m");
    bad.heads = vec![head_name("haed")];
    bad.region = Some(region("ue"));
    bad.deployments = vec![DeploymentSpec {
        backend: backend_name("bb"),
        upstream_model: None,
        weight: Some(0),
        api_key: None,
    }];
    let mut heavy = backend("b", "eu", &[]);
    (heavy.weight, heavy.max_in_flight) = (1001, Some(0));
    let mut spec = spec(vec![heavy, backend("us1", "us", &[])], vec![bad]);
    spec.heads = vec![head("head", "eu", &["b", "b", "us1", "usl"]), head("empty", "eu", &[])];
    assert_eq!(
        errors(spec),
        [
            "backend \"b\", weight: a weight is 1 to 1000, this one is 1001",
            "backend \"b\", max_in_flight: 0 would let nothing through; `draining = true` says that",
            "head \"head\", backends: \"b\" is listed twice",
            "head \"head\", backends: \"us1\" stands in region \"us\", the head in \"eu\"",
            "head \"head\", backends: there is no backend \"usl\" (did you mean \"us1\"?)",
            "head \"empty\", backends: a head has at least one backend",
            "model \"m\", region: there is no region \"ue\" (did you mean \"eu\"?)",
            "model \"m\", heads: there is no head \"haed\" (did you mean \"head\"?)",
            "model \"m\", deployments: there is no backend \"bb\" (did you mean \"b\"?)",
            "model \"m\", deployments: a weight is 1 to 1000, this one is 0",
        ]
    );
}

#[test]
fn names_are_unique() {
    let mut aliased = model_spec("m");
    aliased.aliases = vec![model("n")];
    let models = vec![aliased, model_spec("n"), model_spec("m")];
    let mut spec = spec(vec![backend("b", "eu", &[]), backend("b", "us", &[])], models);
    spec.regions.push(RegionSpec { name: region("eu"), neighbours: vec![region("mars")] });
    assert_eq!(
        errors(spec),
        [
            "region \"eu\", name: there is another region of this name",
            "region \"eu\", neighbours: there is no region \"mars\"",
            "backend \"b\", name: there is another backend of this name",
            "model \"m\", name: there is another model of this name",
            "model \"m\", aliases: \"n\" is already a name of the model \"n\"",
        ]
    );
}

#[test]
fn loops_are_refused_and_diamonds_are_not() {
    let chained = |name: &str, next: &[&str]| {
        let mut spec = model_spec(name);
        spec.fallbacks = next.iter().map(|name| model(name)).collect();
        spec
    };
    let mut c = chained("c", &["alias-of-a"]);
    c.aliases = vec![model("other-c")];
    let mut a = chained("a", &["b", "later"]);
    a.aliases = vec![model("alias-of-a")];
    let models = vec![a, chained("b", &["other-c"]), c, chained("d", &["d"])];
    assert_eq!(
        errors(spec(vec![], models)),
        [
            "model \"c\", fallbacks: the fallback chain is a loop: a -> b -> c -> a",
            "model \"d\", fallbacks: the fallback chain is a loop: d -> d",
        ]
    );
    let diamond = vec![
        chained("a", &["b", "c"]),
        chained("b", &["d"]),
        chained("c", &["d"]),
        chained("d", &[]),
    ];
    let world = build(spec(vec![], diamond)).unwrap();
    let chain = &world.model("a").unwrap().route.chain;
    let names: Vec<_> = chain.iter().map(|n| world.model_at(*n).unwrap().name.as_str()).collect();
    assert_eq!(names, ["b", "c", "d"]);
}

#[test]
fn a_long_chain_exhausts_no_stack() {
    let models: Vec<_> = (0..50_000)
        .map(|number| {
            let mut spec = model_spec(&format!("m{number}"));
            spec.fallbacks = vec![model(&format!("m{}", number + 1))];
            spec
        })
        .collect();
    let world = build(spec(vec![], models)).unwrap();
    assert_eq!(world.model("m0").unwrap().route.chain.len(), chain::CHAIN_MAX);
}

#[test]
fn strict_residency_is_checked_at_load() {
    let mut strict = model_spec("m");
    (strict.residency, strict.region) = (Residency::Strict, Some(region("eu")));
    strict.priority_head = Some(head_name("h"));
    let mut world = spec(vec![backend("b", "us", &["m"])], vec![strict.clone()]);
    world.heads = vec![head("h", "us", &["b"])];
    assert_eq!(
        errors(world.clone()),
        [
            "model \"m\", priority_head: head \"h\" stands in region \"us\", outside the allowed regions (eu)"
        ]
    );
    world.models[0].regions = vec![region("us")];
    assert_eq!(errors(world), Vec::<String>::new());
    let mut nowhere = spec(vec![], vec![]);
    nowhere.default_region = None;
    (strict.region, strict.priority_head) = (None, None);
    nowhere.models = vec![strict];
    assert_eq!(
        errors(nowhere),
        [
            "model \"m\", residency: strict residency without any allowed region: say `region` or `regions`"
        ]
    );
}

#[test]
fn a_refused_spec_changes_nothing() {
    let now = Instant::now();
    let handle: SnapshotHandle<()> =
        SnapshotHandle::new(spec(vec![backend("b", "eu", &["m"])], vec![]), Box::new(|_| ()), now)
            .unwrap();
    let before = handle.load();
    assert!(handle.publish(spec(vec![backend("b", "mars", &["m"])], vec![]), now).is_err());
    assert!(Arc::ptr_eq(&before, &handle.load()));
    assert_eq!(handle.publish(spec(vec![], vec![]), now).unwrap(), 2);
    assert_eq!(before.backends().len(), 1, "a request keeps its own world");
}

#[test]
fn discovery_changes_the_world_only_when_it_differs() {
    let now = Instant::now();
    let mut open = backend("b", "eu", &[]);
    open.models = None;
    let handle: SnapshotHandle<()> =
        SnapshotHandle::new(spec(vec![open.clone()], vec![]), Box::new(|_| ()), now).unwrap();
    let list = |created| {
        let mut model = found("m");
        model.created = Some(created);
        Arc::from([model])
    };
    assert!(handle.set_catalog(&backend_name("b"), list(1), now));
    assert!(!handle.set_catalog(&backend_name("b"), list(2), now), "vLLM stamps at each call");
    assert!(!handle.set_catalog(&backend_name("nobody"), list(1), now));
    assert!(handle.load().model("m").is_some());
    let live = Arc::clone(&handle.load().backend("b").unwrap().live);
    live.mark_model_absent("m", now);
    handle.set_catalog(&backend_name("b"), list(3), now);
    assert!(!live.is_absent("m", now), "a fresh list clears what was said before");
    handle.publish(spec(vec![open.clone()], vec![]), now).unwrap();
    assert!(handle.load().model("m").is_some(), "kept over a reload");
    open.url = "http://elsewhere.test".to_owned();
    handle.publish(spec(vec![open], vec![]), now).unwrap();
    assert!(handle.load().model("m").is_none(), "another server is asked anew");
}

#[test]
fn limits_reach_backends_that_stay() {
    let now = Instant::now();
    let mut first = spec(vec![backend("b", "eu", &["m"])], vec![]);
    let handle: SnapshotHandle<()> =
        SnapshotHandle::new(first.clone(), Box::new(|_| ()), now).unwrap();
    first.breaker.consecutive_failures = 1;
    handle.publish(first, now).unwrap();
    let world = handle.load();
    let live = &world.backend("b").unwrap().live;
    let permit = live.breaker().admit(now).unwrap();
    let outcome = crate::fixture::failed(crate::outcome::FailureKind::ServerError);
    assert!(live.report(permit, &outcome, now, &mut fastrand::Rng::with_seed(1)).is_some());
}

/// A backend as a reload may change it.
fn varied() -> impl Strategy<Value = Option<(u8, u8, u32, bool)>> {
    prop::option::of((0..2_u8, 0..2_u8, 1..5_u32, any::<bool>()))
}

proptest! {
    /// A live backend is kept exactly when it is in both worlds with the same connection facts; whatever else changes,
    /// its state goes on, and `attach` is called for new ones only.
    #[test]
    fn live_backends_survive_what_leaves_their_connections_alone(
        before in prop::collection::vec(varied(), 1..8),
        after in prop::collection::vec(varied(), 1..8),
    ) {
        let now = Instant::now();
        let world = |varied: &[Option<(u8, u8, u32, bool)>]| {
            let backends = varied.iter().enumerate().filter_map(|(number, change)| {
                let (url, key, weight, draining) = (*change)?;
                let mut spec = backend(&format!("b{number}"), "eu", &["m"]);
                spec.url = format!("http://h{url}.test");
                spec.api_key = (key > 0).then(|| crate::spec::Secret::new("k"));
                (spec.weight, spec.draining) = (weight, draining);
                Some(spec)
            });
            Arc::new(spec(backends.collect(), vec![]))
        };
        let mut attached = 0;
        let mut attach = |_: &BackendSpec| { attached += 1; attached };
        let catalog = Catalog::new();
        let first = Snapshot::build(world(&before), &catalog, None, &mut attach, now).unwrap();
        for member in first.backends() {
            member.live.drain();
        }
        let second =
            Snapshot::build(world(&after), &catalog, Some(&first), &mut attach, now).unwrap();
        let mut fresh = 0;
        for member in second.backends() {
            let old = first.backend(member.spec.name.as_str());
            let same = old.is_some_and(|old| {
                old.spec.url == member.spec.url && old.spec.api_key == member.spec.api_key
            });
            let kept = old.is_some_and(|old| Arc::ptr_eq(&old.live, &member.live));
            prop_assert_eq!(kept, same);
            prop_assert_eq!(member.live.is_drained(), same);
            fresh += usize::from(!same);
        }
        prop_assert_eq!(attached, first.backends().len() + fresh);
        prop_assert!(Arc::ptr_eq(first.budget(), second.budget()));
        prop_assert_eq!(second.version(), 2);
    }
}

#[test]
fn a_ramp_begins_with_a_new_backend() {
    let now = Instant::now();
    let spec = Arc::new(spec(vec![backend("b", "eu", &["m"])], vec![]));
    let world = Snapshot::build(spec, &Catalog::new(), None, &mut |_| (), now).unwrap();
    let live = &world.backend("b").unwrap().live;
    let at = |seconds| live.ramp(now + Duration::from_secs(seconds));
    assert!((at(0) - 0.1).abs() < 1e-9 && (at(5) - 0.5).abs() < 1e-9);
    assert!((at(10) - 1.0).abs() < 1e-9);
}
