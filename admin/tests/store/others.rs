//! Other processes on the same file: a second writer, and those that follow.

use std::io::{BufRead, BufReader};

use admin::store::{ObjectKind, Role, Store, StoreError};

use crate::{Place, child, object};

#[test]
fn two_processes_write_one_file() {
    let place = Place::new();
    // Both make the file and its format, too.
    let start = |name: &str| child::of(&format!("write {name}"), &place.path()).spawn().unwrap();
    let processes = ["one", "two"].map(start);
    for mut process in processes {
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let acks = lines.map_while(Result::ok).filter(|line| child::acknowledged(line).is_some());
        assert_eq!(acks.count(), 300);
        assert!(process.wait().unwrap().success());
    }
    let store = place.writer();
    let (objects, revision) =
        store.read_blocking(|tx| Ok::<_, StoreError>((tx.objects(None)?, tx.revision()?))).unwrap();
    let mut revisions: Vec<u64> = objects.iter().map(|object| object.revision).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=600).collect::<Vec<_>>());
    assert_eq!(revision, 600);
}

#[test]
fn a_follower_sees_what_is_committed_and_changes_nothing() {
    let place = Place::new();
    let writer = place.writer();
    let follower = Store::open(&place.path(), Role::Follower).unwrap();
    let before = follower.data_version_blocking().unwrap();
    assert_eq!(follower.data_version_blocking().unwrap(), before);
    let put = |name: &'static str| {
        writer.write_blocking(move |tx| tx.put_object(&object(ObjectKind::Model, name, 1)))
    };
    put("a").unwrap();
    assert_ne!(follower.data_version_blocking().unwrap(), before);
    let seen = follower.read_blocking(|tx| tx.object(ObjectKind::Model, "a")).unwrap();
    assert_eq!(seen, Some(object(ObjectKind::Model, "a", 1)));

    let refused = Some(StoreError::ReadOnly);
    assert_eq!(follower.write_blocking(|tx| tx.set_meta("a", "b")).err(), refused);
    assert_eq!(follower.read_blocking(|tx| tx.set_meta("a", "b")).err(), refused);
    assert_eq!(writer.read_blocking(|tx| tx.set_meta("a", "b")).err(), refused);

    // It goes on when the writer ends, and when the next one comes.
    drop(writer);
    assert!(follower.read_blocking(|tx| tx.objects(None)).unwrap().len() == 1);
    let writer = place.writer();
    writer.write_blocking(|tx| tx.delete_object(ObjectKind::Model, "model_a")).unwrap();
    assert!(follower.read_blocking(|tx| tx.objects(None)).unwrap().is_empty());
}

#[test]
fn a_follower_without_a_file_says_so() {
    let place = Place::new();
    let open = || Store::open(&place.path(), Role::Follower).err();
    assert_eq!(open(), Some(StoreError::Missing));
    assert!(!place.path().exists());
    drop(place.writer());
    assert_eq!(open(), None);
}
