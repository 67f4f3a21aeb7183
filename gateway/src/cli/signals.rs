//! What the process is told from outside, and how it ends.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use gateway::{DataPlane, DrainSettings, Phase};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::notify::notify;
use super::reload::Trigger;

/// How long error events may take to get out at the very end.
const ABORT_LIMIT: Duration = Duration::from_secs(2);

/// What the process is told from outside, and the runtime that hears it.
pub(crate) struct Signals {
    runtime: Runtime,
    heard: Heard,
}

struct Heard {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let hangup = signal(SignalKind::hangup())?;
        drop(entered);
        Ok(Self { runtime, heard: Heard { terminate, interrupt, hangup } })
    }

    /// Waits for a signal, then lets running answers finish: grace, drain, error events. A second signal ends at once;
    /// SIGHUP reloads.
    pub(crate) fn serve(&mut self, data_plane: &DataPlane, reload: Option<&Trigger>) {
        let Self { runtime, heard } = self;
        runtime.block_on(async {
            heard.end(reload).await;
            tokio::select! {
                () = wind_down(data_plane, data_plane.drain()) => {}
                () = heard.end(reload) => tracing::warn!("a second signal: stopping at once"),
            }
        });
    }

    /// Waits for a signal to end; SIGHUP reloads.
    pub(crate) fn wait(&mut self, reload: &Trigger) {
        let Self { runtime, heard } = self;
        runtime.block_on(heard.end(Some(reload)));
        notify("STOPPING=1");
    }
}

impl Heard {
    async fn end(&mut self, reload: Option<&Trigger>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => reload.map_or((), Trigger::reload),
            }
        }
    }
}

async fn wind_down(data_plane: &DataPlane, drain: DrainSettings) {
    notify("STOPPING=1");
    tracing::info!(grace = ?drain.grace, "stopping: not ready any more, still accepting; a second signal stops at once");
    data_plane.advance(Phase::Grace);
    tokio::time::sleep(drain.grace).await;
    tracing::info!(timeout = ?drain.timeout, "stopping: running answers may finish");
    data_plane.advance(Phase::Draining);
    let plane = Arc::clone(data_plane.plane());
    if !drained(&plane, drain.timeout).await {
        tracing::warn!("stopping: answers that still run end in an error");
        data_plane.advance(Phase::Aborting);
        drained(&plane, ABORT_LIMIT).await;
    }
    tracing::info!("stopped");
}

/// Looks until the last connection is gone, at most `limit`.
async fn drained(plane: &gateway::Plane, limit: Duration) -> bool {
    let all_gone = async {
        while plane.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(limit, all_gone).await.is_ok()
}
