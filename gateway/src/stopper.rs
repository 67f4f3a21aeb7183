//! Tells one task on another thread to stop.

use tokio::sync::watch;

/// The end that tells.
#[derive(Debug)]
pub(crate) struct Stopper(watch::Sender<bool>);

/// The end that is told.
#[derive(Debug)]
pub(crate) struct Stopped(watch::Receiver<bool>);

impl Default for Stopper {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Stopper {
    pub(crate) fn stop(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn listener(&self) -> Stopped {
        Stopped(self.0.subscribe())
    }
}

impl Stopped {
    /// Resolves when it is time to stop, or nobody is left to say so.
    pub(crate) async fn stopped(&mut self) {
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}
