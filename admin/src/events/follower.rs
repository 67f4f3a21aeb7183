//! Follows the feeds of all data planes; a thread of its own.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use router::planes::Event;

use super::words;
use crate::api::StoreSource;
use crate::live::{PlaneRef, Planes};
use crate::store::{StoreError, Tx};

/// Between two looks at the feeds.
pub const INTERVAL: Duration = Duration::from_millis(250);
/// Most events that are taken from a plane at once.
pub const EVENTS_AT_ONCE: usize = 256;
/// Most planes whose place in the feed is remembered; those that were heard of longest ago are forgotten.
pub const FEEDS_MAX: usize = 64;
/// Where the places are remembered.
const PLACES: &str = "feeds";

/// Up to where a plane's feed was written down: the latest time in microseconds, and the last number. An event is new by either:
/// a process that took the number of one that ended counts from 1 again, and later; a clock that was set back does not set
/// numbers back.
type Place = (u64, u64);

/// The running thread; ends when dropped.
#[derive(Debug)]
pub struct Follower {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Begins to follow `planes`.
    ///
    /// # Errors
    /// When its thread cannot be made.
    pub fn start(
        planes: Arc<dyn Planes>,
        store: StoreSource,
        interval: Duration,
    ) -> io::Result<Self> {
        let (end, ended) = channel();
        let work = Work { planes, store, read: BTreeMap::new(), failing: false };
        let run = move || work.run(interval, &ended);
        let thread = thread::Builder::new().name("events".to_owned()).spawn(run)?;
        Ok(Self { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Follower {
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
    /// The last number that was read of each plane.
    read: BTreeMap<String, u64>,
    /// Said once, not at every look.
    failing: bool,
}

impl Work {
    fn run(mut self, interval: Duration, ended: &Receiver<()>) {
        loop {
            let done = self.look();
            if let Err(error) = &done
                && !self.failing
            {
                tracing::warn!(%error, "events are not written down");
            }
            self.failing = done.is_err();
            if ended.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    fn look(&mut self) -> Result<(), StoreError> {
        let planes = self.planes.all();
        self.read.retain(|name, _| planes.iter().any(|plane| plane.name == *name));
        for plane in planes.iter().filter(|plane| plane.unreachable.is_none()) {
            self.take(plane)?;
        }
        Ok(())
    }

    fn take(&mut self, plane: &PlaneRef) -> Result<(), StoreError> {
        let after = self.read.get(&plane.name).copied().unwrap_or(0);
        let events = plane.feed.events(after, EVENTS_AT_ONCE);
        let Some(last) = events.last().map(|event| event.number) else { return Ok(()) };
        let name = plane.name.clone();
        (self.store)()?.write_blocking(move |tx| write(tx, &name, &events))?;
        self.read.insert(plane.name.clone(), last);
        Ok(())
    }
}

/// Adds the events that nobody has added yet.
fn write(tx: &Tx, plane: &str, events: &[Event]) -> Result<(), StoreError> {
    let known = tx.meta(PLACES)?;
    let mut places: BTreeMap<String, Place> =
        known.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let mut place = places.get(plane).copied().unwrap_or_default();
    for event in events {
        let micros = since_epoch(event.at).as_micros();
        let here = (u64::try_from(micros).unwrap_or(u64::MAX), event.number);
        if here.0 <= place.0 && here.1 <= place.1 {
            continue;
        }
        let said = words(plane, event);
        tx.add_event(here.0 / 1000, said.kind, &said.subject, &said.detail)?;
        place = (here.0.max(place.0), here.1);
    }
    places.insert(plane.to_owned(), place);
    while places.len() > FEEDS_MAX {
        let oldest = places.iter().min_by_key(|(_, place)| **place).map(|(name, _)| name.clone());
        oldest.and_then(|name| places.remove(&name));
    }
    tx.set_meta(PLACES, &serde_json::to_string(&places).unwrap_or_default())
}

fn since_epoch(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests;
