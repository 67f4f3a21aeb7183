//! File descriptors: asks for all that the system allows, and lets in no more clients than there are descriptors for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for what is no connection: listeners, runtimes, files, probes, the store.
const RESERVE: u64 = 64;
/// A client, and the backend that serves it.
const PER_CLIENT: u64 = 2;

/// Raises the process's limit to what it may be raised to: interactive shells start programs with as few as 1024.
pub(crate) fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// How many of the `asked` client connections are let in at once. With more, a connection to a backend could not be
/// opened for want of a descriptor, and the backend would be blamed for it.
pub(crate) fn connections_max(asked: u32) -> u32 {
    let limit = getrlimit(Resource::Nofile).current;
    let max = within(limit, asked);
    // A few less than asked for is no news: the usual limits lie just below the default.
    if u64::from(max) * 10 < u64::from(asked) * 9 {
        tracing::warn!(
            asked,
            max,
            open_files = limit,
            "fewer client connections than configured: the limit of open files is too low"
        );
    }
    max
}

fn within(limit: Option<u64>, asked: u32) -> u32 {
    let Some(limit) = limit else { return asked };
    let room = (limit.saturating_sub(RESERVE) / PER_CLIENT).max(1);
    u32::try_from(room).map_or(asked, |room| asked.min(room))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_counts_twice_and_one_is_always_let_in() {
        assert_eq!(within(None, 10_000), 10_000);
        assert_eq!(within(Some(u64::MAX), 10_000), 10_000);
        assert_eq!(within(Some(20_064), 10_000), 10_000);
        assert_eq!(within(Some(20_063), 10_000), 9_999);
        assert_eq!(within(Some(1024), 10_000), 480);
        assert_eq!(within(Some(1024), 100), 100);
        assert_eq!(within(Some(10), 100), 1);
    }
}
