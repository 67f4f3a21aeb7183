//! The answer on its way to the client: the upstream's frames as they are, watched, with only complete events let through.
//!
//! One body polls the other; there is no channel and no task between them. Dropping it closes the upstream connection.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use adapters::sse::Scanner;
use adapters::{Ending, StreamEnd, Usage};
use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use router::outcome::{FailureKind, Stage};
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Instant, Sleep};

use crate::attempt::Flow;
use crate::body::Cut;
use crate::brackets::Brackets;
use crate::error::{ErrorKind, Rejection};
use crate::report::Report;
use crate::shutdown::{Phase, Shutdown};
use crate::tail::Tail;
use crate::tenure::Tenure;
use crate::unasked;
use crate::upstream::Lease;

/// How long a finished stream's connection may take to show its end and be used again.
const LINGER: Duration = Duration::from_millis(100);

/// Where an answer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Live,
    /// Everything was said.
    Ended,
    /// It cannot go on and cannot say so.
    Cut,
}

/// How an answer ended.
pub(crate) struct Verdict {
    /// The code that it broke with.
    pub(crate) code: Option<&'static str>,
    pub(crate) usage: Option<Usage>,
    /// It says itself that nothing is missing: every choice has finished and `[DONE]` came.
    pub(crate) whole: bool,
}

/// One committed answer being relayed.
pub(crate) struct Relay {
    ready: VecDeque<Bytes>,
    tail: Tail,
    scanner: Option<Scanner>,
    /// Where the usage of an answer stands that is no stream.
    ending: Ending,
    upstream: Option<(Incoming, Lease)>,
    /// Watches a body whose end proves nothing: only its own brackets do.
    brackets: Option<Brackets>,
    state: State,
    /// The in-flight slot and the backend that failures are reported to.
    tenure: Tenure,
    timer: IdleTimer,
    abort: Abort,
    /// Events that are progress, so far.
    events: u64,
    adds_usage: bool,
}

/// Wakes when the process stops waiting for answers.
struct Abort {
    shutdown: Shutdown,
    core: usize,
    changed: Pin<Box<OwnedNotified>>,
}

impl Abort {
    fn new(shutdown: &Shutdown, core: usize) -> Self {
        let changed = Box::pin(shutdown.changed(core));
        Self { shutdown: shutdown.clone(), core, changed }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.shutdown.phase() == Phase::Aborting {
                return Poll::Ready(());
            }
            ready!(self.changed.as_mut().poll(cx));
            self.changed = Box::pin(self.shutdown.changed(self.core));
        }
    }
}

/// The deadlines of a running answer. Only time spent waiting for the upstream counts: a slow reader is not its fault.
struct IdleTimer {
    idle: Duration,
    total: Option<Instant>,
    waiting_since: Option<Instant>,
    sleep: Pin<Box<Sleep>>,
}

impl IdleTimer {
    fn progressed(&mut self) {
        self.waiting_since = None;
    }

    /// Ready with what has run out.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<FailureKind> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let idle_at = since + self.idle;
        let (at, kind) = match self.total {
            Some(total) if total < idle_at => (total, FailureKind::TotalTimeout),
            _ => (idle_at, FailureKind::IdleTimeout),
        };
        if self.sleep.deadline() > at {
            self.sleep.as_mut().reset(at);
        }
        // The alarm may be from an earlier wait: it is moved only when it rings.
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if Instant::now() >= at {
                return Poll::Ready(kind);
            }
            self.sleep.as_mut().reset(at);
        }
    }
}

/// What a relay is held to.
pub(crate) struct Bounds {
    pub(crate) idle: Duration,
    pub(crate) total: Option<Instant>,
    pub(crate) event_hold: usize,
    /// See [`crate::call::Call::adds_usage`].
    pub(crate) adds_usage: bool,
}

impl Relay {
    pub(crate) fn new(
        flow: Flow,
        tenure: Tenure,
        bounds: &Bounds,
        shutdown: &Shutdown,
        core: usize,
    ) -> Self {
        let Flow { prelude, scanner, body, lease, unframed, boundary, events } = flow;
        let mut relay = Self {
            ready: VecDeque::with_capacity(prelude.len()),
            tail: Tail::new(bounds.event_hold),
            scanner,
            ending: Ending::default(),
            upstream: Some((body, lease)),
            brackets: unframed.then(Brackets::default),
            state: State::Live,
            tenure,
            timer: IdleTimer {
                idle: bounds.idle,
                total: bounds.total,
                waiting_since: None,
                sleep: Box::pin(tokio::time::sleep(bounds.idle)),
            },
            abort: Abort::new(shutdown, core),
            events,
            adds_usage: bounds.adds_usage,
        };
        relay.replay(prelude, boundary);
        relay
    }

    /// Lets the held start of the answer through.
    fn replay(&mut self, mut prelude: Vec<Bytes>, boundary: Option<usize>) {
        let Some(last) = prelude.pop() else { return };
        if self.scanner.is_none() {
            prelude.push(last);
            prelude.into_iter().for_each(|piece| self.take(piece));
            return;
        }
        for piece in prelude {
            // Whatever was incomplete in an earlier piece is completed by the boundary in the last one.
            self.tail.hold(piece, None, &mut self.ready);
        }
        self.tail.hold(last, boundary, &mut self.ready);
        // An error event that came together with the first content.
        if self.scanner.as_ref().is_some_and(Scanner::failed) {
            self.tenure.failed(FailureKind::ErrorEvent);
        }
        self.after_scan(false);
    }

    /// The next bytes for the client.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut report: Option<&mut Report>,
    ) -> Poll<Option<Result<Bytes, Cut>>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                if let Some(report) = report.as_deref_mut() {
                    report.events = self.events;
                }
                if self.ready.is_empty() && self.state == State::Ended {
                    self.conclude(report.as_deref_mut());
                }
                return Poll::Ready(Some(Ok(bytes)));
            }
            match self.state {
                State::Live => {}
                State::Ended => {
                    self.conclude(report);
                    return Poll::Ready(None);
                }
                State::Cut => {
                    self.conclude(report);
                    return Poll::Ready(Some(Err(Cut)));
                }
            }
            ready!(self.poll_upstream(cx));
        }
    }

    fn poll_upstream(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((body, _)) = &mut self.upstream else {
            self.state = State::Ended;
            return Poll::Ready(());
        };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    self.take(data);
                }
            }
            Poll::Ready(Some(Err(_))) => self.lost(FailureKind::ConnectionLost),
            Poll::Ready(None) => self.finished(),
            Poll::Pending => {
                if self.abort.poll(cx).is_ready() {
                    let told = Rejection::new(ErrorKind::ShuttingDown, "the gateway is stopping");
                    self.break_off(&told);
                } else {
                    let kind = ready!(self.timer.poll(cx));
                    self.lost(kind);
                }
            }
        }
        Poll::Ready(())
    }

    fn take(&mut self, data: Bytes) {
        let Some(scanner) = &mut self.scanner else {
            self.timer.progressed();
            if let Some(brackets) = &mut self.brackets {
                brackets.push(&data);
            }
            self.ending.push(&data);
            self.ready.push_back(data);
            return;
        };
        let scan = scanner.push(&data);
        if scan.events > 0 {
            self.timer.progressed();
            self.tenure.progressed();
        }
        self.events += u64::from(scan.events);
        let done = scan.done;
        let mut unasked = scan.usage_only.filter(|_| self.adds_usage);
        // What came of it before is all that is held; where the client has a part of it already, it gets the rest.
        if unasked.is_some_and(|event| event.start.is_none()) && !self.tail.discard() {
            unasked = None;
        }
        let mut boundary = scan.boundary;
        let mut pieces = unasked::without(data, unasked, &mut boundary);
        let last = pieces.pop().unwrap_or_default();
        for piece in pieces {
            let whole = piece.len();
            self.tail.hold(piece, Some(whole), &mut self.ready);
        }
        self.tail.hold(last, boundary, &mut self.ready);
        self.after_scan(done);
    }

    /// What the events so far mean for the answer as a whole.
    fn after_scan(&mut self, done: bool) {
        let Some(scanner) = &self.scanner else { return };
        if scanner.failed() {
            self.tenure.failed(FailureKind::ErrorEvent);
        }
        if scanner.aborted() {
            self.lost(FailureKind::Unfinished);
        } else if done || scanner.saw_done() {
            // The upstream may keep its connection open for long: the client is not made to wait for that.
            self.state = State::Ended;
            self.release();
        }
    }

    /// The upstream's body has ended.
    fn finished(&mut self) {
        let whole = match &mut self.scanner {
            Some(scanner) => match scanner.finish() {
                // A failed stream has told the client so itself.
                StreamEnd::Complete | StreamEnd::Failed => true,
                StreamEnd::Unfinished | StreamEnd::Aborted => false,
            },
            None => self.brackets.as_ref().is_none_or(Brackets::closed),
        };
        if !whole {
            self.lost(FailureKind::Unfinished);
            return;
        }
        self.tail.release(&mut self.ready);
        self.state = State::Ended;
        if let Some((_, lease)) = self.upstream.take() {
            lease.park();
        }
    }

    /// The upstream is gone, silent or wrong in the middle of the answer.
    fn lost(&mut self, kind: FailureKind) {
        // Every choice has said why it ended: what is missing is at most a usage count and `[DONE]`.
        let finished = self.scanner.as_ref().is_some_and(|s| s.finished() && !s.aborted());
        let only_the_end = matches!(kind, FailureKind::ConnectionLost | FailureKind::IdleTimeout);
        if finished && only_the_end {
            self.tail.release(&mut self.ready);
            self.state = State::Ended;
            self.upstream = None;
            return;
        }
        self.tenure.failed(kind);
        let told = Rejection::upstream(kind, Stage::MidStream, self.tenure.backend());
        let broken = Rejection::new(ErrorKind::Upstream(FailureKind::Unfinished), &*told.message);
        self.break_off(&broken);
    }

    /// Ends the answer with an error event, or, where none can follow cleanly, without a clean end.
    fn break_off(&mut self, told: &Rejection) {
        self.upstream = None;
        self.tenure.broken(told.kind.row().code);
        let clean = self.tail.discard();
        if self.scanner.is_some() && clean {
            self.ready.push_back(told.event());
            self.state = State::Ended;
        } else {
            self.state = State::Cut;
        }
    }

    /// `[DONE]` was seen: the connection is good again once its body has ended.
    fn release(&mut self) {
        let Some((mut body, lease)) = self.upstream.take() else { return };
        tokio::spawn(async move {
            // Comments or the LF of a CRLF may follow; nobody wants them.
            let end = async {
                loop {
                    match body.frame().await {
                        Some(Ok(_)) => {}
                        Some(Err(_)) => return false,
                        None => return true,
                    }
                }
            };
            if let Ok(true) = tokio::time::timeout(LINGER, end).await {
                lease.park();
            }
        });
    }

    /// How it ended; asked after its end.
    pub(crate) fn verdict(&self) -> Verdict {
        let code = self.tenure.code();
        let said_so = self.scanner.as_ref().is_none_or(|scanner| {
            scanner.finished() && scanner.saw_done() && !scanner.failed() && !scanner.aborted()
        });
        Verdict {
            code,
            usage: self.usage(),
            whole: said_so && code.is_none() && self.state == State::Ended,
        }
    }

    fn usage(&self) -> Option<Usage> {
        self.scanner.as_ref().map_or_else(|| self.ending.usage(), Scanner::usage)
    }

    fn conclude(&mut self, report: Option<&mut Report>) {
        self.tenure.leave();
        let Some(report) = report else { return };
        report.usage = self.usage();
        match self.tenure.code() {
            Some(code) => report.failed(code, true),
            None => report.delivered(),
        }
    }
}
