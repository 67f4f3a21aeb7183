//! Every noun of the store: what goes in comes out, within its bounds.

use admin::role::Role as TokenRole;
use admin::store::{
    ANSWERS_KEPT_MS, ANSWERS_MAX, AnswerKey, AuditCheck, AuditFilter, EVENTS_MAX, EventFilter,
    JOBS_MAX, JobState, ObjectKind, SealedRow, StoreError, StoredAnswer, StoredJob, StoredOverride,
    StoredToken, Tx, VERSIONS_MAX,
};
use rusqlite::Connection;
use serde_json::json;

use crate::{Place, entry, object};

/// Runs `test` in one transaction of a new store.
fn within(test: impl FnOnce(&Tx) -> Result<(), StoreError> + Send + 'static) {
    Place::new().writer().write_blocking(test).unwrap();
}

#[test]
fn objects_are_found_by_id_and_by_name() {
    within(|tx| {
        let mut one = object(ObjectKind::Backend, "one", 1);
        tx.put_object(&one)?;
        tx.put_object(&object(ObjectKind::Model, "one", 2))?;
        assert_eq!(tx.object(ObjectKind::Backend, "one")?.as_ref(), Some(&one));
        assert_eq!(tx.object(ObjectKind::Backend, "backend_one")?.as_ref(), Some(&one));
        assert_eq!(tx.object(ObjectKind::Head, "one")?, None);
        // A name that is another's id does not hide it.
        let mut odd = object(ObjectKind::Backend, "backend_one", 3);
        odd.id = "backend_odd".to_owned();
        tx.put_object(&odd)?;
        assert_eq!(tx.object(ObjectKind::Backend, "backend_one")?.as_ref(), Some(&one));

        one.name = "renamed".to_owned();
        one.disabled = Some("the file has one of this name".to_owned());
        tx.put_object(&one)?;
        assert_eq!(tx.object(ObjectKind::Backend, "one")?, None);
        assert_eq!(tx.object(ObjectKind::Backend, "renamed")?, Some(one));

        let names = |kind| {
            let all = tx.objects(kind).unwrap().into_iter();
            all.map(|object| format!("{} {}", object.kind, object.name)).collect::<Vec<_>>()
        };
        assert_eq!(names(None), ["backend backend_one", "backend renamed", "model one"]);
        assert_eq!(names(Some(ObjectKind::Model)), ["model one"]);
        assert!(!tx.delete_object(ObjectKind::Model, "backend_one")?);
        assert!(tx.delete_object(ObjectKind::Backend, "backend_one")?);
        assert_eq!(names(Some(ObjectKind::Backend)), ["backend backend_one"]);
        Ok(())
    });
}

#[test]
fn a_name_is_taken_once_per_kind() {
    within(|tx| {
        tx.put_object(&object(ObjectKind::Backend, "one", 1))?;
        let mut other = object(ObjectKind::Backend, "one", 1);
        other.id = "backend_other".to_owned();
        assert_eq!(tx.put_object(&other), Err(StoreError::Taken));
        Ok(())
    });
}

#[test]
fn an_override_is_one_per_object() {
    within(|tx| {
        let mut change = StoredOverride {
            kind: ObjectKind::Model,
            name: "m".to_owned(),
            body: json!({"region": "eu"}).as_object().unwrap().clone(),
            revision: 1,
            updated_at: 2,
            author: "ops".to_owned(),
        };
        tx.put_override(&change)?;
        change.body.insert("enabled".to_owned(), false.into());
        change.revision = 2;
        tx.put_override(&change)?;
        assert_eq!(tx.overrides()?, [change.clone()]);
        assert_eq!(tx.override_of(ObjectKind::Model, "m")?, Some(change));
        assert_eq!(tx.override_of(ObjectKind::Backend, "m")?, None);
        assert!(tx.delete_override(ObjectKind::Model, "m")?);
        assert!(!tx.delete_override(ObjectKind::Model, "m")?);
        Ok(())
    });
}

#[test]
fn the_last_versions_are_kept() {
    within(|tx| {
        for number in 1..=VERSIONS_MAX + 3 {
            let state = format!("{{\"n\": {number}}}");
            assert_eq!(tx.add_version(number, "ops", "a change", &state)?, number);
        }
        assert_eq!(tx.version(3)?, None);
        assert_eq!(tx.version(4)?.unwrap().state, "{\"n\": 4}");
        let page = tx.versions(2, Some(1000))?;
        assert_eq!(page.iter().map(|head| head.number).collect::<Vec<_>>(), [999, 998]);
        assert_eq!(tx.versions(usize::MAX, None)?.len() as u64, VERSIONS_MAX);
        Ok(())
    });
}

#[test]
fn events_are_kept_up_to_a_bound_and_never_get_an_old_id() {
    within(|tx| {
        for number in 1..=EVENTS_MAX + 7 {
            let kind = if number % 2 == 0 { "even" } else { "odd" };
            assert_eq!(tx.add_event(number, kind, "b", &json!({"n": number}))?, number);
        }
        let all = EventFilter::default();
        let ids = |events: Vec<admin::store::StoredEvent>| {
            events.into_iter().map(|event| event.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(tx.events(0, 2, &all)?), [8, 9]);
        let even = EventFilter { kind: Some("even".to_owned()), subject: Some("b".to_owned()) };
        assert_eq!(ids(tx.events(8, 2, &even)?), [10, 12]);
        assert_eq!(ids(tx.events_before(None, 2, &all)?), [10_007, 10_006]);
        assert_eq!(ids(tx.events_before(Some(12), 9, &even)?), [10, 8]);
        assert_eq!(tx.events(8, 1, &all)?[0].detail, json!({"n": 9}));
        Ok(())
    });
}

#[test]
fn tokens_are_found_by_digest_and_end() {
    within(|tx| {
        let mut token = StoredToken {
            id: "to_1".to_owned(),
            name: "ops".to_owned(),
            role: TokenRole::Operator,
            digest: [7; 32],
            created_at: 1,
            created_by: "root".to_owned(),
            expires: Some(99),
            last_used: None,
            disabled: false,
        };
        tx.add_token(&token)?;
        assert_eq!(tx.token_by_digest(&[7; 32])?.as_ref(), Some(&token));
        assert_eq!(tx.token_by_digest(&[8; 32])?, None);
        let other = StoredToken { id: "to_2".to_owned(), digest: [8; 32], ..token.clone() };
        assert_eq!(tx.add_token(&other), Err(StoreError::Taken));
        tx.touch_token("to_1", 50)?;
        token.last_used = Some(50);
        assert_eq!(tx.token("ops")?.as_ref(), Some(&token));
        token.disabled = true;
        token.role = TokenRole::Viewer;
        assert!(tx.update_token(&token)?);
        assert_eq!(tx.tokens()?, [token]);
        assert!(tx.delete_token("to_1")?);
        assert_eq!(tx.token("to_1")?, None);
        Ok(())
    });
}

fn job(number: u64) -> StoredJob {
    StoredJob {
        id: format!("jo_{number}"),
        kind: "health-check".to_owned(),
        state: JobState::Queued,
        progress: (0, 3),
        detail: json!({}),
        created_at: number,
        updated_at: number,
        actor: "ops".to_owned(),
    }
}

#[test]
fn the_last_jobs_are_kept_however_often_they_change() {
    within(|tx| {
        for number in 1..=JOBS_MAX + 2 {
            let mut job = job(number);
            for step in 0..3 {
                job.progress.0 = step;
                tx.put_job(&job)?;
            }
        }
        assert_eq!(tx.job("jo_2")?, None);
        assert_eq!(tx.job("jo_3")?.unwrap().progress, (2, 3));
        let page = tx.jobs(2, Some("jo_5"))?;
        assert_eq!(page.iter().map(|job| job.id.as_str()).collect::<Vec<_>>(), ["jo_4", "jo_3"]);
        assert_eq!(tx.jobs(usize::MAX, None)?.len() as u64, JOBS_MAX);
        Ok(())
    });
}

#[test]
fn a_job_whose_process_ended_is_interrupted() {
    let place = Place::new();
    let store = place.writer();
    let states = [JobState::Queued, JobState::Running, JobState::Done, JobState::Failed];
    let put = store.write_blocking(move |tx| {
        for (number, state) in (0..).zip(states) {
            tx.put_job(&StoredJob { state, ..job(number) })?;
        }
        Ok::<_, StoreError>(())
    });
    put.unwrap();
    drop(store);
    let found = place.writer().read_blocking(|tx| tx.jobs(10, None)).unwrap();
    let found: Vec<_> = found.iter().rev().map(|job| job.state).collect();
    let interrupted = JobState::Interrupted;
    assert_eq!(found, [interrupted, interrupted, JobState::Done, JobState::Failed]);
}

#[test]
fn an_answer_is_given_again_for_a_day() {
    within(|tx| {
        let key = |number: u64| AnswerKey {
            key: *blake3::hash(&number.to_le_bytes()).as_bytes(),
            token: "to_1".to_owned(),
            route: "POST /admin/backends".to_owned(),
        };
        let answer = StoredAnswer {
            request: [1; 32],
            status: 201,
            headers: vec![("location".to_owned(), "/admin/backends/b".to_owned())],
            body: b"{}".to_vec(),
        };
        tx.add_answer(&key(0), &answer, 1000)?;
        assert_eq!(tx.add_answer(&key(0), &answer, 1001), Err(StoreError::Taken));
        assert_eq!(tx.answer(&key(0), 1000 + ANSWERS_KEPT_MS - 1)?.as_ref(), Some(&answer));
        assert_eq!(tx.answer(&key(0), 1000 + ANSWERS_KEPT_MS)?, None);
        let elsewhere = AnswerKey { token: "to_2".to_owned(), ..key(0) };
        assert_eq!(tx.answer(&elsewhere, 1001)?, None);
        // The old one gives way to a new one under the same key.
        tx.add_answer(&key(0), &answer, 1000 + ANSWERS_KEPT_MS)?;
        let now = 1000 + ANSWERS_KEPT_MS;
        for number in 1..=ANSWERS_MAX {
            tx.add_answer(&key(number), &answer, now)?;
        }
        assert_eq!(tx.answer(&key(0), now)?, None);
        assert!(tx.answer(&key(1), now)?.is_some());
        Ok(())
    });
}

#[test]
fn a_sealed_row_is_one_per_field() {
    within(|tx| {
        let row = |id: &str, field: &str, key_id: &str| SealedRow {
            id: id.to_owned(),
            owner_kind: "backend".to_owned(),
            owner_id: "be_1".to_owned(),
            field: field.to_owned(),
            key_id: key_id.to_owned(),
            sealed: vec![1, 0, 255],
            last4: None,
            fingerprint: "f".to_owned(),
            updated_at: 1,
        };
        let (api_key, ca) = (row("se_1", "api_key", "k1"), row("se_2", "ca", "k2"));
        tx.put_sealed(&api_key)?;
        tx.put_sealed(&ca)?;
        assert_eq!(tx.put_sealed(&row("se_3", "ca", "k1")), Err(StoreError::Taken));
        assert_eq!(tx.sealed("se_1")?.as_ref(), Some(&api_key));
        assert_eq!(tx.sealed_of("backend", "be_1")?, [api_key.clone(), ca.clone()]);
        assert_eq!(tx.sealed_of("backend", "be_2")?, []);
        assert_eq!(tx.sealed_rows(9, "se_1")?, std::slice::from_ref(&ca));
        assert_eq!(tx.sealed_under_others("k2", 9, "")?, [api_key]);
        assert_eq!(tx.sealed_samples()?.len(), 2);
        assert!(tx.delete_sealed("se_1")?);
        assert_eq!(tx.sealed_rows(9, "")?, [ca]);
        Ok(())
    });
}

#[test]
fn the_audit_trail_is_filtered_and_paged() {
    within(|tx| {
        assert!(matches!(tx.verify_audit()?, AuditCheck::Whole { entries: 0, .. }));
        for number in 1..=5 {
            let action = if number == 3 { "delete" } else { "create" };
            assert_eq!(tx.add_audit(&entry(action, &format!("b{number}")))?, number);
        }
        let ids = |filter: &AuditFilter, before| {
            let found = tx.audit(filter, 2, before).unwrap();
            found.into_iter().map(|entry| entry.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&AuditFilter::default(), None), [5, 4]);
        assert_eq!(ids(&AuditFilter::default(), Some(2)), [1]);
        let created = AuditFilter { action: Some("create".to_owned()), ..AuditFilter::default() };
        assert_eq!(ids(&created, Some(4)), [2, 1]);
        let hostile = "x' OR '1'='1".to_owned();
        assert!(ids(&AuditFilter { actor: Some(hostile), ..created }, None).is_empty());
        assert!(matches!(tx.verify_audit()?, AuditCheck::Whole { entries: 5, .. }));
        Ok(())
    });
}

#[test]
fn what_was_done_to_the_audit_trail_shows() {
    let defences = "DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_is_not_removed;";
    for (tampering, at) in [
        ("UPDATE audit SET actor = 'nobody' WHERE id = 2", 2),
        ("UPDATE audit SET detail = '{}' WHERE id = 4", 4),
        ("DELETE FROM audit WHERE id = 3", 3),
        ("DELETE FROM audit WHERE id >= 4", 4),
        ("DELETE FROM audit WHERE id = 1", 1),
        ("UPDATE audit SET target = action, action = target WHERE id = 5", 5),
    ] {
        let place = Place::new();
        let store = place.writer();
        let add = |number: u64| {
            store.write_blocking(move |tx| tx.add_audit(&entry("create", &number.to_string())))
        };
        (1..=5).for_each(|number| assert_eq!(add(number), Ok(number)));
        let conn = Connection::open(place.path()).unwrap();
        let refused = conn.execute_batch(tampering).unwrap_err().to_string();
        assert!(refused.contains("append-only"), "{refused}");
        conn.execute_batch(&format!("{defences} {tampering}")).unwrap();
        let found = store.read_blocking(|tx| tx.verify_audit()).unwrap();
        assert_eq!(found, AuditCheck::Broken { at }, "{tampering}");
    }
}
