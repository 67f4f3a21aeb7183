//! The response cache: equal requests are answered once, and again from what was stored.
//!
//! A request of a cached model is digested (`key`). A stored answer is replayed byte for byte; otherwise one task makes
//! the answer (`making`) and all equal requests read it (`flight`). What is whole and successful is stored: in process
//! (`memory`) and, where there is one, in Redis (`remote`). Whatever the cache cannot do, requests go on without it.

pub(crate) mod counters;
mod entry;
pub(crate) mod envelope;
mod flight;
mod flights;
mod key;
mod making;
mod memory;
mod purges;
mod reading;
mod remote;
mod upkeep;
mod wishes;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use http::HeaderMap;
use router::RegionName;
use router::plan::RoutePlan;
use router::planes::PurgeScope;
use router::spec::{CacheScope, CacheSpec, CacheWhen, KeySpec, ModelCache};

use crate::call::Call;
use crate::dispatch::{Lost, Origin, Won};
use crate::error::{ErrorKind, Rejection};
use crate::plane::{Link, Plane, World};
use crate::proxy;
use crate::report::{Cached, Report};
use crate::request::INLINE_MAX;
use crate::waiting::Search;

use tokio::sync::Notify;

use counters::{Bypass, CacheCounters, Tier};
pub(crate) use entry::{Entry, Owner, unix_ms};
use flight::{Bounds, Flight, Seat};
use flights::{Flights, Found};
use key::{Asked, Digest};
use making::{Fill, Making};
use memory::Memory;
use purges::Purges;
pub(crate) use reading::Reading;
use remote::{Remote, Wanted};
pub(crate) use upkeep::start;
pub(crate) use wishes::Wishes;

/// The shortest lifetime that a client can ask for.
const TTL_MIN: Duration = Duration::from_secs(1);

/// The cache of one data plane.
pub(crate) struct Cache {
    /// Keys the digests of a gateway without Redis.
    own: [u8; 32],
    prepared: ArcSwap<Prepared>,
    preparing: Mutex<()>,
    flights: Flights,
    purges: Purges,
    /// There was one that others are to hear of.
    purged: Notify,
    /// When the purges of other gateways were last heard of, unix ms; 0 = never.
    agreed: AtomicU64,
}

/// What follows from the snapshot.
pub(crate) struct Prepared {
    version: u64,
    pub(crate) secret: [u8; 32],
    pub(crate) memory: Arc<Memory>,
}

/// What became of a request at the cache.
pub(crate) enum Consulted {
    /// It goes its way as if there were no cache.
    Past(RoutePlan<Arc<Link>>),
    Hit(Won),
    Search(Search),
}

/// How a model is cached.
struct Policy {
    ttl: Duration,
    when: CacheWhen,
    scope: CacheScope,
}

fn policy(spec: &CacheSpec, model: &ModelCache) -> Policy {
    Policy {
        ttl: model.ttl.unwrap_or(spec.ttl),
        when: model.when.unwrap_or(spec.when),
        scope: model.scope.unwrap_or(spec.scope),
    }
}

/// Where copies may be.
struct Tiers {
    memory: bool,
    remote: Option<Remote>,
}

impl Tiers {
    /// Nothing strict is kept where nobody said where that is.
    fn of(plane: &Plane, world: &World, walls: Option<&[RegionName]>, secret: &[u8; 32]) -> Self {
        let inside = |place: Option<&RegionName>| {
            walls.is_none_or(|walls| place.is_some_and(|place| walls.contains(place)))
        };
        let redis = plane.redis().filter(|redis| inside(redis.region()));
        // What others have purged has to be known first.
        let redis = redis.filter(|redis| redis.is_up() && plane.cache.agreed.load(Relaxed) > 0);
        Self {
            memory: inside(world.spec().server_region.as_ref()),
            remote: redis.map(|redis| Remote {
                redis,
                secret: *secret,
                entry_max: world.spec().cache.entry_max,
                counters: Arc::clone(&plane.counters),
            }),
        }
    }

    const fn is_empty(&self) -> bool {
        !self.memory && self.remote.is_none()
    }
}

/// A request that the cache can do something for.
pub(crate) struct Request {
    pub(crate) digest: Digest,
    /// The regions that the answer may not leave.
    walls: Option<Vec<RegionName>>,
    tiers: Tiers,
    policy: Policy,
    owner: Owner,
    wishes: Wishes,
}

impl Cache {
    pub(crate) fn new(world: &World, counters: &CacheCounters) -> Self {
        let mut own = [0; 32];
        if aws_lc_rs::rand::fill(&mut own).is_err() {
            // Digests without a secret are still digests.
            tracing::warn!("no randomness for the cache's key");
        }
        let memory = Arc::new(Memory::new(world.spec().cache.memory_max, counters));
        let secret = key::secret(world.spec().redis.as_ref(), &own);
        let prepared = Prepared { version: world.version(), secret, memory };
        Self {
            own,
            prepared: ArcSwap::from_pointee(prepared),
            preparing: Mutex::new(()),
            flights: Flights::default(),
            purges: Purges::default(),
            purged: Notify::new(),
            agreed: AtomicU64::new(0),
        }
    }

    /// What follows from this snapshot; worked out once for each. The memory tier stays unless its size changes.
    pub(crate) fn prepared(&self, world: &World, counters: &CacheCounters) -> Arc<Prepared> {
        let known = self.prepared.load_full();
        if known.version >= world.version() {
            return known;
        }
        let _one = self.preparing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.prepared.load_full();
        if known.version >= world.version() {
            return known;
        }
        let spec = world.spec();
        let memory = match known.memory.max() == spec.cache.memory_max {
            true => Arc::clone(&known.memory),
            false => Arc::new(Memory::new(spec.cache.memory_max, counters)),
        };
        let secret = key::secret(spec.redis.as_ref(), &self.own);
        let prepared = Arc::new(Prepared { version: world.version(), secret, memory });
        self.prepared.store(Arc::clone(&prepared));
        prepared
    }

    /// Drops stored answers, and gives the number of those that were in process.
    pub(crate) fn purge(&self, scope: &PurgeScope) -> u64 {
        // Raised first: what is stored from here on was begun after the purge, or is refused.
        self.purges.raise(scope, unix_ms(SystemTime::now()));
        let gone = self.prepared.load().memory.purge(|entry| purges::covers(scope, &entry.owner));
        self.purged.notify_one();
        gone
    }
}

/// Asks the cache. Models that are not cached cost one branch.
///
/// # Errors
/// The client asked for what cannot be read, or for a stored answer alone and there is none.
pub(crate) fn consult(
    call: &Arc<Call>,
    plan: RoutePlan<Arc<Link>>,
    caller: Option<&KeySpec>,
    headers: &HeaderMap,
    report: &mut Report,
) -> Result<Consulted, Rejection> {
    let spec = &call.world.spec().cache;
    let model = plan.model();
    if !model.spec.cache.enabled.unwrap_or(spec.default) {
        return Ok(Consulted::Past(plan));
    }
    let counters = &call.core.plane.counters.cache;
    let wishes = wishes::wishes(headers)?;
    let prepared = call.core.plane.cache.prepared(&call.world, counters);
    match request(call, &plan, caller, wishes, &prepared.secret) {
        Ok(request) => found(call, plan, request, &prepared, report),
        Err(_) if wishes.only_if_cached => Err(not_cached()),
        Err(why) => {
            counters.bypass(why);
            report.cached = Some(Cached::Bypass);
            Ok(Consulted::Past(plan))
        }
    }
}

fn not_cached() -> Rejection {
    let message = "there is no stored answer, and `cache-control: only-if-cached` wants no other";
    Rejection::new(ErrorKind::NotCached, message)
}

/// What the cache has to know of a request, or why it can do nothing for it.
pub(crate) fn request(
    call: &Call,
    plan: &RoutePlan<Arc<Link>>,
    caller: Option<&KeySpec>,
    wishes: Wishes,
    secret: &[u8; 32],
) -> Result<Request, Bypass> {
    if wishes.no_store {
        return Err(Bypass::NoStore);
    }
    if call.body.bytes.len() > INLINE_MAX {
        return Err(Bypass::TooLarge);
    }
    let (model, walls) = (plan.model(), plan.walls());
    let policy = policy(&call.world.spec().cache, &model.spec.cache);
    let tiers = Tiers::of(&call.core.plane, &call.world, walls.as_deref(), secret);
    if tiers.is_empty() {
        return Err(Bypass::Residency);
    }
    let body = adapters::canonical(&call.body.bytes, call.service().json_depth);
    let body = body.ok_or(Bypass::NotDeterministic)?;
    if policy.when == CacheWhen::Deterministic && !body.is_deterministic(call.operation) {
        return Err(Bypass::NotDeterministic);
    }
    let tenant = caller.map(|key| &key.tenant);
    let asked = Asked {
        scope: policy.scope,
        tenant,
        operation: call.operation,
        stream: call.peek.stream,
        model: &model.spec,
        walls: walls.as_deref(),
        query: call.query.as_deref(),
        headers: &call.headers,
    };
    let owner = Owner {
        model: model.name.clone(),
        tenant: tenant.cloned(),
        key: caller.map(|key| key.name.clone()),
    };
    let digest = key::digest(secret, &asked, &body);
    Ok(Request { digest, walls, tiers, policy, owner, wishes })
}

/// A stored answer, a place among those who wait for it, or a new one.
fn found(
    call: &Arc<Call>,
    plan: RoutePlan<Arc<Link>>,
    request: Request,
    prepared: &Arc<Prepared>,
    report: &mut Report,
) -> Result<Consulted, Rejection> {
    let plane = &call.core.plane;
    let counters = &plane.counters.cache;
    let now = unix_ms(SystemTime::now());
    let look = || {
        let entry = prepared.memory.find(&request.digest, now, request.wishes.max_age);
        entry.filter(|_| request.tiers.memory && !request.wishes.no_cache)
    };
    let mut renewed = None;
    if let Some(entry) = look() {
        if request.wishes.only_if_cached || !entry.renews(now, &mut fastrand::Rng::new()) {
            counters.hit(Tier::Memory);
            return Ok(Consulted::Hit(entry.replay(now)));
        }
        renewed = Some(entry);
    }
    let stamp = plane.cache.purges.stamp(&request.owner);
    let newer = renewed.as_ref().map_or(0, |entry| entry.stored);
    let max_age = request.wishes.max_age;
    let wanted = Wanted { digest: request.digest, stamp, max_age, newer };
    if request.wishes.only_if_cached {
        let remote = request.tiers.remote.ok_or_else(not_cached)?;
        return Ok(Consulted::Search(stored(remote, wanted)));
    }
    let bounds =
        Bounds { keep: call.world.spec().cache.entry_max, buffers: call.service().buffered_bytes };
    let begin = || Flight::begin(bounds, plane.buffer());
    // Who wants a newer answer than others would take has it made alone.
    let found = if request.wishes.no_cache || max_age.is_some() {
        let (flight, seat) = begin();
        Found::Begun(flight, seat)
    } else {
        let again = || look().filter(|_| renewed.is_none());
        plane.cache.flights.find(&request.digest, stamp, again, begin)
    };
    match found {
        Found::Stored(entry) => {
            counters.hit(Tier::Memory);
            Ok(Consulted::Hit(entry.replay(now)))
        }
        Found::Joined(seat) => {
            counters.coalesced.increment(1);
            report.cached = Some(Cached::Coalesced);
            Ok(Consulted::Search(joined(seat, renewed, Arc::clone(call), plan)))
        }
        Found::Begun(flight, seat) => {
            let search = reading(seat, renewed.clone());
            if request.wishes.no_cache {
                counters.bypass(Bypass::NoCache);
                report.cached = Some(Cached::Bypass);
            } else {
                report.cached = Some(Cached::Miss);
            }
            let ttl = request.wishes.ttl.unwrap_or(request.policy.ttl);
            let fill = Fill {
                wanted,
                looks: !request.wishes.no_cache,
                renewed,
                owner: request.owner,
                walls: request.walls,
                ttl: ttl.clamp(TTL_MIN, request.policy.ttl.max(TTL_MIN)),
                memory: request.tiers.memory.then(|| Arc::clone(&prepared.memory)),
                remote: request.tiers.remote,
                stream: call.peek.stream,
                operation: call.operation,
            };
            let making = Making::new(Arc::clone(plane), flight, fill);
            tokio::spawn(making.run(Arc::clone(call), plan));
            Ok(Consulted::Search(search))
        }
    }
}

/// A stored answer from Redis, or none.
fn stored(remote: Remote, wanted: Wanted) -> Search {
    Box::pin(async move {
        match remote.find(&wanted).await {
            Ok(Some(entry)) => {
                remote.counters.cache.hit(Tier::Redis);
                Ok(entry.replay(unix_ms(SystemTime::now())))
            }
            Ok(None) | Err(_) => Err(Lost { rejection: not_cached(), origin: Origin::default() }),
        }
    })
}

/// Waits for an answer that someone makes. Where that fails, the still good one that it was to replace is served.
fn reading(seat: Seat, renewed: Option<Arc<Entry>>) -> Search {
    Box::pin(async move {
        let answer = making::opened(seat).await;
        let Some(entry) = renewed else { return answer };
        entry.renewed.store(false, Relaxed);
        let now = unix_ms(SystemTime::now());
        match answer {
            Err(_) if entry.serves(now, None) => Ok(entry.replay(now)),
            answer => answer,
        }
    })
}

/// The same for one who joined. That the one who asked first may not have it says nothing of this one.
fn joined(
    seat: Seat,
    renewed: Option<Arc<Entry>>,
    call: Arc<Call>,
    plan: RoutePlan<Arc<Link>>,
) -> Search {
    let answer = reading(seat, renewed);
    Box::pin(async move {
        match answer.await {
            Err(lost) if lost.rejection.kind.is_the_callers() => proxy::search(call, plan).await,
            answer => answer,
        }
    })
}
