//! One accepted connection from its first byte to its close.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpStream;

use crate::ask::Route;
use crate::http::{Head, Link, ReadError};
use crate::recorder::{Recorded, lock};
use crate::script::{At, How, Script};
use crate::shared::Shared;
use crate::writer::{End, Stop};

/// One request and what is needed to answer it.
pub(crate) struct Exchange<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) link: &'a mut Link,
    pub(crate) head: &'a Head,
    pub(crate) script: Arc<Script>,
    pub(crate) connection: u64,
    pub(crate) sequence: u64,
}

/// Serves a connection until it is closed or all are killed.
pub(crate) async fn serve(stream: TcpStream, shared: Arc<Shared>, number: u64) {
    // Only a socket that is closed already refuses this; the next read says so.
    let _ = stream.set_nodelay(true);
    let mut killed = shared.kill.subscribe();
    let _open = Open::new(&shared);
    let mut link = Link::new(stream, shared.frozen.subscribe(), shared.recorder.bytes_out());
    let end = tokio::select! {
        biased;
        _ = killed.changed() => End::Reset,
        end = exchanges(&mut link, &shared, number) => end,
    };
    if end == End::Reset {
        let _ = link.stream.set_zero_linger();
    }
}

async fn exchanges(link: &mut Link, shared: &Arc<Shared>, number: u64) -> End {
    if let Some(script) = shared.take_accept_script() {
        return broken_accept(link, shared, &script).await;
    }
    let mut sequence = 0;
    loop {
        let idle = lock(&shared.vitals).idle_ms.filter(|_| sequence > 0);
        let first = link.wait_first();
        let came = match idle {
            None => first.await.is_ok(),
            Some(ms) => {
                matches!(tokio::time::timeout(Duration::from_millis(ms), first).await, Ok(Ok(())))
            }
        };
        if !came {
            // A frozen process closes nothing either.
            link.thaw().await;
            return End::Close;
        }
        sequence += 1;
        match exchange(link, shared, number, sequence).await {
            End::Keep => {}
            end => return end,
        }
    }
}

async fn broken_accept(link: &mut Link, shared: &Shared, script: &Script) -> End {
    match script.fault.as_ref().map(|f| &f.how) {
        Some(How::Hang | How::Comments(_)) => {
            link.hang().await;
            End::Close
        }
        Some(How::Die) => {
            shared.die();
            End::Reset
        }
        Some(How::Reset) => End::Reset,
        _ => End::Close,
    }
}

/// Reads one request and answers it.
async fn exchange(link: &mut Link, shared: &Arc<Shared>, connection: u64, sequence: u64) -> End {
    let head = match link.head().await {
        Ok(head) => head,
        Err(error) => return unreadable(link, shared, &error).await,
    };
    shared.recorder.count(|s| s.requests += 1);
    shared.recorder.begin(Recorded {
        connection,
        sequence,
        at: Instant::now(),
        raw_head: head.raw.clone(),
        method: head.method.clone(),
        target: head.target.clone(),
        headers: head.headers.clone(),
        body: Bytes::new(),
        complete: false,
    });
    let route = Route::of(&head.method, head.path());
    let Some(route) = route else {
        let mut exchange =
            Exchange { shared, link, head: &head, script: Arc::default(), connection, sequence };
        let answered = exchange.other().await;
        return settle(answered, link, shared).await;
    };
    let script = shared.take_script();
    let mut tally = Tally::new(shared);
    let mut exchange = Exchange { shared, link, head: &head, script, connection, sequence };
    let answered = exchange.inference(route).await;
    tally.outcome = match &answered {
        Ok(_) => Outcome::Finished,
        Err(Failed::Stop(Stop::Broken(_))) => Outcome::Broken,
        Err(_) => Outcome::Cancelled,
    };
    let dies = exchange.script.fault.as_ref().is_some_and(|f| f.how == How::Die);
    if dies && tally.outcome == Outcome::Broken {
        shared.die();
    }
    drop(tally);
    settle(answered, link, shared).await
}

/// Why a request got no whole answer.
pub(crate) enum Failed {
    Read(ReadError),
    Stop(Stop),
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<ReadError> for Failed {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

async fn settle(answered: Result<End, Failed>, link: &mut Link, shared: &Shared) -> End {
    match answered {
        Ok(end) | Err(Failed::Stop(Stop::Broken(end))) => end,
        Err(Failed::Stop(Stop::Gone)) => End::Close,
        Err(Failed::Read(error)) => unreadable(link, shared, &error).await,
    }
}

async fn unreadable(link: &mut Link, shared: &Shared, error: &ReadError) -> End {
    if let ReadError::Malformed(what) = error {
        shared.recorder.count(|s| s.malformed += 1);
        let answer = format!(
            "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{what}",
            what.len()
        );
        // Whether it is still there to read this does not matter.
        let _ = link.send(answer.as_bytes()).await;
    }
    End::Close
}

impl Exchange<'_> {
    pub(crate) async fn read_body(&mut self) -> Result<Bytes, Failed> {
        let expects =
            self.head.header("expect").is_some_and(|e| e.eq_ignore_ascii_case("100-continue"));
        if expects {
            self.link.send(b"HTTP/1.1 100 Continue\r\n\r\n").await.map_err(Stop::from)?;
        }
        let body = self.link.body(self.head).await?;
        self.shared.recorder.complete(self.connection, self.sequence, body.clone());
        Ok(body)
    }

    async fn inference(&mut self, route: Route) -> Result<End, Failed> {
        self.broken_at(At::RequestHead).await?;
        let body = self.read_body().await?;
        self.broken_at(At::Request).await?;
        if let Some(end) = self.foreign().await? {
            return Ok(end);
        }
        if route != Route::Tokenize
            && let Some(end) = self.unauthorized().await?
        {
            return Ok(end);
        }
        Ok(self.infer(route, &body).await?)
    }
}

/// Counts a connection while it is open.
struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.recorder.count(|s| {
            s.connections_accepted += 1;
            s.connections_open += 1;
        });
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.recorder.count(|s| s.connections_open -= 1);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Finished,
    Cancelled,
    Broken,
}

/// Counts an inference request while it is in flight; dropped early, it was broken from outside.
struct Tally<'a> {
    shared: &'a Shared,
    outcome: Outcome,
}

impl<'a> Tally<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.recorder.count(|s| {
            s.inference_requests += 1;
            s.in_flight += 1;
        });
        Self { shared, outcome: Outcome::Broken }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        let outcome = self.outcome;
        self.shared.recorder.count(|s| {
            s.in_flight -= 1;
            match outcome {
                Outcome::Finished => s.finished += 1,
                Outcome::Cancelled => s.cancelled += 1,
                Outcome::Broken => s.broken += 1,
            }
        });
    }
}
