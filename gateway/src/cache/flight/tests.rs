use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::error::{ErrorKind, Rejection};
use crate::plane::Buffered;

const BOUNDS: Bounds = Bounds { keep: 1 << 20, buffers: 1 << 30 };

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn begin(bounds: Bounds) -> (Arc<Flight>, Seat) {
    Flight::begin(bounds, Buffered::alone())
}

fn piece(len: usize) -> Bytes {
    Bytes::from(vec![b'x'; len])
}

/// All that is there now: bytes, and how it goes on.
fn drain(seat: &Seat) -> (usize, &'static str) {
    let mut bytes = 0;
    loop {
        match seat.poll_read(&mut cx()) {
            Poll::Ready(Read::Bytes(piece, _)) => bytes += piece.len(),
            Poll::Ready(Read::End(_)) => return (bytes, "end"),
            Poll::Ready(Read::Lagged) => return (bytes, "lagged"),
            Poll::Pending => return (bytes, "waits"),
        }
    }
}

fn is_ready(future: impl Future<Output = ()>) -> bool {
    pin!(future).poll(&mut cx()).is_ready()
}

#[test]
fn who_joins_late_starts_at_the_beginning() {
    let (flight, first) = begin(BOUNDS);
    flight.say([piece(3), piece(4)], None);
    assert_eq!(drain(&first), (7, "waits"));
    let second = flight.join().unwrap();
    assert_eq!(drain(&second), (7, "waits"));
    flight.say([piece(5)], Some(End::default()));
    assert_eq!(drain(&first), (5, "end"));
    assert_eq!(drain(&second), (5, "end"));
    assert_eq!(drain(&flight.join().unwrap()), (12, "end"));
    assert_eq!(flight.whole(&[]).unwrap().len(), 12);
}

#[test]
fn the_last_piece_comes_with_the_end() {
    let (flight, seat) = begin(BOUNDS);
    flight.say([piece(1), piece(1)], Some(End::default()));
    assert!(matches!(seat.poll_read(&mut cx()), Poll::Ready(Read::Bytes(_, None))));
    assert!(matches!(seat.poll_read(&mut cx()), Poll::Ready(Read::Bytes(_, Some(_)))));
}

#[test]
fn what_is_not_kept_whole_cannot_be_joined_or_stored() {
    let (flight, seat) = begin(Bounds { keep: 10, ..BOUNDS });
    flight.say([piece(10)], None);
    assert!(flight.whole(&[]).is_some() && flight.whole(&[piece(1)]).is_none());
    flight.say([piece(1)], None);
    assert!(flight.join().is_none() && flight.whole(&[]).is_none());
    assert_eq!(drain(&seat), (11, "waits"));
    let (full, _seat) = begin(Bounds { buffers: 4, ..BOUNDS });
    full.say([piece(5)], None);
    assert!(full.join().is_none(), "no room in the process");
}

#[test]
fn a_slow_reader_is_cut_and_holds_nobody() {
    let (flight, fast) = begin(Bounds { keep: 100, ..BOUNDS });
    let slow = flight.join().unwrap();
    for _ in 0..64 {
        assert!(is_ready(flight.paced()));
        flight.say([piece(64 << 10)], None);
        drain(&fast);
        assert!(flight.lock().held <= LAG_MAX);
    }
    assert_eq!(drain(&slow), (0, "lagged"));
    flight.say([piece(7)], Some(End::default()));
    assert_eq!(drain(&fast), (7, "end"));
}

#[test]
fn a_reader_alone_holds_the_maker_back() {
    let (flight, seat) = begin(Bounds { keep: 100, ..BOUNDS });
    let mut said = 0;
    while is_ready(flight.paced()) {
        flight.say([piece(64 << 10)], None);
        said += 64 << 10;
    }
    assert!(said as u64 > AHEAD_MAX && said <= LAG_MAX);
    assert_eq!(drain(&seat), (said, "waits"));
    assert!(is_ready(flight.paced()));
}

#[test]
fn who_is_not_slow_is_not_cut_however_much_comes_at_once() {
    let (flight, seat) = begin(Bounds { keep: 1 << 20, ..BOUNDS });
    let slow = flight.join().unwrap();
    let mut said = 0;
    for batch in [1, 20, 40, 3] {
        assert!(is_ready(flight.paced()));
        flight.say(vec![piece(64 << 10); batch], None);
        said += batch * (64 << 10);
        if batch == 1 {
            assert_eq!(drain(&slow), (said, "waits"));
        }
        let (bytes, then) = drain(&seat);
        assert_eq!((bytes, then), (batch * (64 << 10), "waits"));
    }
    assert_eq!(drain(&slow), (0, "lagged"));
    // Whoever is left is the fastest.
    drop(seat);
    let (flight, first) = begin(Bounds { keep: 100, ..BOUNDS });
    let second = flight.join().unwrap();
    flight.say(vec![piece(64 << 10); 8], None);
    assert!(matches!(first.poll_read(&mut cx()), Poll::Ready(Read::Bytes(..))));
    drop(first);
    assert_eq!(drain(&second), (8 * (64 << 10), "waits"));
}

#[test]
fn what_is_kept_holds_no_read_buffers() {
    let (flight, seat) = begin(BOUNDS);
    let buffer = piece(8 << 10);
    for at in 0..100 {
        flight.say([buffer.slice(at..at + 200)], None);
    }
    assert!(buffer.is_unique());
    let weight: usize = {
        let shared = flight.lock();
        // Pieces of one page lie side by side.
        let pages: Vec<_> = shared.pieces.iter().map(|piece| piece.as_ptr() as usize).collect();
        1 + pages.windows(2).filter(|pair| pair[0] + 200 != pair[1]).count()
    };
    assert!(weight * PAGE < 2 * 100 * 200, "{weight} pages");
    assert_eq!(drain(&seat), (20_000, "waits"));
}

#[test]
fn the_maker_hears_of_the_last_reader_and_of_no_other() {
    let (flight, first) = begin(BOUNDS);
    let second = flight.join().unwrap();
    drop(first);
    assert!(!is_ready(flight.deserted()));
    let third = flight.join().unwrap();
    drop((second, third));
    assert!(is_ready(flight.deserted()));
    assert!(flight.join().is_none(), "it is being stopped");
}

#[test]
fn a_failure_is_everyones() {
    let (flight, first) = begin(BOUNDS);
    let second = flight.join().unwrap();
    let lost = |text: &str| Lost {
        rejection: Rejection::new(ErrorKind::NoBackend, text),
        origin: Origin::default(),
    };
    flight.open(Err(lost("one")));
    flight.abandon(lost("other"), End { cut: true, ..End::default() });
    for seat in [first, second] {
        let Poll::Ready(Err(told)) = seat.poll_opening(&mut cx()) else { unreachable!() };
        assert_eq!(told.rejection.message, "one");
    }
    assert!(flight.join().is_none());
}
