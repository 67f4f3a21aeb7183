//! Formats: a file that any earlier build wrote opens with everything in it; one of a later build is left alone.

use admin::store::{
    AuditCheck, AuditFilter, EventFilter, FORMAT, ObjectKind, Role, Store, StoreError,
};
use rusqlite::Connection;

use crate::Place;

/// What each format's build wrote, as SQL.
const FORMATS: [&str; 3] =
    [include_str!("formats/1.sql"), include_str!("formats/2.sql"), include_str!("formats/3.sql")];

fn written(place: &Place, sql: &str) {
    std::fs::create_dir_all(place.path().parent().unwrap()).unwrap();
    Connection::open(place.path()).unwrap().execute_batch(sql).unwrap();
}

fn schema(place: &Place) -> Vec<String> {
    let conn = Connection::open(place.path()).unwrap();
    let sql = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name";
    let mut statement = conn.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    rows.map(|sql| sql.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn every_earlier_format_is_migrated_with_what_is_in_it() {
    assert_eq!(FORMATS.len(), FORMAT as usize, "a new format needs a file of its own here");
    let fresh = Place::new();
    drop(fresh.writer());
    for (sql, format) in FORMATS.into_iter().zip(1..) {
        let place = Place::new();
        written(&place, sql);
        let store = place.writer();
        store.read_blocking(move |tx| holds(tx, format)).unwrap();
        drop(store);
        assert_eq!(schema(&place), schema(&fresh), "format {format}");
        // What it was before it was migrated is kept.
        let folder = place.path().with_file_name("forebay.db.backups");
        let backups: Vec<_> = std::fs::read_dir(folder).unwrap().collect();
        assert_eq!(backups.len(), 1, "format {format}");
        let backup = Connection::open(backups[0].as_ref().unwrap().path()).unwrap();
        let found = backup.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0));
        assert_eq!(found.unwrap(), format);
    }
}

fn holds(tx: &admin::store::Tx, format: u32) -> Result<(), StoreError> {
    tx.check_integrity()?;
    assert_eq!(tx.revision()?, 7);
    let object = tx.object(ObjectKind::Backend, "eu-1")?.unwrap();
    assert_eq!((object.id.as_str(), object.revision), ("backend_1", 6));
    assert_eq!(object.body["url"], "http://10.0.0.4:8000");
    assert_eq!(tx.overrides()?[0].author, "ops");
    assert_eq!(tx.version(2)?.unwrap().head.summary, "add eu-1");
    assert_eq!(tx.sealed("se_1")?.unwrap().last4.as_deref(), Some("cdef"));
    if format >= 2 {
        assert_eq!(tx.token("root")?.unwrap().digest, [0xab; 32]);
        assert_eq!(tx.audit(&AuditFilter::default(), 9, None)?.len(), 2);
        assert!(matches!(tx.verify_audit()?, AuditCheck::Whole { entries: 2, .. }));
        assert_eq!(tx.events(0, 9, &EventFilter::default())?[0].id, 41);
        assert_eq!(tx.jobs(9, None)?[0].kind, "discover");
    }
    if format >= 3 {
        let subject = admin::store::Subject::new("backend", "eu-1");
        let series = tx.history(&subject, &[], 0, u64::MAX, 10)?;
        assert_eq!(series[0].points[0].value, 1.5);
    }
    Ok(())
}

#[test]
fn a_newer_file_is_left_as_it_is() {
    let place = Place::new();
    drop(place.writer());
    let conn = Connection::open(place.path()).unwrap();
    conn.pragma_update(None, "user_version", FORMAT + 1).unwrap();
    conn.close().unwrap();
    let before = std::fs::read(place.path()).unwrap();
    for role in [Role::Writer, Role::Follower] {
        let newer = StoreError::Newer { found: FORMAT + 1, known: FORMAT };
        assert_eq!(Store::open(&place.path(), role).err(), Some(newer));
    }
    assert_eq!(std::fs::read(place.path()).unwrap(), before);
}

#[test]
fn a_follower_waits_for_the_migration_of_an_older_file() {
    let place = Place::new();
    written(&place, FORMATS[0]);
    let older = StoreError::Older { found: 1, known: FORMAT };
    assert_eq!(Store::open(&place.path(), Role::Follower).err(), Some(older));
    let _writer = place.writer();
    Store::open(&place.path(), Role::Follower).unwrap();
}

#[test]
fn a_file_that_is_not_ours_is_refused() {
    let place = Place::new();
    written(&place, "CREATE TABLE theirs (a);");
    let before = std::fs::read(place.path()).unwrap();
    let open = |place: &Place| Store::open(&place.path(), Role::Writer).unwrap_err();
    assert!(matches!(open(&place), StoreError::Corrupt(_)));
    assert_eq!(std::fs::read(place.path()).unwrap(), before);
    let place = Place::new();
    std::fs::create_dir_all(place.path().parent().unwrap()).unwrap();
    std::fs::write(place.path(), "no database at all, but a text that is long enough".repeat(99))
        .unwrap();
    assert!(matches!(open(&place), StoreError::Corrupt(_)));
}

#[test]
fn a_damaged_page_is_found() {
    let place = Place::new();
    let store = place.writer();
    let fill = store.write_blocking(|tx| {
        (0..200).try_for_each(|at| {
            tx.put_object(&crate::object(ObjectKind::Backend, &format!("b{at}"), 1))
        })
    });
    fill.unwrap();
    drop(store);
    let mut bytes = std::fs::read(place.path()).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xff);
    std::fs::write(place.path(), bytes).unwrap();
    let found = Store::open(&place.path(), Role::Follower)
        .and_then(|store| store.read_blocking(|tx| tx.check_integrity()));
    assert!(matches!(found, Err(StoreError::Corrupt(_))), "{found:?}");
}
