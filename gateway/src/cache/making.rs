//! The task that makes one answer for all who wait for it, and stores it.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use adapters::Usage;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::response::Parts;
use router::plan::RoutePlan;
use router::{Operation, RegionName};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::counters::{Tier, Unstored};
use super::entry::{Entry, Owner, millis, spread, unix_ms};
use super::flight::{Begun, End, Flight, Form, Opening, Seat};
use super::memory::Memory;
use super::reading::Reading;
use super::remote::{Lease, Looked, Remote, Wanted};
use crate::call::Call;
use crate::dispatch::{Lost, Origin, Won, WonBody};
use crate::error::{ErrorKind, Rejection};
use crate::plane::{Link, Plane};
use crate::proxy;
use crate::relay::Relay;

/// Pieces that are passed on together at most.
const BATCH_MAX: usize = 32;
/// Bytes from which on no more pieces are waited for: readers are looked at between batches.
const BATCH_BYTES: usize = 64 << 10;

/// Where an answer goes when it is whole.
pub(crate) struct Fill {
    /// Its name, and what a stored one would have to be.
    pub(crate) wanted: Wanted,
    /// A stored one will do.
    pub(crate) looks: bool,
    /// The one that this is to replace.
    pub(crate) renewed: Option<Arc<Entry>>,
    pub(crate) owner: Owner,
    /// The regions that it may not leave, as all who read it were promised.
    pub(crate) walls: Option<Vec<RegionName>>,
    pub(crate) ttl: Duration,
    pub(crate) memory: Option<Arc<Memory>>,
    pub(crate) remote: Option<Remote>,
    pub(crate) stream: bool,
    pub(crate) operation: Operation,
}

/// One answer being made.
pub(crate) struct Making {
    plane: Arc<Plane>,
    flight: Arc<Flight>,
    fill: Fill,
    /// The right to make it, among gateways.
    lease: Option<Lease>,
    begun: Instant,
}

/// What an entry says beside its body.
struct Label {
    origin: Origin,
    head: Parts,
}

impl Making {
    pub(crate) fn new(plane: Arc<Plane>, flight: Arc<Flight>, fill: Fill) -> Self {
        Self { plane, flight, fill, lease: None, begun: Instant::now() }
    }

    /// Makes it, as long as someone reads.
    pub(crate) async fn run(mut self, call: Arc<Call>, plan: RoutePlan<Arc<Link>>) {
        let flight = Arc::clone(&self.flight);
        tokio::select! {
            biased;
            () = flight.deserted() => {}
            () = self.make(call, plan) => {}
        }
    }

    async fn make(&mut self, call: Arc<Call>, plan: RoutePlan<Arc<Link>>) {
        if self.fill.looks {
            if let Some(entry) = self.stored().await {
                self.flight.open(Ok(Opening::Stored(entry)));
                return self.flight.say([], Some(End::default()));
            }
            self.plane.counters.cache.misses.increment(1);
        }
        match proxy::search(call, plan).await {
            Err(lost) => self.flight.open(Err(lost)),
            Ok(won) if !self.is_inside(&won.origin) => {
                let message = "the regions of this model changed while the request waited";
                let rejection = Rejection::new(ErrorKind::RegionUnavailable, message);
                self.flight.open(Err(Lost { rejection, origin: won.origin }));
            }
            Ok(Won { origin, head, body }) => {
                let label = Label { origin, head };
                match body {
                    WonBody::Whole(bytes, usage) => self.whole(&label, bytes, usage),
                    WonBody::Stream(relay) => self.relay(label, Form::Stream, relay).await,
                    WonBody::Rest(relay) => self.relay(label, Form::Rest, relay).await,
                    // A search goes upstream: what it finds was not stored.
                    WonBody::Shared(_) | WonBody::Replay(..) => {}
                }
            }
        }
    }

    /// One that waited for a place was planned anew, perhaps in a world with other walls.
    fn is_inside(&self, origin: &Origin) -> bool {
        let region = origin.region.as_deref();
        self.fill
            .walls
            .as_ref()
            .is_none_or(|walls| walls.iter().any(|w| Some(w.as_str()) == region))
    }

    /// Looks into Redis, and takes the right to make the answer where there is none.
    async fn stored(&mut self) -> Option<Arc<Entry>> {
        let remote = self.fill.remote.as_ref()?;
        let entry = match remote.look(&self.fill.wanted, self.fill.renewed.is_none()).await {
            Looked::Ours(lease) => {
                self.lease = lease;
                return None;
            }
            // Another gateway renews it: the old one is still good.
            Looked::Theirs => return self.fill.renewed.clone(),
            Looked::Found(entry) => entry,
        };
        self.plane.counters.cache.hit(Tier::Redis);
        self.keep(&entry);
        Some(entry)
    }

    /// Puts an answer into memory, unless it was purged meanwhile; whether it may be stored elsewhere too.
    fn keep(&self, entry: &Arc<Entry>) -> bool {
        // Held until it is in: a purge meanwhile would miss it.
        let held = self.plane.cache.purges.hold();
        if held.stamp(&self.fill.owner) != self.fill.wanted.stamp {
            return false;
        }
        if let Some(memory) = &self.fill.memory {
            memory.put(self.fill.wanted.digest, Arc::clone(entry));
        }
        true
    }

    fn open(&self, label: &Label, form: Form) {
        let (origin, head) = (label.origin.clone(), label.head.clone());
        let opening = Opening::New(Box::new(Begun { origin, head, form }));
        self.flight.open(Ok(opening));
    }

    /// A plain answer that is complete. Stored first, so that whoever has it and asks again finds it.
    fn whole(&mut self, label: &Label, bytes: Bytes, usage: Option<Usage>) {
        // A copy: as it came it holds a read buffer that may be many times as large.
        self.store(label, false, Bytes::copy_from_slice(&bytes), usage);
        self.open(label, Form::Whole(bytes, usage));
        self.flight.say([], Some(End { usage, ..End::default() }));
    }

    /// An answer that comes piece by piece.
    async fn relay(&mut self, label: Label, form: Form, mut relay: Box<Relay>) {
        let stream = matches!(form, Form::Stream);
        self.open(&label, form);
        let mut batch: SmallVec<[Bytes; BATCH_MAX]> = SmallVec::new();
        loop {
            self.flight.paced().await;
            let mut bytes = 0;
            let end = poll_fn(|cx| {
                loop {
                    match relay.poll(cx, None) {
                        Poll::Ready(Some(Ok(piece))) => {
                            bytes += piece.len();
                            batch.push(piece);
                        }
                        Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(true)),
                        Poll::Ready(None) => return Poll::Ready(Some(false)),
                        Poll::Pending if batch.is_empty() => return Poll::Pending,
                        Poll::Pending => return Poll::Ready(None),
                    }
                    if batch.len() == BATCH_MAX || bytes >= BATCH_BYTES {
                        return Poll::Ready(None);
                    }
                }
            })
            .await;
            let Some(cut) = end else {
                self.flight.say(batch.drain(..), None);
                continue;
            };
            let verdict = relay.verdict();
            drop(relay);
            if verdict.whole && !cut {
                match self.flight.whole(&batch) {
                    Some(bytes) => self.store(&label, stream, bytes, verdict.usage),
                    None => self.unstored(Unstored::TooLarge),
                }
            } else {
                self.unstored(Unstored::Incomplete);
            }
            let end = End { code: verdict.code, cut, usage: verdict.usage };
            return self.flight.say(batch, Some(end));
        }
    }

    fn unstored(&self, why: Unstored) {
        self.plane.counters.cache.unstored(why);
    }

    /// Stores a whole answer wherever it may be.
    fn store(&mut self, label: &Label, stream: bool, body: Bytes, usage: Option<Usage>) {
        if let Some(why) = self.flaw(label, stream, &body) {
            return self.unstored(why);
        }
        let entry = Arc::new(Entry {
            owner: self.fill.owner.clone(),
            status: label.head.status,
            content_type: label.head.headers.get(CONTENT_TYPE).cloned(),
            stream,
            body,
            usage,
            region: label.origin.region.clone(),
            head: label.origin.head.clone(),
            stored: unix_ms(SystemTime::now()),
            ttl: spread(self.fill.ttl, &mut fastrand::Rng::new()),
            cost: millis(self.begun.elapsed()),
            renewed: AtomicBool::new(false),
        });
        if !self.keep(&entry) {
            return;
        }
        if self.fill.memory.is_some() {
            self.plane.counters.cache.stored(Tier::Memory);
        }
        if let Some(remote) = &self.fill.remote {
            let wanted = &self.fill.wanted;
            remote.put(wanted.digest, wanted.stamp, &entry, self.lease.take());
        }
    }

    /// Why an answer that came to its end is not stored all the same.
    fn flaw(&self, label: &Label, stream: bool, body: &Bytes) -> Option<Unstored> {
        let fill = &self.fill;
        let encoded =
            label.head.headers.get(CONTENT_ENCODING).is_some_and(|value| value != "identity");
        let plain_whole = || match fill.operation {
            Operation::Embeddings => crate::attempt::looks_whole(body),
            _ => {
                let answer = adapters::inspect(body);
                answer.complete && !answer.error && !answer.aborted
            }
        };
        let as_asked = stream == fill.stream && (stream || plain_whole());
        if encoded || !label.head.status.is_success() || !as_asked {
            return Some(Unstored::Incomplete);
        }
        if body.len() as u64 > self.flight.keep() {
            return Some(Unstored::TooLarge);
        }
        // A fallback's answer would go on being given when the model itself is back.
        let own = label.origin.model.as_deref() == Some(fill.owner.model.as_str());
        (!own).then_some(Unstored::OtherModel)
    }
}

impl Drop for Making {
    /// However it ended: nobody joins any more, and nobody waits for ever.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.plane.counters.panics.increment(1);
        }
        let rejection = Rejection::new(ErrorKind::Internal, "the gateway met a defect of its own");
        let lost = Lost { rejection, origin: Origin::default() };
        let end = End { code: Some("internal_error"), cut: true, usage: None };
        self.flight.abandon(lost, end);
        self.plane.cache.flights.remove(&self.fill.wanted.digest, &self.flight);
    }
}

/// The answer of a flight, for one of its readers.
pub(crate) async fn opened(seat: Seat) -> Result<Won, Lost> {
    let opening = poll_fn(|cx| seat.poll_opening(cx)).await?;
    Ok(match opening {
        Opening::Stored(entry) => entry.replay(unix_ms(SystemTime::now())),
        Opening::New(begun) => {
            let Begun { origin, head, form } = *begun;
            let body = match form {
                Form::Whole(bytes, usage) => WonBody::Whole(bytes, usage),
                Form::Stream => WonBody::Shared(Box::new(Reading::new(seat, true))),
                Form::Rest => WonBody::Shared(Box::new(Reading::new(seat, false))),
            };
            Won { origin, head, body }
        }
    })
}
