//! The store that several gateways share: one connection, held to a deadline, behind a breaker of its own.
//!
//! Redis is a help and never a condition. A command that cannot be answered within its deadline gives [`Unavailable`],
//! and after a few of them commands fail at once, until the keeper's own trial has gone well: no request waits for one.
//! Only commands that Redis 7.0 and Valkey share are used, and each touches keys of one hash tag.

mod behind;
mod counters;
mod fault;
mod gate;
mod keeper;
mod presence;
mod script;
mod supervise;
mod voice;

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, Value};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use router::RegionName;
use router::spec::RedisSpec;
use tokio::sync::Notify;

use behind::WriteBehind;
pub(crate) use counters::RedisCounters;
use fault::Reason;
use gate::Gate;
pub(crate) use presence::PRESENT;
use presence::{HEARTBEAT, Presence};
pub(crate) use script::Script;
pub(crate) use supervise::start;
use voice::Voice;

use crate::telemetry::Counters;

/// Redis did not do it, for whatever reason: the caller goes on without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Redis is not available")]
pub(crate) struct Unavailable;

/// One configured Redis. Cloning it is cheap; all clones share the connection.
#[derive(Clone)]
pub(crate) struct Redis(Arc<Shared>);

/// What commands and the keeper share.
struct Shared {
    spec: RedisSpec,
    /// What this gateway is called among those that share the store; random.
    id: String,
    gate: Gate,
    connection: ArcSwapOption<MultiplexedConnection>,
    /// The connection is to be looked at now.
    wake: Notify,
    behind: WriteBehind,
    presence: Presence,
    voice: Voice,
    counters: Arc<Counters>,
}

impl Redis {
    /// Whether a command would be tried now.
    pub(crate) fn is_up(&self) -> bool {
        self.connection().is_some()
    }

    /// Where it stands, if the configuration says.
    pub(crate) fn region(&self) -> Option<&RegionName> {
        self.0.spec.region.as_ref()
    }

    /// What this gateway is called in the store.
    pub(crate) fn id(&self) -> &str {
        &self.0.id
    }

    /// How many gateways share limits, this one included: as configured, else as seen of late.
    pub(crate) fn gateways(&self) -> u32 {
        self.0.spec.replicas.unwrap_or_else(|| self.0.presence.gateways()).max(1)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Unavailable`], also when the key holds something else than a string.
    pub(crate) async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Unavailable> {
        match self.command(::redis::cmd("GET").arg(key)).await? {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) => Ok(Some(bytes.into())),
            _ => Err(self.0.failed(Reason::Protocol)),
        }
    }

    /// Sets a key for `ttl` some time soon. Dropped, and counted, when too much waits already or Redis is not there.
    pub(crate) fn put_behind(&self, key: &[u8], value: &[u8], ttl: Duration) {
        let mut command = ::redis::cmd("SET");
        command.arg(key).arg(value).arg("PX").arg(millis(ttl));
        self.0.behind.push(&self.0, command);
    }

    /// Sets a key for `ttl` unless it is there; whether it was set.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub(crate) async fn set_nx_px(
        &self,
        key: &[u8],
        value: &[u8],
        ttl: Duration,
    ) -> Result<bool, Unavailable> {
        let mut command = ::redis::cmd("SET");
        command.arg(key).arg(value).arg("NX").arg("PX").arg(millis(ttl));
        Ok(self.command(&command).await? != Value::Nil)
    }

    /// Runs a script on keys of one hash tag; gives the integers that it returns.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub(crate) async fn script(
        &self,
        script: &Script,
        keys: &[&[u8]],
        args: &[&[u8]],
    ) -> Result<Vec<i64>, Unavailable> {
        let connection = self.connection().ok_or(Unavailable)?;
        self.0.run(connection, script, keys, args, self.0.spec.timeout).await
    }

    /// Runs a script some time soon, as [`Self::put_behind`]; in the order of the calls.
    pub(crate) fn script_behind(&self, script: &Script, keys: &[&[u8]], args: &[&[u8]]) {
        // With its text, since nobody would send it after an answer that says that it is not known.
        self.0.behind.push(&self.0, script.whole(keys, args));
    }

    /// Any other command.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub(crate) async fn command(&self, command: &Cmd) -> Result<Value, Unavailable> {
        let connection = self.connection().ok_or(Unavailable)?;
        self.0.send(connection, command, self.0.spec.timeout).await
    }

    fn connection(&self) -> Option<MultiplexedConnection> {
        self.0.usable()
    }
}

impl Shared {
    fn usable(&self) -> Option<MultiplexedConnection> {
        if !self.gate.admits() {
            return None;
        }
        self.connection.load().as_deref().cloned()
    }

    /// Sends one command and waits for its answer, at most `limit`. A caller that leaves early loses only the answer.
    async fn send(
        &self,
        connection: MultiplexedConnection,
        command: &Cmd,
        limit: Duration,
    ) -> Result<Value, Unavailable> {
        match self.answer(connection, command, limit).await {
            Ok(value) => {
                self.gate.succeeded();
                Ok(value)
            }
            Err(reason) => Err(self.failed(reason)),
        }
    }

    async fn answer(
        &self,
        mut connection: MultiplexedConnection,
        command: &Cmd,
        limit: Duration,
    ) -> Result<Value, Reason> {
        let answer = tokio::time::timeout(limit, connection.send_packed_command(command)).await;
        let answer = answer.map_err(|_| Reason::Timeout)?;
        answer.and_then(Value::extract_error).map_err(|error| fault::reason(&error))
    }

    /// By its hash, and with its text where Redis does not know it yet; `limit` is for each of the two.
    async fn run(
        &self,
        connection: MultiplexedConnection,
        script: &Script,
        keys: &[&[u8]],
        args: &[&[u8]],
        limit: Duration,
    ) -> Result<Vec<i64>, Unavailable> {
        let mut answer = self.answer(connection.clone(), &script.by_hash(keys, args), limit).await;
        if answer == Err(Reason::NoScript) {
            answer = self.answer(connection, &script.whole(keys, args), limit).await;
        }
        let integers =
            answer.and_then(|value| ::redis::from_redis_value(value).map_err(|_| Reason::Protocol));
        match integers {
            Ok(integers) => {
                self.gate.succeeded();
                Ok(integers)
            }
            Err(reason) => Err(self.failed(reason)),
        }
    }

    /// Counts a failure, and calls the keeper when it was one too many.
    fn failed(&self, reason: Reason) -> Unavailable {
        self.counters.redis.error(reason);
        self.voice.failed(reason);
        let opened = match reason {
            // What is wrong with one key says nothing of the rest.
            Reason::WrongType | Reason::NoScript => false,
            Reason::Closed | Reason::Refused => self.gate.trip(),
            _ => self.gate.failed(),
        };
        if opened {
            self.wake.notify_one();
        }
        Unavailable
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// A key without characters that would end its hash tag.
pub(crate) fn tag(name: &str) -> String {
    name.replace(['{', '}'], "_")
}
