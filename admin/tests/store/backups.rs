//! Backups: whole, for their owner only, and rotated.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use admin::store::{
    KEEP_DAYS, KEEP_LAST, KEEP_WEEKS, ObjectKind, Role, Sample, Store, StoreError, Subject,
    backup_name, keep,
};
use proptest::prelude::*;

use crate::{Place, object};

const DAY: u64 = 24 * 60 * 60 * 1000;

fn backups(place: &Place) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(place.path().with_file_name("forebay.db.backups")) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some());
    paths.sort();
    paths
}

#[tokio::test]
async fn a_backup_is_a_store_of_that_moment() {
    let place = Place::new();
    let store = place.writer();
    let put = |name: &'static str| {
        store.write(move |tx| tx.put_object(&object(ObjectKind::Backend, name, 1)))
    };
    put("before").await.unwrap();
    let sample = Sample {
        subject: Subject::new("backend", "before"),
        metric: "in_flight".to_owned(),
        at: 1_700_000_000,
        value: 1.0,
    };
    store.write(move |tx| tx.add_samples(&[sample])).await.unwrap();
    let path = store.backup().await.unwrap();
    put("after").await.unwrap();
    assert_eq!(backups(&place), std::slice::from_ref(&path));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    // Restored: put in the place of the file.
    drop(store);
    std::fs::copy(&path, place.path()).unwrap();
    let store = place.writer();
    let (objects, series) = store
        .read(|tx| {
            tx.check_integrity()?;
            let subject = Subject::new("backend", "before");
            Ok::<_, StoreError>((tx.objects(None)?, tx.history(&subject, &[], 0, u64::MAX, 10)?))
        })
        .await
        .unwrap();
    assert_eq!(objects, [object(ObjectKind::Backend, "before", 1)]);
    assert!(series.is_empty(), "measurements are in no backup");
}

#[tokio::test]
async fn backups_are_made_while_others_write() {
    let place = Place::new();
    let store = place.writer();
    let writing = {
        let store = store.clone();
        async move {
            for number in 0..200_u64 {
                let put = store.write(move |tx| {
                    tx.set_meta("a", &number.to_string())?;
                    tx.set_meta("b", &number.to_string())
                });
                put.await.unwrap();
            }
        }
    };
    let backing_up = async {
        for _ in 0..5 {
            let path = store.backup().await.unwrap();
            let copy = Store::open(&path, Role::Follower).unwrap();
            let read = copy.read(|tx| Ok::<_, StoreError>((tx.meta("a")?, tx.meta("b")?)));
            let (a, b) = read.await.unwrap();
            assert_eq!(a, b);
        }
    };
    tokio::join!(writing, backing_up);
}

#[test]
fn a_start_on_an_existing_file_makes_one() {
    let place = Place::new();
    drop(place.writer());
    assert!(backups(&place).is_empty());
    // A close waits for the backup that the start has begun.
    drop(place.writer());
    assert_eq!(backups(&place).len(), 1);
    for _ in 0..KEEP_LAST + 3 {
        drop(place.writer());
    }
    let kept = backups(&place).len();
    assert!((KEEP_LAST..=KEEP_LAST + 2).contains(&kept), "{kept}");
}

#[tokio::test]
async fn a_follower_makes_none() {
    let place = Place::new();
    let _writer = place.writer();
    let follower = Store::open(&place.path(), Role::Follower).unwrap();
    assert_eq!(follower.backup().await, Err(StoreError::ReadOnly));
}

#[test]
fn a_failed_backup_leaves_nothing_behind() {
    let place = Place::new();
    drop(place.writer());
    std::fs::write(place.path().with_file_name("forebay.db.backups"), "in the way").unwrap();
    let begun = Instant::now();
    let store = place.writer();
    store.write_blocking(|tx| tx.set_meta("a", "b")).unwrap();
    drop(store);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_name_says_its_moment() {
    assert_eq!(backup_name(1_795_278_600_123), "20261121T163000.123Z.db");
    assert!(backup_name(0) < backup_name(1_795_278_600_123));
}

/// A backup every six hours for two months: what is left at its end.
#[test]
fn what_is_left_gets_sparser_with_age() {
    let start = 1_790_000_000_000;
    let mut names = Vec::new();
    let mut now = start;
    while now < start + 60 * DAY {
        names.push(backup_name(now));
        let removed = keep(now, &names);
        names.retain(|name| !removed.contains(name));
        assert!(names.len() <= KEEP_LAST + KEEP_DAYS + KEEP_WEEKS);
        now += DAY / 4;
    }
    let last = now - DAY / 4;
    let age =
        |name: &String| (0..).find(|step| backup_name(last - step * DAY / 4) == *name).unwrap() / 4;
    let ages: Vec<u64> = names.iter().rev().map(age).collect();
    // The last ten span two and a half days, then one a day up to a week, then one in each of four weeks.
    assert_eq!(ages[..KEEP_LAST], [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]);
    let (oldest, rest) = (ages.last().unwrap(), ages.len() - KEEP_LAST);
    assert!((14..=28).contains(oldest), "{ages:?}");
    assert!((4 + 2..=KEEP_DAYS + KEEP_WEEKS).contains(&rest), "{ages:?}");
}

proptest! {
    #[test]
    fn what_is_removed_is_always_a_backup_and_never_the_newest(
        mut ages in prop::collection::vec(0_u64..120 * DAY, 0..80),
        future in prop::collection::vec(1_u64..9 * DAY, 0..5),
    ) {
        let now = 1_795_278_600_000;
        let mut names: Vec<String> = ages.iter().map(|age| backup_name(now - age)).collect();
        names.extend(future.iter().map(|ahead| backup_name(now + ahead)));
        let strangers = ["unfinished", "notes.txt", "20261121T153000.123Z.db.bak", "2026Z.db"];
        names.extend(strangers.map(str::to_owned));
        let removed = keep(now, &names);
        prop_assert!(removed.iter().all(|name| !strangers.contains(&name.as_str())));
        ages.sort_unstable();
        ages.dedup();
        let kept: Vec<u64> =
            ages.iter().copied().filter(|age| !removed.contains(&backup_name(now - age))).collect();
        prop_assert!(kept.len() <= KEEP_LAST + KEEP_DAYS + KEEP_WEEKS);
        let last = ages.len().min(KEEP_LAST);
        prop_assert_eq!(&kept[..last], &ages[..last]);
        for ahead in future {
            prop_assert!(!removed.contains(&backup_name(now + ahead)));
        }
        // Of each of the newest days and weeks that have any, the newest one is there.
        let groups = |length: u64, offset: u64, count: usize| {
            let mut newest: Vec<(u64, u64)> =
                ages.iter().map(|age| ((now - age) / length + offset, *age)).collect();
            newest.dedup_by_key(|(group, _)| *group);
            newest.into_iter().take(count).map(|(_, age)| age).collect::<Vec<_>>()
        };
        for age in groups(DAY, 0, KEEP_DAYS) {
            prop_assert!(kept.contains(&age));
        }
        // Once more removes no more.
        let left: Vec<String> = names.iter().filter(|name| !removed.contains(name)).cloned().collect();
        prop_assert!(keep(now, &left).is_empty());
    }
}
