//! Parts of a request's path for whoever counts their instructions; nothing that serves uses this.

use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, Waker};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue, StatusCode};
use router::Operation;
use router::plan::RoutePlan;
use router::snapshot::SnapshotHandle;
use router::spec::{KeySpec, SnapshotSpec};

use crate::cache::{self, Consulted, Entry, Owner, Wishes, unix_ms};
use crate::call::{Call, owned};
use crate::connection::Core;
use crate::core::Load;
use crate::limits::{Limits, Used, estimate};
use crate::plane::{Counted, Link, Plane};
use crate::proxy::Asked;
use crate::report::Report;
use crate::request::Held;
use crate::request_id::RequestId;
use crate::request_log::RequestLog;
use crate::route::Route;
use crate::settings::ListenSettings;
use crate::shutdown::Shutdown;

const OPERATION: Operation = Operation::ChatCompletions;

/// One request before a data plane that has no sockets.
pub struct Bench {
    call: Arc<Call>,
    report: Box<Report>,
    key: Option<Arc<KeySpec>>,
    headers: HeaderMap,
}

impl Bench {
    /// A chat of the first key of `spec`, if there is one.
    ///
    /// `None` for what could not be served: a spec with errors, a body that is no request.
    #[must_use]
    pub fn new(spec: SnapshotSpec, body: Bytes) -> Option<Self> {
        let counted = Counted::new().ok()?;
        let attach = {
            let counted = counted.clone();
            move |spec: &router::spec::BackendSpec| Arc::new(Link::new(spec, 1, &counted))
        };
        let world = SnapshotHandle::new(spec, Box::new(attach), Instant::now()).ok()?;
        let dropped = counted.counters.lines_dropped.clone();
        let log = RequestLog::start(1, Box::new(std::io::sink()), dropped).ok()?;
        let listen = ListenSettings::default();
        let plane = Plane::new(Arc::new(world), listen, None, Shutdown::new(1), counted, log);
        let core = Arc::new(Core::new(0, Arc::new(plane), Arc::new(Load::default())));
        let world = core.plane.world.load();
        let key = world.spec().keys.first().cloned().map(Arc::new);
        let peek = owned(&adapters::peek(&body, world.service().json_depth).ok()?);
        let asked = Asked { operation: OPERATION, key: key.clone() };
        let only = (CACHE_CONTROL, HeaderValue::from_static("only-if-cached"));
        let headers = HeaderMap::from_iter([only]);
        let route = Route::of(&world, &asked, &headers, &body, &peek).ok()?;
        let id = RequestId::new(1, None);
        let report = Report::begin(&core, id.clone());
        let share = core.plane.buffer();
        let call = Call {
            operation: OPERATION,
            route,
            body: Arc::new(Held { bytes: body, _share: share }),
            peek,
            adds_usage: false,
            headers: HeaderMap::new(),
            query: None,
            id,
            begun: report.begun(),
            world,
            core,
        };
        Some(Self { call: Arc::new(call), report, key, headers })
    }

    /// Charges the request to its key, and settles it as one that used nothing; whether it was admitted.
    pub fn charge(&self) -> bool {
        let Some(key) = &self.key else { return false };
        let estimate = estimate(OPERATION, &self.call.peek, &self.call.body.bytes);
        let admitted = pin!(Limits::admit(&self.call.core.plane, key, estimate, true));
        // Without a Redis there is nothing to wait for.
        match admitted.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(Some(admission))) => {
                admission.settle(Used::Nothing, None);
                true
            }
            Poll::Ready(Ok(None) | Err(_)) | Poll::Pending => false,
        }
    }

    fn plan(&self) -> Option<RoutePlan<Arc<Link>>> {
        self.call.route.plan(&self.call.world, &self.call.peek.model).ok()
    }

    /// Stores an answer to the request.
    #[must_use]
    pub fn stored(self, answer: Bytes) -> Option<Self> {
        let plan = self.plan()?;
        let entry = Entry {
            owner: Owner {
                model: plan.model().name.clone(),
                tenant: self.key.as_ref().map(|key| key.tenant.clone()),
                key: self.key.as_ref().map(|key| key.name.clone()),
            },
            status: StatusCode::OK,
            content_type: Some(HeaderValue::from_static("application/json")),
            stream: false,
            body: answer,
            usage: None,
            region: Some("eu".to_owned()),
            head: None,
            stored: unix_ms(SystemTime::now()),
            ttl: 3_600_000,
            cost: 500,
            renewed: AtomicBool::new(false),
        };
        let plane = &self.call.core.plane;
        let prepared = plane.cache.prepared(&self.call.world, &plane.counters.cache);
        let (caller, wishes) = (self.key.as_deref(), Wishes::default());
        let asked = cache::request(&self.call, &plan, caller, wishes, &prepared.secret).ok()?;
        prepared.memory.put(asked.digest, Arc::new(entry));
        Some(self)
    }

    /// Asks the cache, as a client that wants nothing but a stored answer; whether there is one.
    pub fn ask(&mut self) -> bool {
        let Some(plan) = self.plan() else { return false };
        let Self { call, report, key, headers } = self;
        let asked = cache::consult(call, plan, key.as_deref(), headers, report);
        matches!(asked, Ok(Consulted::Hit(_)))
    }
}
