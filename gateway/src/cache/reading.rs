//! One request's reading of an answer that several read.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::flight::{End, Read, Seat};
use crate::body::Cut;
use crate::error::{ErrorKind, Rejection};
use crate::report::Report;

/// One request's reading of a flight's body.
pub(crate) struct Reading {
    seat: Seat,
    /// The ends of the answer's events are where the client can be told something.
    stream: bool,
    /// What was sent so far ends with an event.
    clean: bool,
    over: Option<Result<(), Cut>>,
}

impl Reading {
    pub(crate) const fn new(seat: Seat, stream: bool) -> Self {
        Self { seat, stream, clean: true, over: None }
    }

    pub(crate) const fn is_stream(&self) -> bool {
        self.stream
    }

    /// The next bytes for the client.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut report: Option<&mut Report>,
    ) -> Poll<Option<Result<Bytes, Cut>>> {
        if let Some(over) = self.over.take() {
            return Poll::Ready(over.err().map(Err));
        }
        match ready!(self.seat.poll_read(cx)) {
            Read::Bytes(bytes, end) => {
                self.clean = bytes.ends_with(b"\n\n")
                    || bytes.ends_with(b"\r\n\r\n")
                    || bytes.ends_with(b"\r\r");
                report.iter_mut().for_each(|report| report.heard(&bytes));
                if let (Some(end), Some(report)) = (end, report) {
                    conclude(report, end);
                }
                Poll::Ready(Some(Ok(bytes)))
            }
            Read::End(end) => {
                if let Some(report) = report {
                    conclude(report, end);
                }
                Poll::Ready(end.cut.then_some(Err(Cut)))
            }
            Read::Lagged => Poll::Ready(Some(self.lagged(report))),
        }
    }

    /// Too slow: told so, where that can be said cleanly.
    fn lagged(&mut self, report: Option<&mut Report>) -> Result<Bytes, Cut> {
        let message = "the answer was read too slowly";
        let told = Rejection::new(ErrorKind::ReadTooSlowly, message);
        if let Some(report) = report {
            let row = told.kind.row();
            report.failed(row.code, row.warn);
        }
        if self.stream && self.clean {
            self.over = Some(Ok(()));
            return Ok(told.event());
        }
        Err(Cut)
    }
}

fn conclude(report: &mut Report, end: End) {
    report.usage = end.usage;
    match end.code {
        Some(code) => report.failed(code, true),
        None => report.delivered(),
    }
}
