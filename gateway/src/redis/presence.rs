//! How many gateways share a Redis: each keeps an entry with an expiry there.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Script;

/// Between two signs of life of a gateway.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long a sign of life holds.
pub(crate) const PRESENT: Duration = Duration::from_secs(4);
/// How long a lower number has to last until it is believed: a Redis that has just come back empty knows nobody yet.
const FEWER_AFTER: Duration = Duration::from_secs(30);

/// The sorted set of gateways, by the time at which each entry runs out.
pub(super) const KEY: &[u8] = b"{fb:gateways}";

/// A sign of life, and the trial of a connection: it needs a Redis that takes writes.
pub(super) static SIGN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("sign.lua")));

/// The number of gateways, as it was seen.
#[derive(Debug, Default)]
pub(super) struct Presence(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    gateways: u32,
    fewer_since: Option<Instant>,
}

impl Presence {
    pub(super) fn gateways(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).gateways
    }

    pub(super) fn saw(&self, gateways: u32, now: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).saw(gateways, now);
    }
}

impl Seen {
    fn saw(&mut self, gateways: u32, now: Instant) {
        let since = if gateways < self.gateways {
            *self.fewer_since.get_or_insert(now)
        } else {
            self.fewer_since = None;
            now
        };
        if gateways >= self.gateways || now.duration_since(since) >= FEWER_AFTER {
            self.gateways = gateways;
            self.fewer_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_are_believed_at_once_and_fewer_after_a_while() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut seen = Seen::default();
        for (gateways, second, believed) in
            [(1, 0, 1), (3, 2, 3), (1, 4, 3), (1, 20, 3), (3, 22, 3), (2, 24, 3), (2, 54, 2)]
        {
            seen.saw(gateways, at(second));
            assert_eq!(seen.gateways, believed, "{gateways} at {second}");
        }
    }
}
