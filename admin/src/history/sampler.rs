//! Reads every data plane at regular times, and writes what was measured into the store; a thread of its own.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Meter, Reading};
use crate::api::StoreSource;
use crate::live::{PlaneRef, Planes};
use crate::store::{Sample, StoreError};

/// Between two readings.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// Moments that wait for a store that cannot be written; older ones become a gap.
pub const BACKLOG_MAX: usize = 30;
/// Between two roll-ups.
const ROLL_UP_EVERY: Duration = Duration::from_secs(60);
/// Roll-ups in a row, where there is much to do.
const ROLL_UPS_MAX: usize = 20;

/// The running thread; ends when dropped.
#[derive(Debug)]
pub struct Sampler {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Begins to read `planes` every `interval`.
    ///
    /// # Errors
    /// When its thread cannot be made.
    pub fn start(
        planes: Arc<dyn Planes>,
        store: StoreSource,
        interval: Duration,
    ) -> io::Result<Self> {
        let (end, ended) = channel();
        let run = move || Work::new(planes, store).run(interval, &ended);
        let thread = thread::Builder::new().name("history".to_owned()).spawn(run)?;
        Ok(Self { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Work {
    planes: Arc<dyn Planes>,
    store: StoreSource,
    meter: Meter,
    backlog: VecDeque<Vec<Sample>>,
    /// Said once, not every ten seconds.
    failing: bool,
    rolled: Option<Instant>,
}

impl Work {
    fn new(planes: Arc<dyn Planes>, store: StoreSource) -> Self {
        let (meter, backlog) = (Meter::default(), VecDeque::new());
        Self { planes, store, meter, backlog, failing: false, rolled: None }
    }

    fn run(mut self, interval: Duration, ended: &Receiver<()>) {
        loop {
            let begun = Instant::now();
            self.sample();
            let wait = interval.saturating_sub(begun.elapsed());
            if ended.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    fn sample(&mut self) {
        let planes = self.planes.all();
        let readings: Vec<_> = planes.iter().filter_map(reading).collect();
        let samples = self.meter.measure(&readings, unix());
        if !samples.is_empty() {
            self.backlog.push_back(samples);
        }
        while self.backlog.len() > BACKLOG_MAX {
            self.backlog.pop_front();
        }
        let kept = self.keep();
        if let Err(error) = &kept
            && !self.failing
        {
            tracing::warn!(%error, "history is not written");
        }
        self.failing = kept.is_err();
    }

    fn keep(&mut self) -> Result<(), StoreError> {
        while let Some(samples) = self.backlog.front() {
            let samples = samples.clone();
            (self.store)()?.write_blocking(move |tx| tx.add_samples(&samples))?;
            self.backlog.pop_front();
        }
        if self.rolled.is_none_or(|at| at.elapsed() >= ROLL_UP_EVERY) {
            for _ in 0..ROLL_UPS_MAX {
                if !(self.store)()?.write_blocking(|tx| tx.roll_up(unix()))? {
                    break;
                }
            }
            self.rolled = Some(Instant::now());
        }
        Ok(())
    }
}

fn reading(plane: &PlaneRef) -> Option<(String, Reading)> {
    if plane.unreachable.is_some() {
        return None;
    }
    let reading = Reading {
        at: Instant::now(),
        backends: plane.inspect.backends(),
        totals: plane.inspect.totals(),
        queues: plane.inspect.queues(),
    };
    Some((plane.name.clone(), reading))
}

fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
