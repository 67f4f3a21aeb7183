//! What must hold for anything that may lie in Redis where an answer should; shared by the fuzz target and the replay.

use super::envelope::{open, read, write};

/// The largest body that is read here.
const BODY_MAX: usize = 4 << 10;

/// What is read is within bounds, and reads the same when it is written again.
pub fn envelope(data: &[u8]) {
    // Nothing that was not written under this name and key; only that it does not panic.
    let _ = open(data, &[1; 32], &[2; 32], BODY_MAX);
    let Ok(envelope) = read(data, BODY_MAX) else { return };
    assert!(envelope.body.len() <= BODY_MAX);
    assert_eq!(read(&write(&envelope), BODY_MAX), Ok(envelope));
}
