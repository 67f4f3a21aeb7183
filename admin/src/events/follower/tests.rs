//! Several followers of the same planes and one store.

use std::time::UNIX_EPOCH;

use router::BackendName;
use router::health::HealthState;
use router::planes::{EventKind, EventRing};

use super::*;
use crate::store::{EventFilter, Role, Store};

fn write_all(store: &Store, plane: &str, events: Vec<Event>) {
    let plane = plane.to_owned();
    store.write_blocking(move |tx| write(tx, &plane, &events)).unwrap();
}

fn kinds(store: &Store) -> Vec<(String, String)> {
    let all = store.read_blocking(|tx| tx.events(0, 10_000, &EventFilter::default()));
    let all: Vec<_> = Result::<_, StoreError>::unwrap(all);
    all.into_iter().map(|event| (event.kind, event.subject)).collect()
}

fn health(ring: &EventRing, second: u64) {
    let backend = BackendName::try_from("b").unwrap();
    let kind = EventKind::Health { backend, from: HealthState::Online, to: HealthState::Offline };
    ring.push(kind, UNIX_EPOCH + Duration::from_secs(second));
}

#[test]
fn each_event_is_written_once_whoever_follows() {
    use router::planes::Feed as _;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store.db"), Role::Writer).unwrap();
    let ring = EventRing::default();
    for second in 1..=3 {
        health(&ring, second);
    }
    write_all(&store, "pid-1", ring.events(0, 2));
    write_all(&store, "pid-1", ring.events(0, 10));
    write_all(&store, "pid-1", ring.events(1, 10));
    assert_eq!(kinds(&store).len(), 3);
    assert_eq!(kinds(&store)[0], ("health".to_owned(), "b".to_owned()));
    write_all(&store, "pid-2", ring.events(0, 10));
    assert_eq!(kinds(&store).len(), 6, "another plane's events are others");
    let anew = EventRing::default();
    health(&anew, 9);
    write_all(&store, "pid-1", anew.events(0, 10));
    assert_eq!(kinds(&store).len(), 7, "a new process of an old name counts from 1 again");
}

#[test]
fn a_clock_that_is_set_back_hides_and_doubles_nothing() {
    use router::planes::Feed as _;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store.db"), Role::Writer).unwrap();
    let ring = EventRing::default();
    for second in [100, 101, 50, 51] {
        health(&ring, second);
    }
    write_all(&store, "pid-1", ring.events(0, 10));
    assert_eq!(kinds(&store).len(), 4);
    // Another follower begins at the beginning.
    write_all(&store, "pid-1", ring.events(0, 10));
    assert_eq!(kinds(&store).len(), 4);
    health(&ring, 52);
    write_all(&store, "pid-1", ring.events(0, 10));
    assert_eq!(kinds(&store).len(), 5);
}

#[test]
fn places_are_forgotten_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store.db"), Role::Writer).unwrap();
    for pid in 0..100 {
        let at = UNIX_EPOCH + Duration::from_secs(pid);
        let event = Event { number: 1, at, kind: EventKind::Published { version: 1 } };
        write_all(&store, &format!("pid-{pid}"), vec![event]);
    }
    let places = store.read_blocking(|tx| tx.meta(PLACES)).unwrap().unwrap();
    let places: BTreeMap<String, Place> = serde_json::from_str(&places).unwrap();
    assert_eq!(places.len(), FEEDS_MAX);
    assert!(places.contains_key("pid-99") && !places.contains_key("pid-0"));
}
