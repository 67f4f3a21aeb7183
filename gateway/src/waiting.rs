//! A stream whose head went out before its first event: keep-alive comments while the search for an answer goes on.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use adapters::Usage;
use bytes::Bytes;
use router::outcome::FailureKind;
use tokio::time::Interval;

use crate::cache::Reading;
use crate::dispatch::{Lost, Won, WonBody};
use crate::error::{ErrorKind, Rejection};
use crate::relay::Relay;
use crate::report::{Cached, Report};

const COMMENT: Bytes = Bytes::from_static(b": keep-alive\n\n");

pub(crate) type Search = Pin<Box<dyn Future<Output = Result<Won, Lost>> + Send>>;

/// The search, and the comments that tell the client that it goes on.
pub(crate) struct Waiting {
    search: Search,
    comments: Interval,
}

/// What the search came to.
pub(crate) enum Found {
    /// Another comment is due.
    Comment(Bytes),
    /// The answer goes on from here.
    Stream(Box<Relay>),
    /// The same, read with others.
    Shared(Box<Reading>),
    /// It was stored, and this is all of it.
    Stored(Bytes, Option<Usage>),
    /// The last event of this answer.
    Last(Bytes),
}

impl Waiting {
    /// The first comment comes at once: it carries the head out.
    pub(crate) fn new(search: Search, every: Duration) -> Self {
        let mut comments = tokio::time::interval(every.max(Duration::from_millis(1)));
        comments.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        Self { search, comments }
    }

    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        report: Option<&mut Report>,
    ) -> Poll<Found> {
        match self.search.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(settle(result, report)),
            Poll::Pending => self.comments.poll_tick(cx).map(|_| Found::Comment(COMMENT)),
        }
    }
}

fn settle(result: Result<Won, Lost>, report: Option<&mut Report>) -> Found {
    let (origin, outcome) = match result {
        Ok(Won { origin, body: WonBody::Stream(relay), .. }) => (origin, Ok(Found::Stream(relay))),
        Ok(Won { origin, body: WonBody::Shared(reading), .. }) if reading.is_stream() => {
            (origin, Ok(Found::Shared(reading)))
        }
        Ok(Won { origin, body: WonBody::Replay(bytes, usage), .. }) => {
            (origin, Ok(Found::Stored(bytes, usage)))
        }
        // The head has promised events; a plain answer cannot follow it.
        Ok(Won { origin, .. }) => {
            let message = "the backend answered a stream request with something else";
            (origin, Err(Rejection::new(ErrorKind::Upstream(FailureKind::BadResponse), message)))
        }
        Err(Lost { rejection, origin }) => (origin, Err(rejection)),
    };
    if let Some(report) = report {
        report.came_from(&origin);
        match &outcome {
            Ok(found) => {
                report.committed();
                if let Found::Stored(_, usage) = found {
                    report.usage = *usage;
                    report.cached = Some(Cached::Hit);
                }
            }
            Err(rejection) => {
                let row = rejection.kind.row();
                report.failed(row.code, row.warn);
            }
        }
    }
    match outcome {
        Ok(found) => found,
        Err(rejection) => Found::Last(rejection.event()),
    }
}
