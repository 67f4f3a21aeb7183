//! What one gateway admits alone.

use router::spec::KeyLimits;

use super::*;
use crate::limits::estimate::Estimate;
use crate::limits::window::{Charges, charges};

const SECOND: u64 = 1_000_000;

fn charges_of(limits: KeyLimits, tokens: u64) -> Charges {
    charges(&limits, Estimate { prompt: tokens, completion: Some(0) }).0
}

fn requests(per_minute: u64, burst: u64) -> KeyLimits {
    KeyLimits { requests_per_minute: Some(per_minute), burst: Some(burst), ..KeyLimits::default() }
}

#[test]
fn all_windows_are_charged_or_none() {
    let limits = KeyLimits { tokens_per_minute: Some(100), ..requests(60, 60) };
    let mut bucket = Bucket::default();
    assert_eq!(bucket.admit(&charges_of(limits, 90), None, 1, 0, false).cause, None);
    let before = bucket.tats;
    let refused = bucket.admit(&charges_of(limits, 20), None, 1, 0, true);
    let wait = Duration::from_secs(6);
    assert_eq!(refused.cause, Some(Cause::Window(Window::TokensMinute, wait)));
    assert_eq!((bucket.tats, bucket.owed), (before, [0; WINDOWS]));
    let now = 6 * SECOND;
    assert_eq!(bucket.admit(&charges_of(limits, 20), None, 1, now, false).cause, None);
}

#[test]
fn what_redis_admitted_is_gone_from_the_share() {
    let charges = charges_of(requests(60, 9), 0);
    let (mut idle, mut busy) = (Bucket::default(), Bucket::default());
    (0..9).for_each(|_| busy.shadow(&charges, 3, 0));
    let admitted = |bucket: &mut Bucket, now| {
        (0..20).filter(|_| bucket.admit(&charges, None, 3, now, true).cause.is_none()).count()
    };
    assert_eq!(admitted(&mut idle, 0), 3);
    assert_eq!(admitted(&mut busy, 0), 0);
    // A third of one per second.
    assert_eq!(admitted(&mut busy, 3 * SECOND), 1);
}

#[test]
fn requests_at_once_are_shared_too() {
    let mut bucket = Bucket::default();
    let admit = |bucket: &mut Bucket, n| bucket.admit(&[], Some(6), n, 0, false).cause;
    let first = bucket.begin();
    bucket.begin();
    assert_eq!(admit(&mut bucket, 3), Some(Cause::Concurrent));
    assert_eq!(admit(&mut bucket, 2), None);
    bucket.end(first);
    assert_eq!(admit(&mut bucket, 3), None);
    // Each may have at least one.
    assert_eq!(Bucket::default().admit(&[], Some(2), 50, 0, false).cause, None);
}

#[test]
fn a_reservation_comes_back_and_what_was_not_reserved_is_owed() {
    let limits = KeyLimits { tokens_per_minute: Some(6000), ..KeyLimits::default() };
    let all = charges_of(limits, 6000);
    let mut bucket = Bucket::default();
    assert_eq!(bucket.admit(&all, None, 1, 0, true).cause, None);
    assert!(!bucket.is_clear(0));
    bucket.settle(&all[0], 0, 1, 0, true);
    assert!(bucket.is_clear(0), "{bucket:?}");
    assert_eq!(bucket.admit(&charges_of(limits, 10), None, 1, 0, false).cause, None);
    bucket.settle(&charges_of(limits, 10)[0], 6600, 1, 0, false);
    let late = bucket.admit(&charges_of(limits, 100), None, 1, 0, false).cause;
    assert_eq!(late, Some(Cause::Window(Window::TokensMinute, Duration::from_secs(7))));
}

#[test]
fn a_request_larger_than_the_share_is_served_once_the_share_is_whole() {
    let limits = KeyLimits { tokens_per_minute: Some(6000), ..KeyLimits::default() };
    let large = charges_of(limits, 5000);
    let mut bucket = Bucket::default();
    assert_eq!(bucket.admit(&large, None, 3, 0, true).cause, None);
    let Some(Cause::Window(_, wait)) = bucket.admit(&large, None, 3, 0, true).cause else {
        panic!("admitted twice");
    };
    // 5000 tokens at a third of 100 per second.
    assert_eq!(wait, Duration::from_secs(150));
}
