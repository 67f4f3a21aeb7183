//! A thread that owns one connection and does one job after the other.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::{StoreError, Tx};

/// Jobs that may wait for one of the store's threads.
pub const QUEUE_MAX: usize = 256;

type Job = Box<dyn FnOnce(&Tx) + Send>;

/// The thread and the way to it. Dropped, it does what still waits and closes the connection.
pub(super) struct Worker {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(super) fn start(name: &str, tx: Tx) -> Result<Self, StoreError> {
        let (queue, jobs) = sync_channel::<Job>(QUEUE_MAX);
        let thread = spawn(name, move || work(&jobs, &tx))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Has a job done; refuses when too many wait already.
    pub(super) async fn run<T, E>(
        &self,
        job: impl FnOnce(&Tx) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |tx| {
            // Nobody listens when the caller has gone.
            let _ = tell.send(job(tx));
        });
        self.queue()?.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => StoreError::Gone,
        })?;
        told.await.unwrap_or_else(|_| Err(StoreError::Gone.into()))
    }

    /// Has a job done; waits while too many wait already.
    pub(super) fn run_blocking<T, E>(
        &self,
        job: impl FnOnce(&Tx) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        if self.is_here() {
            return Err(StoreError::defect("a job of the store waits for another").into());
        }
        let (tell, told) = sync_channel(1);
        let job: Job = Box::new(move |tx| {
            let _ = tell.send(job(tx));
        });
        self.queue()?.send(job).map_err(|_| StoreError::Gone)?;
        told.recv().unwrap_or_else(|_| Err(StoreError::Gone.into()))
    }

    fn queue(&self) -> Result<&SyncSender<Job>, StoreError> {
        self.queue.as_ref().ok_or(StoreError::Gone)
    }

    /// Whether the caller is this very thread.
    fn is_here(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| thread.thread().id() == std::thread::current().id())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.queue = None;
        let here = self.is_here();
        if let Some(thread) = self.thread.take()
            && !here
        {
            let _ = thread.join();
        }
    }
}

fn work(jobs: &Receiver<Job>, tx: &Tx) {
    for job in jobs {
        job(tx);
    }
}

pub(super) fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StoreError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|_| StoreError::defect("no thread can be started"))
}
