//! Work that outlives the request that asked for it: bounded, with progress, to be looked at and cancelled. The store
//! remembers how each one ended; how far one is now is known here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};

use crate::api::StoreSource;
use crate::store::{JobState, StoreError, StoredJob, Tx, new_id};

/// Most jobs that run at once; others wait for their turn.
pub const RUNNING_MAX: usize = 4;
/// Most jobs that run or wait.
pub const UNDER_WAY_MAX: usize = 32;
/// Longest life of a job, its wait included.
pub const TIME_MAX: Duration = Duration::from_secs(15 * 60);

/// What a job came to: what it found, or why it failed.
pub type Outcome = Result<Value, String>;

/// Why a job was not begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// As many as may be are under way.
    #[error("{UNDER_WAY_MAX} jobs are under way; try again later")]
    Full,
    /// It could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a job was not cancelled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CancelError {
    /// There is none of this id.
    #[error("there is no such job")]
    Unknown,
    /// It has ended.
    #[error("the job has ended")]
    Ended,
    /// The store does not tell.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The jobs of this process. Clones share them.
#[derive(Clone)]
pub struct Jobs {
    inner: Arc<Inner>,
}

struct Inner {
    store: StoreSource,
    under_way: Mutex<HashMap<String, UnderWay>>,
    places: Semaphore,
}

struct UnderWay {
    job: StoredJob,
    cancel: Arc<Notify>,
}

impl UnderWay {
    fn end(&self) -> Arc<Notify> {
        Arc::clone(&self.cancel)
    }
}

const fn ended(job: &StoredJob) -> bool {
    !matches!(job.state, JobState::Queued | JobState::Running)
}

/// How a job tells how far it is.
#[derive(Clone)]
pub struct Progress {
    inner: Arc<Inner>,
    id: String,
}

impl Progress {
    /// So many steps are done, of so many.
    pub fn set(&self, done: u64, total: u64) {
        self.inner.change(&self.id, |job| job.progress = (done, total));
    }

    /// One more step is done.
    pub fn step(&self) {
        self.inner.change(&self.id, |job| job.progress.0 = job.progress.0.saturating_add(1));
    }

    /// What was found so far.
    pub fn tell(&self, detail: Value) {
        self.inner.change(&self.id, |job| job.detail = detail);
    }
}

impl Jobs {
    /// Jobs that are remembered in this store.
    #[must_use]
    pub fn new(store: StoreSource) -> Self {
        let places = Semaphore::new(RUNNING_MAX);
        Self { inner: Arc::new(Inner { store, under_way: Mutex::default(), places }) }
    }

    /// Begins a job of `total` steps, on the current runtime.
    ///
    /// # Errors
    /// [`StartError`]; then nothing runs.
    pub async fn start<W, F>(
        &self,
        kind: &str,
        actor: &str,
        total: u64,
        work: W,
    ) -> Result<StoredJob, StartError>
    where
        W: FnOnce(Progress) -> F + Send + 'static,
        F: Future<Output = Outcome> + Send + 'static,
    {
        let now = unix_ms();
        let job = StoredJob {
            id: new_id("job", &mut fastrand::Rng::new()),
            kind: kind.to_owned(),
            state: JobState::Queued,
            progress: (0, total),
            detail: Value::Null,
            created_at: now,
            updated_at: now,
            actor: actor.to_owned(),
        };
        let cancel = Arc::new(Notify::new());
        self.inner.admit(UnderWay { job: job.clone(), cancel: Arc::clone(&cancel) })?;
        let row = job.clone();
        if let Err(error) = self.inner.write(row).await {
            self.inner.lock().remove(&job.id);
            return Err(error.into());
        }
        let progress = Progress { inner: Arc::clone(&self.inner), id: job.id.clone() };
        tokio::spawn(run(Arc::clone(&self.inner), job.id.clone(), cancel, work(progress)));
        Ok(job)
    }

    /// A job, with its progress now where it is under way.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub async fn get(&self, id: &str) -> Result<Option<StoredJob>, StoreError> {
        if let Some(live) = self.inner.lock().get(id) {
            return Ok(Some(live.job.clone()));
        }
        let id = id.to_owned();
        self.inner.read(move |tx| tx.job(&id)).await
    }

    /// Jobs, newest first, older than the job `before`.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub async fn list(
        &self,
        limit: usize,
        before: Option<String>,
    ) -> Result<Vec<StoredJob>, StoreError> {
        let mut jobs: Vec<StoredJob> =
            self.inner.read(move |tx| tx.jobs(limit, before.as_deref())).await?;
        let live = self.inner.lock();
        for job in &mut jobs {
            if let Some(live) = live.get(&job.id) {
                *job = live.job.clone();
            }
        }
        Ok(jobs)
    }

    /// Ends a job where it stands; it counts as failed.
    ///
    /// # Errors
    /// [`CancelError`].
    pub async fn cancel(&self, id: &str) -> Result<(), CancelError> {
        let cancel = self.inner.lock().get(id).filter(|live| !ended(&live.job)).map(UnderWay::end);
        match cancel {
            Some(cancel) => {
                cancel.notify_one();
                Ok(())
            }
            None if self.get(id).await?.is_some() => Err(CancelError::Ended),
            None => Err(CancelError::Unknown),
        }
    }
}

async fn run(
    inner: Arc<Inner>,
    id: String,
    cancel: Arc<Notify>,
    work: impl Future<Output = Outcome> + Send + 'static,
) {
    let begun = async {
        // The semaphore is never closed.
        let _place = inner.places.acquire().await;
        inner.change(&id, |job| job.state = JobState::Running);
        inner.save(&id).await;
        // A task of its own: a panic ends the job, not its book-keeping.
        let mut work = AbortOnDrop(tokio::spawn(work));
        (&mut work.0).await.unwrap_or_else(|_| Err("a defect; the log has more".to_owned()))
    };
    let outcome = tokio::select! {
        () = cancel.notified() => Err("cancelled".to_owned()),
        outcome = tokio::time::timeout(TIME_MAX, begun) => {
            outcome.unwrap_or_else(|_| Err(format!("not done within {TIME_MAX:?}")))
        }
    };
    inner.change(&id, |job| match outcome {
        Ok(detail) => {
            job.state = JobState::Done;
            job.progress.0 = job.progress.1;
            job.detail = detail;
        }
        Err(error) => {
            job.state = JobState::Failed;
            let found = std::mem::take(&mut job.detail);
            job.detail = json!({ "error": error, "found": found });
        }
    });
    inner.save(&id).await;
    inner.lock().remove(&id);
}

struct AbortOnDrop(tokio::task::JoinHandle<Outcome>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, job: UnderWay) -> Result<(), StartError> {
        let mut under_way = self.lock();
        if under_way.len() >= UNDER_WAY_MAX {
            return Err(StartError::Full);
        }
        under_way.insert(job.job.id.clone(), job);
        Ok(())
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut StoredJob)) {
        if let Some(live) = self.lock().get_mut(id) {
            change(&mut live.job);
            live.job.updated_at = unix_ms();
        }
    }

    async fn write(&self, job: StoredJob) -> Result<(), StoreError> {
        (self.store)()?.write(move |tx| tx.put_job(&job)).await
    }

    async fn read<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Tx) -> Result<T, StoreError> + Send + 'static,
    {
        (self.store)()?.read(job).await
    }

    /// Writes a job down. One that cannot be is still seen as long as it runs; afterwards the store says that it was
    /// interrupted.
    async fn save(&self, id: &str) {
        let Some(job) = self.lock().get(id).map(|live| live.job.clone()) else { return };
        if let Err(error) = self.write(job).await {
            tracing::warn!(job = id, %error, "a job could not be written down");
        }
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::store::{Role, Store};

    fn jobs(dir: &Path) -> Jobs {
        let store = Store::open(&dir.join("jobs.db"), Role::Writer).unwrap();
        Jobs::new(Arc::new(move || Ok(store.clone())))
    }

    async fn end_of(jobs: &Jobs, id: &str) -> StoredJob {
        loop {
            let job = jobs.get(id).await.unwrap().unwrap();
            if ended(&job) {
                return job;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_job_tells_how_far_it_is_and_what_it_found() {
        let dir = tempfile::tempdir().unwrap();
        let jobs = jobs(dir.path());
        let gate = Arc::new(Notify::new());
        let wait = Arc::clone(&gate);
        let begun = jobs.start("look", "someone", 2, move |progress| async move {
            progress.step();
            wait.notified().await;
            Ok(json!(["found"]))
        });
        let id = begun.await.unwrap().id;
        while jobs.get(&id).await.unwrap().unwrap().progress != (1, 2) {
            tokio::task::yield_now().await;
        }
        assert_eq!(jobs.list(10, None).await.unwrap()[0].state, JobState::Running);
        gate.notify_one();
        let job = end_of(&jobs, &id).await;
        assert_eq!((job.state, job.progress), (JobState::Done, (2, 2)));
        assert_eq!(job.detail, json!(["found"]));
        assert_eq!(jobs.cancel(&id).await, Err(CancelError::Ended));
        assert_eq!(jobs.cancel("nobody").await, Err(CancelError::Unknown));
    }

    #[tokio::test]
    async fn a_job_can_be_cancelled_and_may_panic() {
        let dir = tempfile::tempdir().unwrap();
        let jobs = jobs(dir.path());
        let stuck = jobs.start("stuck", "a", 1, |progress| async move {
            progress.tell(json!({"half": 1}));
            std::future::pending().await
        });
        let id = stuck.await.unwrap().id;
        while jobs.get(&id).await.unwrap().unwrap().detail.is_null() {
            tokio::task::yield_now().await;
        }
        jobs.cancel(&id).await.unwrap();
        let job = end_of(&jobs, &id).await;
        assert_eq!(job.state, JobState::Failed);
        assert_eq!(job.detail, json!({"error": "cancelled", "found": {"half": 1}}));
        let broken = jobs.start("broken", "a", 1, |_| async { panic!("a defect") }).await.unwrap();
        assert_eq!(end_of(&jobs, &broken.id).await.state, JobState::Failed);
    }

    #[tokio::test]
    async fn no_more_than_so_many_are_under_way() {
        let dir = tempfile::tempdir().unwrap();
        let jobs = jobs(dir.path());
        for _ in 0..UNDER_WAY_MAX {
            jobs.start("stuck", "a", 1, |_| std::future::pending()).await.unwrap();
        }
        let refused = jobs.start("one more", "a", 1, |_| std::future::pending()).await;
        assert_eq!(refused.unwrap_err(), StartError::Full);
        let all = jobs.list(100, None).await.unwrap();
        assert_eq!(all.len(), UNDER_WAY_MAX);
        let running = all.iter().filter(|job| job.state == JobState::Running).count();
        assert!(running <= RUNNING_MAX, "{running}");
    }
}
