//! What the API keeps running beside its requests: jobs, history, the follower of events, and the client for requests to
//! servers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use crate::api::StoreSource;
use crate::api::events::LISTENERS_MAX;
use crate::api::storage::Storage;
use crate::events::{self, Follower};
use crate::history::{self, Sampler};
use crate::jobs::Jobs;
use crate::live::Planes;
use crate::outbound::Outbound;
use crate::probing::Inventory;

/// Between two looks at whether the store has something new for those who listen.
const PULSE: Duration = Duration::from_millis(200);

/// The engines; their threads end with them.
pub(crate) struct Engines {
    pub(crate) outbound: Outbound,
    pub(crate) inventory: Inventory,
    pub(crate) jobs: Jobs,
    /// Places of live listeners.
    pub(crate) listeners: Arc<Semaphore>,
    pulse: watch::Sender<u64>,
    ended: watch::Sender<bool>,
    _follower: Follower,
    _sampler: Sampler,
}

impl Engines {
    /// Starts the threads.
    ///
    /// # Errors
    /// When a thread cannot be made.
    pub(crate) fn start(planes: &Arc<dyn Planes>, store: &StoreSource) -> io::Result<Self> {
        Ok(Self {
            outbound: Outbound::default(),
            inventory: Inventory::default(),
            jobs: Jobs::new(Arc::clone(store)),
            listeners: Arc::new(Semaphore::new(LISTENERS_MAX)),
            pulse: watch::Sender::new(0),
            ended: watch::Sender::new(false),
            _follower: Follower::start(Arc::clone(planes), Arc::clone(store), events::INTERVAL)?,
            _sampler: Sampler::start(Arc::clone(planes), Arc::clone(store), history::INTERVAL)?,
        })
    }

    /// Changes whenever something was committed to the store.
    pub(crate) fn pulse(&self) -> watch::Receiver<u64> {
        self.pulse.subscribe()
    }

    /// Becomes true when the API ends: streams do not end by themselves.
    pub(crate) fn ended(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }

    /// The API ends.
    pub(crate) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Feels the pulse as long as its future is polled; nobody is asked while nobody listens.
    pub(crate) async fn beat(&self, store: &Storage) {
        let mut last = None;
        let mut ticks = tokio::time::interval(PULSE);
        loop {
            ticks.tick().await;
            if self.pulse.receiver_count() == 0 {
                continue;
            }
            if let Ok(store) = store.get()
                && let Ok(version) = store.data_version().await
                && last.replace(version) != Some(version)
            {
                self.pulse.send_replace(version);
            }
        }
    }
}
