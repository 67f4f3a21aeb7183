//! Transactions: whole or not at all, in order, and within bounds.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use admin::store::{ObjectKind, QUEUE_MAX, StoreError};

use crate::{Place, object};

#[test]
fn an_error_and_a_panic_undo_everything() {
    let place = Place::new();
    let store = place.writer();
    let put = |name: &'static str| object(ObjectKind::Backend, name, 1);
    let failed: Result<(), _> = store.write_blocking(move |tx| {
        tx.put_object(&put("a"))?;
        Err(StoreError::Busy)
    });
    assert_eq!(failed, Err(StoreError::Busy));
    let failed: Result<(), StoreError> = store.write_blocking(move |tx| {
        tx.put_object(&put("b"))?;
        panic!("on purpose")
    });
    assert!(matches!(failed, Err(StoreError::Other(_))), "{failed:?}");
    store.write_blocking(move |tx| tx.put_object(&put("c"))).unwrap();
    let names = store.read_blocking(|tx| tx.objects(None)).unwrap();
    assert_eq!(names.iter().map(|object| object.name.as_str()).collect::<Vec<_>>(), ["c"]);
}

#[test]
fn a_revision_is_never_given_out_twice() {
    let place = Place::new();
    let store = place.writer();
    let (tell, told) = channel();
    for failing in [false, true, true, false] {
        let tell = tell.clone();
        let _ = store.write_blocking(move |tx| {
            tell.send(tx.next_revision()?).unwrap();
            if failing { Err(StoreError::Busy) } else { Ok(()) }
        });
    }
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(store.read_blocking(|tx| tx.revision()).unwrap(), 4);
    drop(store);
    let again = place.writer().write_blocking(|tx| tx.next_revision()).unwrap();
    assert_eq!(again, 5);
}

#[tokio::test]
async fn too_many_that_wait_are_refused_and_the_rest_is_done_in_order() {
    let place = Place::new();
    let store = place.writer();
    let (held, hold) = channel::<()>();
    let (running, runs) = channel();
    let first = tokio::spawn({
        let store = store.clone();
        async move {
            let job = store.write(move |_| {
                running.send(()).unwrap();
                let _ = hold.recv();
                Ok::<_, StoreError>(())
            });
            job.await
        }
    });
    while runs.try_recv().is_err() {
        tokio::task::yield_now().await;
    }
    let asked = Arc::new(AtomicUsize::new(0));
    let writes: Vec<_> = (0..QUEUE_MAX + 5)
        .map(|at| {
            let (store, asked) = (store.clone(), asked.clone());
            async move {
                asked.fetch_add(1, Ordering::Relaxed);
                store.write(move |tx| tx.set_meta("last", &at.to_string())).await
            }
        })
        .map(tokio::spawn)
        .collect();
    // One thread runs them, so each has asked when the next one counts.
    while asked.load(Ordering::Relaxed) < writes.len() {
        tokio::task::yield_now().await;
    }
    drop(held);
    first.await.unwrap().unwrap();
    let mut ends = Vec::new();
    for write in writes {
        ends.push(write.await.unwrap());
    }
    let refused = ends.iter().filter(|end| **end == Err(StoreError::Busy)).count();
    assert_eq!(refused, 5);
    let last = store.read(|tx| tx.meta("last")).await.unwrap();
    assert_eq!(last, Some((QUEUE_MAX - 1).to_string()));
}

#[test]
fn a_job_that_waits_for_another_is_a_defect_and_no_deadlock() {
    let place = Place::new();
    let store = place.writer();
    let inner = store.clone();
    let done: Result<(), StoreError> =
        store.write_blocking(move |_| inner.write_blocking(|tx| tx.set_meta("a", "b")));
    assert!(matches!(done, Err(StoreError::Other(_))), "{done:?}");
}

#[test]
fn a_closed_store_has_done_what_it_was_asked_and_is_one_file() {
    let place = Place::new();
    let store = place.writer();
    store.write_blocking(|tx| tx.set_meta("a", "b")).unwrap();
    let mode = |name: &str| {
        std::fs::metadata(place.path().with_file_name(name)).map(|meta| meta.permissions().mode())
    };
    for name in ["forebay.db", "forebay.db-wal", "forebay.db-shm"] {
        assert_eq!(mode(name).unwrap() & 0o777, 0o600, "{name}");
    }
    assert_eq!(mode(".").unwrap() & 0o777, 0o700);
    drop(store);
    assert!(mode("forebay.db-wal").is_err());
    let read = place.writer().read_blocking(|tx| tx.meta("a")).unwrap();
    assert_eq!(read.as_deref(), Some("b"));
}
