//! A plan whose backends are all busy: whom to listen to, and who else it is like.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use smallvec::SmallVec;

use super::RoutePlan;
use crate::audience::{Audience, Listener};

/// A listener's ear on everything that a plan may wait for; it is taken away when this is dropped.
#[derive(Debug)]
pub struct Listening {
    listener: Arc<dyn Listener>,
    audiences: SmallVec<[Arc<Audience>; 8]>,
}

impl Listening {
    /// Whose it is.
    #[must_use]
    pub const fn listener(&self) -> &Arc<dyn Listener> {
        &self.listener
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        for audience in &self.audiences {
            audience.leave(&self.listener);
        }
    }
}

impl<A> RoutePlan<A> {
    /// The version of the snapshot that it was made from.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.snapshot.version()
    }

    /// The listener is told when a place on one of the plan's backends, or of one of its models, may be free, and when
    /// another snapshot is there. Whoever listens has to look once more: what became free before is not told.
    #[must_use]
    pub fn listen(&self, listener: &Arc<dyn Listener>) -> Listening {
        let mut audiences: SmallVec<[Arc<Audience>; 8]> = SmallVec::new();
        let mut add = |audience: &Arc<Audience>| {
            if !audiences.iter().any(|known| Arc::ptr_eq(known, audience)) {
                audience.join(listener);
                audiences.push(Arc::clone(audience));
            }
        };
        add(self.asked.cap.audience());
        for place in &self.stages {
            let Some((model, tier)) = place.find(&self.snapshot) else { continue };
            add(model.cap.audience());
            for deployment in &tier.members {
                if let Some(member) = self.snapshot.member_at(deployment.backend) {
                    add(member.live.cap().audience());
                }
            }
        }
        Listening { listener: Arc::clone(listener), audiences }
    }

    /// Plans of the same kind may meet the same backends: where one finds no candidate, the others find none either.
    #[must_use]
    pub fn kind(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.version().hash(&mut hasher);
        self.limits.hash(&mut hasher);
        self.stages.hash(&mut hasher);
        self.tried.hash(&mut hasher);
        self.attempts.hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::fixture::{
        backend, break_it, build, end, failed, failure, model_spec, query, route,
    };
    use crate::outcome::{FailureKind, Outcome};
    use crate::plan::{Busy, ExhaustedReason};
    use crate::snapshot::{Snapshot, SnapshotHandle};
    use crate::spec::{BackendSpec, ModelSpec, SnapshotSpec};

    #[derive(Debug, Default)]
    struct Ear(AtomicU32);

    impl Listener for Ear {
        fn heard(&self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn rng() -> fastrand::Rng {
        fastrand::Rng::with_seed(7)
    }

    fn capped(name: &str, most: u32) -> BackendSpec {
        BackendSpec { max_in_flight: Some(most), ..backend(name, "eu", &["m"]) }
    }

    fn model(most: Option<u32>) -> ModelSpec {
        ModelSpec { max_in_flight: most, ..model_spec("m") }
    }

    fn spec(backends: Vec<BackendSpec>, models: Vec<ModelSpec>) -> SnapshotSpec {
        let regions = crate::fixture::regions(&["eu", "us"]);
        SnapshotSpec { regions, backends, models, ..SnapshotSpec::default() }
    }

    fn handle(spec: SnapshotSpec, now: Instant) -> SnapshotHandle<()> {
        SnapshotHandle::new(spec, Box::new(|_| ()), now).unwrap()
    }

    fn told(world: &Arc<Snapshot<()>>, now: Instant) -> Option<(ExhaustedReason, Option<Busy>)> {
        let told = route(world, &query("m")).next(now, &mut rng()).err()?;
        Some((told.reason, told.busy))
    }

    #[test]
    fn a_place_that_is_free_again_is_told_to_those_who_listen() {
        let now = Instant::now();
        let world = build(spec(vec![capped("b", 1)], vec![])).unwrap();
        let held = route(&world, &query("m")).next(now, &mut rng()).unwrap();
        let waits = route(&world, &query("m"));
        let ear = Arc::new(Ear::default());
        let listener: Arc<dyn Listener> = ear.clone();
        assert!(!waits.model().is_awaited());
        let listening = waits.listen(&listener);
        assert!(waits.model().is_awaited());
        drop(held);
        assert_eq!(ear.0.load(Relaxed), 1);
        drop(listening);
        drop(route(&world, &query("m")).next(now, &mut rng()).unwrap());
        assert_eq!(ear.0.load(Relaxed), 1);
        assert!(!waits.model().is_awaited());
    }

    #[test]
    fn a_models_cap_holds_on_all_its_backends_and_across_reloads() {
        let now = Instant::now();
        let backends = || vec![backend("a", "eu", &["m", "n"]), backend("b", "eu", &["m"])];
        let handle = handle(spec(backends(), vec![model(Some(2))]), now);
        let world = handle.load();
        let next = || route(&handle.load(), &query("m")).next(now, &mut rng());
        let (one, two) = (next().unwrap(), next().unwrap());
        let saturated = (ExhaustedReason::Saturated, Some(Busy { full: true, rest: None }));
        assert_eq!(told(&world, now), Some(saturated));
        // Another model of the same backends has places.
        assert!(route(&world, &query("n")).next(now, &mut rng()).is_ok());
        let ear = Arc::new(Ear::default());
        let listener: Arc<dyn Listener> = ear.clone();
        let _listening = route(&world, &query("m")).listen(&listener);
        for most in [Some(1), Some(3), None] {
            handle.publish(spec(backends(), vec![model(most)]), now).unwrap();
            assert_eq!(handle.load().model("m").unwrap().in_flight(), 2);
            // Plans that were made before hold to the new cap too.
            for world in [&world, &handle.load()] {
                assert_eq!(told(world, now).is_some(), most == Some(1), "{most:?}");
            }
        }
        assert!(ear.0.load(Relaxed) >= 3);
        drop((one, two));
        assert_eq!(handle.load().model("m").unwrap().in_flight(), 0);
    }

    #[test]
    fn only_who_was_not_tried_is_waited_for() {
        let now = Instant::now();
        let world = build(spec(vec![capped("a", 1), capped("b", 1)], vec![])).unwrap();
        let mut plan = route(&world, &query("m"));
        let first = plan.next(now, &mut rng()).unwrap();
        let _held = route(&world, &query("m")).next(now, &mut rng()).unwrap();
        end(first, &failed(FailureKind::ConnectFailed), now);
        let told = plan.next(now, &mut rng()).unwrap_err();
        assert_eq!(told.reason, ExhaustedReason::Tried);
        assert_eq!(told.busy, Some(Busy { full: true, rest: None }));
        // Who is dead is not waited for.
        for name in ["a", "b"] {
            break_it(&world, name, now);
        }
        let told = plan.next(now, &mut rng()).unwrap_err();
        assert_eq!(told.busy, None);
    }

    #[test]
    fn a_rest_has_an_end() {
        let now = Instant::now();
        let world = build(spec(vec![backend("b", "eu", &["m"])], vec![])).unwrap();
        let candidate = route(&world, &query("m")).next(now, &mut rng()).unwrap();
        let mut busy = failure(FailureKind::Overloaded);
        busy.retry_after = Some(Duration::from_secs(9));
        end(candidate, &Outcome::Failure(busy), now);
        let (_, busy) = told(&world, now).unwrap();
        let busy = busy.unwrap();
        assert!(!busy.full && busy.may_end_before(now + Duration::from_secs(10)));
        assert!(!busy.may_end_before(now + Duration::from_secs(8)));
    }

    #[test]
    fn plans_are_of_one_kind_as_long_as_they_may_meet_the_same() {
        let now = Instant::now();
        let backends = vec![backend("a", "eu", &["m"]), backend("b", "us", &["m"])];
        let handle = handle(spec(backends.clone(), vec![]), now);
        let world = handle.load();
        let plan = || route(&world, &query("m"));
        assert_eq!(plan().kind(), plan().kind());
        let mut there = query("m");
        there.region = Some("us");
        assert_ne!(route(&world, &there).kind(), plan().kind());
        let mut tried = plan();
        drop(tried.next(now, &mut rng()).unwrap());
        assert_ne!(tried.kind(), plan().kind());
        handle.publish(spec(backends, vec![model(Some(1))]), now).unwrap();
        assert_ne!(route(&handle.load(), &query("m")).kind(), plan().kind());
    }
}
