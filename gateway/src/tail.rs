//! The incomplete end of an event stream, held back so that an error event can follow cleanly.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Pieces beyond which the tail is copied together: one byte each would cost more in bookkeeping than in bytes.
const PIECES_MAX: usize = 32;

/// What has come of an event that is not complete.
#[derive(Debug)]
pub(crate) struct Tail {
    pieces: Vec<Bytes>,
    len: usize,
    max: usize,
    /// Part of the current event has been let through, because it is larger than `max`.
    passing: bool,
}

impl Tail {
    /// Holds back at most `max` bytes.
    pub(crate) const fn new(max: usize) -> Self {
        Self { pieces: Vec::new(), len: 0, max, passing: false }
    }

    /// Takes a chunk; moves all that belongs to complete events (up to `boundary`) to `ready`.
    pub(crate) fn hold(
        &mut self,
        mut chunk: Bytes,
        boundary: Option<usize>,
        ready: &mut VecDeque<Bytes>,
    ) {
        if let Some(boundary) = boundary {
            self.release(ready);
            let complete = chunk.split_to(boundary.min(chunk.len()));
            if !complete.is_empty() {
                ready.push_back(complete);
            }
        }
        if chunk.is_empty() {
            return;
        }
        self.len += chunk.len();
        self.pieces.push(chunk);
        if self.passing || self.len > self.max {
            self.passing = true;
            ready.extend(self.pieces.drain(..));
            self.len = 0;
        } else if self.pieces.len() > PIECES_MAX {
            self.compact();
        }
    }

    fn compact(&mut self) {
        let mut whole = BytesMut::with_capacity(self.len);
        for piece in self.pieces.drain(..) {
            whole.extend_from_slice(&piece);
        }
        self.pieces.push(whole.freeze());
    }

    /// Lets everything through.
    pub(crate) fn release(&mut self, ready: &mut VecDeque<Bytes>) {
        ready.extend(self.pieces.drain(..));
        self.len = 0;
        self.passing = false;
    }

    /// Drops the incomplete event; false when the client has already seen a part of it.
    pub(crate) fn discard(&mut self) -> bool {
        self.pieces.clear();
        self.len = 0;
        !self.passing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(ready: &VecDeque<Bytes>) -> Vec<u8> {
        ready.iter().flat_map(|bytes| bytes.to_vec()).collect()
    }

    #[test]
    fn an_incomplete_event_is_held_until_its_end_comes() {
        let (mut tail, mut ready) = (Tail::new(100), VecDeque::new());
        tail.hold(Bytes::from_static(b"data: a\n\ndata: b"), Some(9), &mut ready);
        assert_eq!(text(&ready), b"data: a\n\n");
        tail.hold(Bytes::from_static(b"b\n\n"), Some(3), &mut ready);
        assert_eq!(text(&ready), b"data: a\n\ndata: bb\n\n");
        assert!(tail.discard());
    }

    #[test]
    fn what_is_too_large_streams_on_and_cannot_be_taken_back() {
        let (mut tail, mut ready) = (Tail::new(4), VecDeque::new());
        tail.hold(Bytes::from_static(b"data: long"), None, &mut ready);
        assert_eq!(text(&ready), b"data: long");
        tail.hold(Bytes::from_static(b"er"), None, &mut ready);
        assert_eq!(text(&ready), b"data: longer");
        assert!(!tail.discard());
        tail.hold(Bytes::from_static(b"\n\nda"), Some(2), &mut ready);
        assert!(tail.discard());
        assert_eq!(text(&ready), b"data: longer\n\n");
    }

    #[test]
    fn single_bytes_do_not_pile_up_as_pieces() {
        let (mut tail, mut ready) = (Tail::new(1 << 16), VecDeque::new());
        for _ in 0..1000 {
            tail.hold(Bytes::from_static(b"x"), None, &mut ready);
        }
        assert!(ready.is_empty() && tail.pieces.len() <= PIECES_MAX + 1);
        tail.release(&mut ready);
        assert_eq!(text(&ready).len(), 1000);
    }
}
