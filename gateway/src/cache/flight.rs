//! One answer that several requests wait for: what was said so far, who reads it, and how far they are.
//!
//! The whole of it is kept as long as it may be stored and there is room, so that whoever joins starts at its beginning.
//! After that only the last part is kept, nobody joins any more, and a reader that falls out of it is cut. The maker goes
//! no faster than the fastest reader, so that a client alone holds its backend back as it would without the cache.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use adapters::Usage;
use bytes::{Bytes, BytesMut};
use http::response::Parts;
use tokio::sync::Notify;

use crate::cache::entry::Entry;
use crate::dispatch::{Lost, Origin};
use crate::plane::Buffered;

/// How far the maker may be ahead of the fastest reader, bytes.
const AHEAD_MAX: u64 = 256 << 10;
/// How much is kept for slower readers of what is not stored, bytes.
const LAG_MAX: usize = 512 << 10;
/// Pieces are copied into pages of so many bytes. As they come each holds a whole read buffer of its connection, so that
/// what is kept of a stream of small events would take forty times what it weighs.
const PAGE: usize = 4 << 10;

/// What the readers are told first.
#[derive(Clone)]
pub(crate) enum Opening {
    /// A new answer begins.
    New(Box<Begun>),
    /// It was stored elsewhere in the meantime.
    Stored(Arc<Entry>),
}

/// Where a new answer comes from, its head, and how its body comes.
#[derive(Clone)]
pub(crate) struct Begun {
    pub(crate) origin: Origin,
    pub(crate) head: Parts,
    pub(crate) form: Form,
}

/// How a new answer's body comes.
#[derive(Debug, Clone)]
pub(crate) enum Form {
    Whole(Bytes, Option<Usage>),
    Stream,
    Rest,
}

/// How it ended.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct End {
    /// The code that it broke with.
    pub(crate) code: Option<&'static str>,
    /// It could not say so.
    pub(crate) cut: bool,
    pub(crate) usage: Option<Usage>,
}

/// Why there is nothing more for a reader.
pub(crate) enum Read {
    Bytes(Bytes, Option<End>),
    End(End),
    /// The reader was too slow.
    Lagged,
}

#[derive(Default)]
struct Reader {
    /// Number of the piece that it takes next.
    next: u64,
    /// Bytes that it has taken.
    taken: u64,
    waker: Option<Waker>,
}

struct Shared {
    opening: Option<Result<Opening, Lost>>,
    pieces: VecDeque<Bytes>,
    /// Where the next ones are copied to.
    page: BytesMut,
    /// Number of the first of them.
    first: u64,
    /// Bytes in them.
    held: usize,
    /// Bytes of all pieces so far.
    said: u64,
    /// All pieces are still here, for whoever joins and for the store.
    keeps: bool,
    share: Buffered,
    end: Option<End>,
    readers: Vec<Option<Reader>>,
    /// What the fastest reader has taken, bytes.
    furthest: u64,
    /// Nobody reads any more, or nobody may join.
    closed: bool,
}

/// See the module.
pub(crate) struct Flight {
    shared: Mutex<Shared>,
    /// Wakes the maker: the readers went on, or the last one left.
    moved: Notify,
    bounds: Bounds,
}

/// Most bytes that are kept whole, and that all buffers of the process may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) keep: u64,
    pub(crate) buffers: u64,
}

/// A place among the readers; given up when dropped.
pub(crate) struct Seat {
    flight: Arc<Flight>,
    index: usize,
}

impl Flight {
    /// A flight with its first reader.
    pub(crate) fn begin(bounds: Bounds, share: Buffered) -> (Arc<Self>, Seat) {
        let shared = Shared {
            opening: None,
            pieces: VecDeque::new(),
            page: BytesMut::new(),
            first: 0,
            held: 0,
            said: 0,
            keeps: true,
            share,
            end: None,
            readers: vec![Some(Reader::default())],
            furthest: 0,
            closed: false,
        };
        let flight = Arc::new(Self { shared: Mutex::new(shared), moved: Notify::new(), bounds });
        let seat = Seat { flight: Arc::clone(&flight), index: 0 };
        (flight, seat)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another reader, from the beginning; `None` when it is too late.
    pub(crate) fn join(self: &Arc<Self>) -> Option<Seat> {
        let mut shared = self.lock();
        if shared.closed || !shared.keeps {
            return None;
        }
        let free = shared.readers.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            shared.readers.push(None);
            shared.readers.len() - 1
        });
        shared.readers[index] = Some(Reader::default());
        Some(Seat { flight: Arc::clone(self), index })
    }

    /// The answer begins, or there is none.
    pub(crate) fn open(&self, opening: Result<Opening, Lost>) {
        let mut shared = self.lock();
        if shared.opening.is_none() {
            shared.opening = Some(opening);
        }
        shared.wake();
    }

    /// More of the answer, and perhaps its end.
    pub(crate) fn say(&self, pieces: impl IntoIterator<Item = Bytes>, end: Option<End>) {
        let mut shared = self.lock();
        for piece in pieces {
            shared.push(&piece, &self.bounds);
        }
        if end.is_some() && shared.end.is_none() {
            shared.end = end;
        }
        shared.wake();
    }

    /// The defect of a maker that ended without a word: the readers must not wait for ever.
    pub(crate) fn abandon(&self, lost: Lost, end: End) {
        let mut shared = self.lock();
        shared.closed = true;
        shared.opening.get_or_insert(Err(lost));
        shared.end.get_or_insert(end);
        shared.wake();
    }

    /// All that was said, and what is about to be, in one piece; `None` when not all of it is here, or it is too much.
    pub(crate) fn whole(&self, last: &[Bytes]) -> Option<Bytes> {
        let shared = self.lock();
        let len = shared.held + last.iter().map(Bytes::len).sum::<usize>();
        if !shared.keeps || len as u64 > self.bounds.keep {
            return None;
        }
        let mut whole = BytesMut::with_capacity(len);
        shared.pieces.iter().chain(last).for_each(|piece| whole.extend_from_slice(piece));
        Some(whole.freeze())
    }

    /// Most bytes that are kept whole.
    pub(crate) const fn keep(&self) -> u64 {
        self.bounds.keep
    }

    /// Resolves while the maker may say more.
    pub(crate) async fn paced(&self) {
        loop {
            let moved = self.moved.notified();
            {
                let shared = self.lock();
                if shared.said - shared.furthest <= AHEAD_MAX {
                    return;
                }
            }
            moved.await;
        }
    }

    /// Resolves when the last reader has left.
    pub(crate) async fn deserted(&self) {
        loop {
            let moved = self.moved.notified();
            if self.lock().is_deserted() {
                return;
            }
            moved.await;
        }
    }
}

impl Shared {
    fn push(&mut self, piece: &Bytes, bounds: &Bounds) {
        let len = piece.len();
        self.said += len as u64;
        self.held += len;
        if self.page.capacity() < len {
            self.page = BytesMut::with_capacity(len.max(PAGE));
        }
        self.page.extend_from_slice(piece);
        self.pieces.push_back(self.page.split().freeze());
        if self.keeps {
            let fits = self.said <= bounds.keep && self.share.grow(len as u64, bounds.buffers);
            self.keeps = fits;
        }
        self.trim();
    }

    /// Drops what nobody needs, and what is kept for nobody but those who are too slow.
    fn trim(&mut self) {
        if self.keeps {
            return;
        }
        let (mut slowest, mut fastest) = (u64::MAX, 0);
        for reader in self.readers.iter().flatten() {
            slowest = slowest.min(reader.next);
            fastest = fastest.max(reader.next);
        }
        while self.first < slowest || self.held > LAG_MAX {
            // The fastest is not too slow, however much came at once; and the newest stays, since a single piece may be
            // larger than all that is kept.
            if self.first >= slowest && (self.first >= fastest || self.pieces.len() <= 1) {
                return;
            }
            let Some(piece) = self.pieces.pop_front() else { return };
            self.held -= piece.len();
            self.first += 1;
        }
    }

    fn wake(&mut self) {
        for reader in self.readers.iter_mut().flatten() {
            if let Some(waker) = reader.waker.take() {
                waker.wake();
            }
        }
    }

    fn is_deserted(&self) -> bool {
        self.readers.iter().all(Option::is_none)
    }

    fn reader(&mut self, index: usize) -> Option<&mut Reader> {
        self.readers.get_mut(index)?.as_mut()
    }

    fn wait(&mut self, index: usize, waker: &Waker) {
        if let Some(reader) = self.reader(index) {
            match &mut reader.waker {
                Some(known) => known.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
        }
    }
}

impl Seat {
    /// How the answer begins.
    pub(crate) fn poll_opening(&self, cx: &mut Context<'_>) -> Poll<Result<Opening, Lost>> {
        let mut shared = self.flight.lock();
        if let Some(opening) = &shared.opening {
            return Poll::Ready(opening.clone());
        }
        shared.wait(self.index, cx.waker());
        Poll::Pending
    }

    /// What comes next; with the last piece comes the end, where it is known.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>) -> Poll<Read> {
        let mut guard = self.flight.lock();
        let shared = &mut *guard;
        let first = shared.first;
        let Some(reader) = shared.readers.get_mut(self.index).and_then(Option::as_mut) else {
            return Poll::Ready(Read::Lagged);
        };
        let Some(offset) = reader.next.checked_sub(first) else {
            return Poll::Ready(Read::Lagged);
        };
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let Some(piece) = shared.pieces.get(offset).cloned() else {
            if let Some(end) = shared.end {
                return Poll::Ready(Read::End(end));
            }
            shared.wait(self.index, cx.waker());
            return Poll::Pending;
        };
        reader.next += 1;
        reader.taken += piece.len() as u64;
        let taken = reader.taken;
        let last = offset + 1 == shared.pieces.len();
        let end = shared.end.filter(|end| last && !end.cut);
        if taken > shared.furthest {
            let was_ahead = shared.said - shared.furthest > AHEAD_MAX;
            shared.furthest = taken;
            if was_ahead {
                self.flight.moved.notify_waiters();
            }
        }
        if offset == 0 {
            shared.trim();
        }
        Poll::Ready(Read::Bytes(piece, end))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut shared = self.flight.lock();
        if let Some(seat) = shared.readers.get_mut(self.index) {
            *seat = None;
        }
        shared.trim();
        if shared.is_deserted() {
            // Whoever comes now begins anew: this one is being stopped.
            shared.closed = true;
            drop(shared);
            self.flight.moved.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
