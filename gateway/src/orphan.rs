//! A load that goes on without the client who began it.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// Between two looks at whether the model is there.
const LOOK: Duration = Duration::from_millis(250);

/// Runs an attempt that makes a server load a model. When its client has left (this future is dropped), it goes on
/// until the model is `loaded`, at most `load` from its start: a load that ended with its client would begin anew with
/// the next one and might never come to its end. `None` = the attempt panicked.
pub(crate) async fn run<T: Send + 'static>(
    attempt: impl Future<Output = T> + Send + 'static,
    loaded: impl Fn() -> bool + Send + Sync + 'static,
    load: Duration,
) -> Option<T> {
    let deadline = Instant::now() + load;
    let (mut answer, wanted) = oneshot::channel();
    tokio::spawn(async move {
        let orphaned = async {
            answer.closed().await;
            while !loaded() && Instant::now() < deadline {
                tokio::time::sleep(LOOK).await;
            }
        };
        let result = tokio::select! {
            result = attempt => Some(result),
            () = orphaned => None,
        };
        if let Some(result) = result {
            // Nobody may want it any more; then its connection closes with it.
            let _ = answer.send(result);
        }
    });
    wanted.await.ok()
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use super::*;

    /// Set when an attempt is over, one way or the other.
    struct Over(Arc<AtomicBool>);

    impl Drop for Over {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }

    /// Begins an attempt that never ends by itself, and lets its client leave.
    async fn abandoned(loaded: Arc<AtomicBool>, load: Duration) -> Arc<AtomicBool> {
        let over = Arc::new(AtomicBool::new(false));
        let guard = Over(Arc::clone(&over));
        let attempt = async move {
            let _guard = guard;
            pending::<()>().await;
        };
        let left = run(attempt, move || loaded.load(Relaxed), load);
        assert!(tokio::time::timeout(Duration::from_secs(1), left).await.is_err());
        over
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_until_the_model_is_there() {
        let loaded = Arc::new(AtomicBool::new(false));
        let over = abandoned(Arc::clone(&loaded), Duration::from_secs(600)).await;
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert!(!over.load(Relaxed));
        loaded.store(true, Relaxed);
        tokio::time::sleep(2 * LOOK).await;
        assert!(over.load(Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_for_so_long_and_no_longer() {
        let over = abandoned(Arc::default(), Duration::from_secs(10)).await;
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert!(!over.load(Relaxed));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(over.load(Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stays_gets_the_result_of_any_attempt() {
        let slow = async {
            tokio::time::sleep(Duration::from_secs(9)).await;
            7
        };
        // Neither the look at the model nor its deadline matters to who is still there.
        assert_eq!(run(slow, || true, Duration::from_secs(1)).await, Some(7));
        let defect = async { panic!("a defect") };
        assert_eq!(run::<()>(defect, || false, Duration::from_secs(1)).await, None);
    }
}
