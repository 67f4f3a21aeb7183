//! Health checks and model discovery of every backend, on a runtime and a thread of their own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use adapters::models::{ListError, Listing, ollama_tags, openai_list};
use adapters::probe::{self, Probe};
use router::BackendName;
use router::snapshot::Member;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::control;
use crate::plane::{Link, Plane};

/// Between two looks at which backends there are.
const RECONCILE: Duration = Duration::from_millis(200);
/// Until a backend that has given no model list yet is asked again.
const UNKNOWN_RETRY: Duration = Duration::from_secs(1);

/// Starts the thread that watches all backends.
///
/// # Errors
/// When its thread or runtime cannot be made.
pub(crate) fn start(plane: Arc<Plane>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("prober".to_owned()).spawn(move || {
        runtime.block_on(supervise(plane));
    })?;
    Ok(())
}

/// Keeps one task per backend; a backend whose connection facts changed gets a new one.
async fn supervise(plane: Arc<Plane>) {
    let mut watched: HashMap<BackendName, (usize, JoinHandle<()>)> = HashMap::new();
    let mut ticks = tokio::time::interval(RECONCILE);
    let mut version = None;
    loop {
        ticks.tick().await;
        let world = plane.world.load();
        if version.replace(world.version()) == Some(world.version()) {
            continue;
        }
        watched.retain(|name, (identity, task)| {
            let same = world.backend(name.as_str()).is_some_and(|m| id(m) == *identity);
            if !same {
                task.abort();
            }
            same
        });
        for member in world.backends() {
            watched.entry(member.spec.name.clone()).or_insert_with(|| {
                let task = tokio::spawn(watch(Arc::clone(&plane), member.spec.name.clone()));
                (id(member), task)
            });
        }
    }
}

fn id(member: &Member<Arc<Link>>) -> usize {
    Arc::as_ptr(&member.live).addr()
}

/// Looks after one backend until its task is aborted.
async fn watch(plane: Arc<Plane>, name: BackendName) {
    let mut next_list = Instant::now();
    loop {
        let world = plane.world.load();
        let Some(member) = world.backend(name.as_str()).cloned() else { return };
        let spec = world.spec();
        if Instant::now() >= next_list && member.spec.models.is_none() {
            let known = list(&plane, &member, spec.health.timeout).await;
            let wait = if known { spec.discovery.interval } else { UNKNOWN_RETRY };
            next_list = Instant::now() + wait;
        }
        tokio::time::sleep_until(next_list.max(Instant::now() + UNKNOWN_RETRY)).await;
    }
}

/// Asks a backend for its models; true when it answered.
async fn list(plane: &Plane, member: &Member<Arc<Link>>, timeout: Duration) -> bool {
    let Some(question) = probe::discovery(member.spec.kind) else { return true };
    let link = &member.live.attachment;
    let key = member.spec.api_key.as_ref();
    let reply = match control::get(link, question.path(), key, timeout).await {
        Ok(reply) => reply,
        Err(error) => {
            tracing::debug!(backend = %member.spec.name, %error, "no model list");
            return false;
        }
    };
    match read(question, reply.status.is_success(), &reply.body) {
        Ok(listing) => {
            let now = std::time::Instant::now();
            let found = listing.models.len();
            if plane.world.set_catalog(&member.spec.name, listing.models.into(), now) {
                tracing::info!(backend = %member.spec.name, models = found, "models discovered");
            }
            true
        }
        Err(error) => {
            let status = reply.status.as_u16();
            tracing::warn!(backend = %member.spec.name, status, %error, "no usable model list");
            false
        }
    }
}

fn read(question: Probe, success: bool, body: &[u8]) -> Result<Listing, ListError> {
    if !success {
        return Err(ListError::Shape("model list (error status)"));
    }
    match question {
        Probe::Tags => ollama_tags(body),
        _ => openai_list(body),
    }
}
