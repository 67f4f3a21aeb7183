//! An open-loop load generator: requests are due at a fixed rate, whatever the server does.

mod client;
mod histogram;
mod judge;
mod report;

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::Instant;

use crate::recorder::lock;
use client::{Answer, Broken, Client};
pub use histogram::{Histogram, Percentiles};
use judge::Judge;
pub use judge::Outcome;
use report::Sample;
pub use report::{Counts, Report, Second};

/// Highest rate, requests/s.
pub const MAX_RATE: f64 = 50_000.0;
/// Longest run.
pub const MAX_DURATION: Duration = Duration::from_secs(3600);
/// Most gaps between events that are kept of one answer.
const MAX_GAPS: usize = 4096;
/// Longest plain answer, bytes.
const MAX_DOCUMENT: usize = 64 * 1024 * 1024;

/// A load.
#[derive(Debug, Clone)]
pub struct Load {
    /// Base URL without `/v1`; its host must be loopback.
    pub url: String,
    /// Key sent as bearer token.
    pub key: Option<String>,
    /// Model asked for.
    pub model: String,
    /// Text of the one user message.
    pub prompt: String,
    /// Requests/s, at most [`MAX_RATE`].
    pub rate: f64,
    /// How long requests are due, at most [`MAX_DURATION`].
    pub duration: Duration,
    /// At most so many requests; unset: as the rate and the duration give.
    pub count: Option<u64>,
    /// Share of streams among the requests, 0 to 1.
    pub streams: f64,
    /// Words that a whole answer has; sent as `max_tokens` too.
    pub words: usize,
    /// More members for the request body: JSON members without braces.
    pub extra: String,
    /// Each request has a `seed` of its own, counted from here and at most [`SEEDS`], so that no two are the same.
    pub seeds: Option<u64>,
    /// More request headers.
    pub headers: Vec<(String, String)>,
    /// Time limit of one request, from when it was due.
    pub timeout: Duration,
    /// Most requests in flight; more are counted as shed.
    pub max_in_flight: usize,
    /// Whether connections are used again.
    pub keep_alive: bool,
    /// Leave each stream after so many events.
    pub leave_after: Option<usize>,
    /// Response header whose values are counted.
    pub count_header: String,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            url: String::new(),
            key: None,
            model: "tiny".to_owned(),
            prompt: "Hello".to_owned(),
            rate: 10.0,
            duration: Duration::from_secs(10),
            count: None,
            streams: 1.0,
            words: 20,
            extra: String::new(),
            seeds: None,
            headers: Vec::new(),
            timeout: Duration::from_secs(60),
            max_in_flight: 10_000,
            keep_alive: true,
            leave_after: None,
            count_header: "x-forebay-backend".to_owned(),
        }
    }
}

/// How many seeds there are.
pub const SEEDS: u64 = 1_000_000_000;

/// Why a load cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The URL is not `http://host:port`.
    #[error("not an http URL with host and port: {0}")]
    Url(String),
    /// The host is not loopback.
    #[error("refusing to load {0}: only loopback targets are allowed")]
    NotLoopback(String),
    /// Rate or duration is out of bounds.
    #[error("rate must be above 0 and at most {MAX_RATE}/s, duration at most {MAX_DURATION:?}")]
    Bounds,
    /// The thread could not be started.
    #[error("cannot start the generator: {0}")]
    Start(#[from] std::io::Error),
}

impl Load {
    fn target(&self) -> Result<(SocketAddr, String), LoadError> {
        let bad = || LoadError::Url(self.url.clone());
        let rest = self.url.strip_prefix("http://").ok_or_else(bad)?;
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = authority.rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().map_err(|_| bad())?;
        let ip = if host == "localhost" {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            bare.parse().map_err(|_| LoadError::NotLoopback(host.to_owned()))?
        };
        if !ip.is_loopback() {
            return Err(LoadError::NotLoopback(host.to_owned()));
        }
        let prefix = prefix.trim_end_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        Ok((SocketAddr::new(ip, port), format!("{slash}{prefix}/v1/chat/completions")))
    }

    fn request(&self, addr: SocketAddr, path: &str, stream: bool) -> Vec<u8> {
        let (model, prompt) =
            (crate::dialect::quote(&self.model), crate::dialect::quote(&self.prompt));
        let comma = if self.extra.is_empty() { "" } else { "," };
        let seed = self.seeds.map_or_else(String::new, |_| format!(",\"seed\":{SEEDS}"));
        let body = format!(
            r#"{{"model":{model},"messages":[{{"role":"user","content":{prompt}}}],"max_tokens":{},"stream":{stream}{comma}{}{seed}}}"#,
            self.words, self.extra
        );
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nhost: {addr}\r\ncontent-type: application/json\r\naccept: */*\r\ncontent-length: {}\r\n",
            body.len()
        );
        if let Some(key) = &self.key {
            head.push_str(&format!("authorization: Bearer {key}\r\n"));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        (head + "\r\n" + &body).into_bytes()
    }

    /// Whether the `i`-th request is a stream: the share is held at every length of the run.
    fn is_stream(&self, i: u64) -> bool {
        let before = (i as f64 * self.streams).floor();
        let after = ((i + 1) as f64 * self.streams).floor();
        after > before
    }
}

/// A load that runs on a thread of its own.
#[derive(Debug)]
pub struct Running {
    report: Arc<Mutex<Report>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts a load.
    ///
    /// # Errors
    /// When the target is not loopback, the load is out of bounds or no thread can be had.
    pub fn start(load: Load) -> Result<Self, LoadError> {
        let (addr, path) = load.target()?;
        let sane = load.rate > 0.0 && load.rate <= MAX_RATE && load.duration <= MAX_DURATION;
        if !sane {
            return Err(LoadError::Bounds);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (report, stop) = (Arc::<Mutex<Report>>::default(), Arc::<AtomicBool>::default());
        let run = Run {
            client: Client::new(addr, load.keep_alive),
            stream: load.request(addr, &path, true),
            plain: load.request(addr, &path, false),
            load,
            report: Arc::clone(&report),
            stop: Arc::clone(&stop),
            in_flight: AtomicUsize::new(0),
        };
        let thread = std::thread::Builder::new()
            .name("loadgen".to_owned())
            .spawn(move || runtime.block_on(drive(Arc::new(run))))?;
        Ok(Self { report, stop, thread: Some(thread) })
    }

    /// What has been seen so far.
    #[must_use]
    pub fn report(&self) -> Report {
        lock(&self.report).clone()
    }

    /// Sends no more requests; those in flight are still awaited.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the end of the run.
    #[must_use]
    pub fn join(mut self) -> Report {
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; what was counted until then is still true.
            let _ = thread.join();
        }
        self.report()
    }
}

/// Runs a load to its end.
///
/// # Errors
/// As [`Running::start`].
pub fn run(load: Load) -> Result<Report, LoadError> {
    Ok(Running::start(load)?.join())
}

struct Run {
    load: Load,
    client: Client,
    stream: Vec<u8>,
    plain: Vec<u8>,
    report: Arc<Mutex<Report>>,
    stop: Arc<AtomicBool>,
    in_flight: AtomicUsize,
}

async fn drive(run: Arc<Run>) {
    let start = Instant::now();
    let planned = (run.load.duration.as_secs_f64() * run.load.rate) as u64;
    let count = run.load.count.map_or(planned, |c| c.min(planned));
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..count {
        let due = Duration::from_secs_f64(i as f64 / run.load.rate);
        tokio::time::sleep_until(start + due).await;
        while tasks.try_join_next().is_some() {}
        if run.stop.load(Ordering::Relaxed) {
            break;
        }
        if run.in_flight.load(Ordering::Relaxed) >= run.load.max_in_flight {
            lock(&run.report).shed += 1;
            continue;
        }
        run.in_flight.fetch_add(1, Ordering::Relaxed);
        lock(&run.report).offer(due);
        let run = Arc::clone(&run);
        tasks.spawn(async move {
            let sample = run.one(i, start, due).await;
            lock(&run.report).add(sample);
            run.in_flight.fetch_sub(1, Ordering::Relaxed);
        });
    }
    while tasks.join_next().await.is_some() {}
    lock(&run.report).elapsed = start.elapsed();
}

impl Run {
    async fn one(&self, i: u64, start: Instant, due: Duration) -> Sample {
        let mut sample = Sample {
            due,
            outcome: Outcome::Timeout,
            first_event: None,
            total: Duration::ZERO,
            gaps: Vec::new(),
            label: None,
        };
        let deadline = start + due + self.load.timeout;
        if let Ok(outcome) =
            tokio::time::timeout_at(deadline, self.exchange(i, start + due, &mut sample)).await
        {
            sample.outcome = outcome;
        }
        sample.total = (start + due).elapsed();
        sample
    }

    /// The bytes of the `i`-th request.
    fn request(&self, i: u64, stream: bool) -> Cow<'_, [u8]> {
        let request = if stream { &self.stream } else { &self.plain };
        let Some(first) = self.load.seeds else { return Cow::Borrowed(request) };
        // The seed is the last member, and all seeds have as many digits.
        let seed = (SEEDS + (first + i) % SEEDS).to_string();
        let mut request = request.clone();
        let end = request.len() - 1;
        request[end - seed.len()..end].copy_from_slice(seed.as_bytes());
        Cow::Owned(request)
    }

    async fn exchange(&self, i: u64, due: Instant, sample: &mut Sample) -> Outcome {
        let stream = self.load.is_stream(i);
        let Ok(mut answer) = self.client.send(&self.request(i, stream)).await else {
            return Outcome::Transport;
        };
        sample.label = answer.header(&self.load.count_header).map(str::to_owned);
        if answer.status != 200 {
            let status = answer.status;
            while let Ok(Some(_)) = answer.piece().await {}
            self.client.give_back(answer);
            return Outcome::Refused(status);
        }
        let mut judge = Judge::default();
        let read = if stream {
            self.stream(&mut answer, due, &mut judge, sample).await
        } else {
            document(&mut answer, &mut judge).await
        };
        match read {
            Ok(true) => return Outcome::Left,
            Ok(false) => self.client.give_back(answer),
            Err(Broken) => {}
        }
        judge.outcome(self.load.words, read.is_ok())
    }

    /// Reads a stream; `true` when it left before the end.
    async fn stream(
        &self,
        answer: &mut Answer,
        due: Instant,
        judge: &mut Judge,
        sample: &mut Sample,
    ) -> Result<bool, Broken> {
        let mut last = None;
        while let Some(piece) = answer.piece().await? {
            if !judge.stream(&piece) {
                continue;
            }
            let now = Instant::now();
            match last.replace(now) {
                None => sample.first_event = Some(now - due),
                Some(before) if sample.gaps.len() < MAX_GAPS => sample.gaps.push(now - before),
                Some(_) => {}
            }
            if self.load.leave_after.is_some_and(|n| judge.events >= n) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

async fn document(answer: &mut Answer, judge: &mut Judge) -> Result<bool, Broken> {
    let mut body = Vec::new();
    while let Some(piece) = answer.piece().await? {
        body.extend_from_slice(&piece);
        if body.len() > MAX_DOCUMENT {
            return Err(Broken);
        }
    }
    judge.document(&body);
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_loaded() {
        let target = |url: &str| Load { url: url.to_owned(), ..Load::default() }.target();
        assert_eq!(target("http://127.0.0.1:80").unwrap().1, "/v1/chat/completions");
        assert_eq!(target("http://[::1]:80/a/").unwrap().1, "/a/v1/chat/completions");
        assert!(target("http://localhost:8080").is_ok());
        for url in ["http://10.0.0.1:80", "http://example.com:80", "http://0.0.0.0:80"] {
            assert!(matches!(target(url), Err(LoadError::NotLoopback(_))), "{url}");
        }
        assert!(matches!(target("https://127.0.0.1:80"), Err(LoadError::Url(_))));
    }

    #[test]
    fn the_share_of_streams_is_held() {
        let load = Load { streams: 0.25, ..Load::default() };
        assert_eq!((0..1000).filter(|&i| load.is_stream(i)).count(), 250);
        let load = Load { streams: 1.0, ..Load::default() };
        assert!((0..10).all(|i| load.is_stream(i)));
    }
}
