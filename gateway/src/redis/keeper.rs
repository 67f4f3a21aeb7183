//! Keeps one connection to Redis: opens it, tries it, gives signs of life, and opens another one when it has failed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client};

use super::fault::{self, Reason};
use super::presence::{HEARTBEAT, KEY, PRESENT, SIGN};
use super::{Shared, Unavailable, millis};

/// How long opening a connection may take, with TLS and log-in.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// First wait after a trial that failed; it doubles up to [`WAIT_MAX`].
const WAIT_MIN: Duration = Duration::from_millis(100);
/// With [`CONNECT_LIMIT`], how late a recovery can be noticed.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Runs until its task is aborted.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut wait = WAIT_MIN;
    loop {
        let Ok(connection) = trial(&shared).await else {
            // Up to a quarter more, so that gateways do not come back in step.
            tokio::time::sleep(wait.mul_f64(1.0 + fastrand::f64() / 4.0)).await;
            wait = (wait * 2).min(WAIT_MAX);
            continue;
        };
        wait = WAIT_MIN;
        shared.connection.store(Some(Arc::new(connection)));
        shared.gate.reopen();
        shared.counters.redis.up.set(1.0);
        watch(&shared).await;
        shared.counters.redis.up.set(0.0);
        shared.connection.store(None);
    }
}

/// A fresh connection that has taken a write.
async fn trial(shared: &Shared) -> Result<MultiplexedConnection, Unavailable> {
    let connection = match tokio::time::timeout(CONNECT_LIMIT, connect(shared)).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(reason)) => return Err(shared.failed(reason)),
        Err(_) => return Err(shared.failed(Reason::Timeout)),
    };
    sign(shared, connection.clone()).await?;
    Ok(connection)
}

async fn connect(shared: &Shared) -> Result<MultiplexedConnection, Reason> {
    // Deadlines are ours: one for each command, whatever it waits for.
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let client = Client::open(shared.spec.url.expose()).map_err(|error| fault::reason(&error))?;
    let connection = client.get_multiplexed_async_connection_with_config(&config).await;
    connection.map_err(|error| fault::reason(&error))
}

/// Gives signs of life until the connection has to be replaced.
async fn watch(shared: &Shared) {
    loop {
        let _ = tokio::time::timeout(HEARTBEAT, shared.wake.notified()).await;
        let Some(connection) = shared.usable() else { return };
        if sign(shared, connection).await.is_ok() {
            shared.voice.well();
        }
    }
}

async fn sign(shared: &Shared, connection: MultiplexedConnection) -> Result<(), Unavailable> {
    let ttl = millis(PRESENT).to_string();
    let args = [shared.id.as_bytes(), ttl.as_bytes()];
    let seen = shared.run(connection, &SIGN, &[KEY], &args, shared.spec.timeout).await?;
    let gateways = seen.first().and_then(|gateways| u32::try_from(*gateways).ok()).unwrap_or(1);
    shared.presence.saw(gateways, Instant::now());
    Ok(())
}
