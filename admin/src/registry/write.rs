//! Every change of what is stored: one transaction, then the data plane.

use std::sync::Arc;

use serde_json::json;

use super::change::{Change, Written};
use super::credentials::Sealer;
use super::desired::Desired;
use super::draft::{Draft, Target};
use super::error::RegistryError;
use super::object::Body;
use super::open::tell_conflicts;
use super::packed::pack;
use super::problem::Problem;
use super::state::State;
use super::{Base, Inner, Registry, lock, now};
use crate::store::{AuditEntry, ObjectKind, Role, Store, Tx};
use router::spec::Secret;

/// What a transaction did.
pub(super) struct Done {
    pub(super) before: Arc<State>,
    pub(super) base: Arc<Base>,
    pub(super) state: Arc<State>,
    pub(super) desired: Arc<Desired>,
    pub(super) target: Target,
    pub(super) version: u64,
    pub(super) secret: Option<Secret>,
}

impl Registry {
    /// Makes an object; a name that is only discovered is declared by it.
    ///
    /// # Errors
    /// As [`RegistryError`]; nothing is changed then. This holds for every write.
    pub async fn create(
        &self,
        kind: ObjectKind,
        body: Body,
        change: Change,
    ) -> Result<Written, RegistryError> {
        self.write("create", change, move |draft| draft.create(kind, body)).await
    }

    /// Puts another object in an object's place; credentials that are absent, or sent as they are shown, stay.
    ///
    /// # Errors
    /// As for [`Registry::create`].
    pub async fn replace(
        &self,
        kind: ObjectKind,
        id: &str,
        body: Body,
        change: Change,
    ) -> Result<Written, RegistryError> {
        let id = id.to_owned();
        self.write("replace", change, move |draft| draft.replace(kind, &id, body)).await
    }

    /// Applies a merge patch (RFC 7396). Of a file's object it changes the override; a discovered one it declares.
    ///
    /// # Errors
    /// As for [`Registry::create`].
    pub async fn patch(
        &self,
        kind: ObjectKind,
        id: &str,
        patch: Body,
        change: Change,
    ) -> Result<Written, RegistryError> {
        let id = id.to_owned();
        self.write("patch", change, move |draft| draft.patch(kind, &id, &patch)).await
    }

    /// Removes a stored object that nothing refers to.
    ///
    /// # Errors
    /// As for [`Registry::create`].
    pub async fn delete(
        &self,
        kind: ObjectKind,
        id: &str,
        change: Change,
    ) -> Result<Written, RegistryError> {
        let id = id.to_owned();
        self.write("delete", change, move |draft| draft.delete(kind, &id)).await
    }

    /// Gives a model its home region.
    ///
    /// # Errors
    /// As for [`Registry::create`].
    pub async fn set_region(
        &self,
        model: &str,
        region: &str,
        change: Change,
    ) -> Result<Written, RegistryError> {
        let (model, mut patch) = (model.to_owned(), Body::new());
        patch.insert("region".to_owned(), region.into());
        self.write("region", change, move |draft| draft.patch(ObjectKind::Model, &model, &patch))
            .await
    }

    /// Gives a model the head that is tried first; one outside of its regions is refused, naming those that would do.
    ///
    /// # Errors
    /// As for [`Registry::create`].
    pub async fn set_priority_head(
        &self,
        model: &str,
        head: &str,
        change: Change,
    ) -> Result<Written, RegistryError> {
        let (model, head) = (model.to_owned(), head.to_owned());
        self.write("priority-head", change, move |draft| draft.set_priority_head(&model, &head))
            .await
    }

    /// Puts an override in the place of an object's former one.
    ///
    /// # Errors
    /// As for [`Registry::create`].
    pub async fn set_override(
        &self,
        kind: ObjectKind,
        id: &str,
        body: Body,
        change: Change,
    ) -> Result<Written, RegistryError> {
        let id = id.to_owned();
        self.write("override", change, move |draft| draft.set_override(kind, &id, body)).await
    }

    /// Removes an object's override.
    ///
    /// # Errors
    /// As for [`Registry::create`].
    pub async fn clear_override(
        &self,
        kind: ObjectKind,
        id: &str,
        change: Change,
    ) -> Result<Written, RegistryError> {
        let id = id.to_owned();
        self.write("clear-override", change, move |draft| draft.clear_override(kind, &id)).await
    }

    /// Gives a key a new secret; the old one is refused from then on.
    ///
    /// # Errors
    /// As for [`Registry::create`].
    pub async fn rotate_key(&self, id: &str, change: Change) -> Result<Written, RegistryError> {
        let id = id.to_owned();
        self.write("rotate", change, move |draft| draft.rotate_key(&id)).await
    }

    /// Runs one change: in a transaction, then in the data plane.
    pub(super) async fn write(
        &self,
        action: &'static str,
        change: Change,
        edit: impl FnOnce(&mut Draft<'_>) -> Result<Target, RegistryError> + Send + 'static,
    ) -> Result<Written, RegistryError> {
        let store = self.writer()?;
        let inner = Arc::clone(&self.inner);
        let catalog = change.catalog.clone();
        let done = store.write(move |tx| inner.transact(tx, action, &change, edit)).await;
        if let Err(RegistryError::Stale { .. }) = done {
            self.hurry();
        }
        let done = done?;
        let applied = match self.inner.settle(&done) {
            Ok(applied) => applied,
            Err(error) => {
                self.undo(&store, done).await;
                return Err(error);
            }
        };
        let Done { desired, target, version, secret, .. } = done;
        let object = target.object.and_then(|(kind, name)| desired.object(kind, &name, &catalog));
        Ok(Written { object, version, applied, secret })
    }

    pub(super) fn writer(&self) -> Result<Store, RegistryError> {
        let store = self.store()?;
        if store.role() == Role::Follower {
            return Err(RegistryError::Follower);
        }
        Ok(store)
    }

    /// Takes back what the data plane refused.
    async fn undo(&self, store: &Store, done: Done) {
        let inner = Arc::clone(&self.inner);
        let Done { before, state, version, .. } = done;
        let undone = store
            .write(move |tx| {
                // What another process has written since would be lost.
                if tx.revision()? != state.revision {
                    return Err(RegistryError::Damaged("it has changed again".to_owned()));
                }
                let change = Change { actor: "forebay".to_owned(), ..Change::default() };
                inner.transact(tx, "undo", &change, move |draft| {
                    draft.state = State::clone(&before);
                    let summary = format!("take back version {version}: no data plane takes it");
                    Ok(Target::many(summary, Vec::new(), true))
                })
            })
            .await;
        match undone {
            Ok(done) => {
                let mut current = lock(&self.inner.current);
                current.state = done.state;
                current.desired = done.desired;
            }
            Err(error) => tracing::error!(%error, "a refused change cannot be taken back"),
        }
    }
}

/// The base, what is stored, and what comes of both.
type Before = (Arc<Base>, Arc<State>, Arc<Desired>);

impl Inner {
    /// The body of every write.
    pub(super) fn transact(
        &self,
        tx: &Tx,
        action: &str,
        change: &Change,
        edit: impl FnOnce(&mut Draft<'_>) -> Result<Target, RegistryError>,
    ) -> Result<Done, RegistryError> {
        let (base, before, desired) = self.now(tx)?;
        let now = now();
        let sealer =
            Sealer { vault: &self.vault, now, rng: fastrand::Rng::new(), rows: Vec::new() };
        let (state, secret) = (State::clone(&before), None);
        let mut draft = Draft { before: &desired, state, sealer, change, secret };
        let target = edit(&mut draft)?;
        let Draft { mut state, sealer, secret, .. } = draft;
        for row in sealer.rows {
            tx.put_sealed(&row)?;
            state.sealed.insert(row.id.clone(), row);
        }
        // A version may bring back references to values that only the store still has.
        for id in state.missing_credentials() {
            if let Some(row) = tx.sealed(&id)? {
                state.sealed.insert(id, row);
            }
        }
        state.forget_unused();
        state.stamp(&before, tx.next_revision()?, now);
        let merged = self.merge(&base, &state);
        if !target.lenient {
            refuse_conflicts(&merged, &desired, &target)?;
        }
        state.set_disabled(&merged.conflicts);
        state.write(&before, tx)?;
        tell_conflicts(&merged.conflicts, &desired.conflicts, now, tx)?;
        if state.objects.iter().any(|object| object.kind == ObjectKind::Key) && !state.keys_ever {
            State::remember_keys(tx)?;
            state.keys_ever = true;
        }
        let version =
            tx.add_version(now, &change.actor, &target.summary, &pack(state.to_json()?))?;
        record(tx, now, action, change, &target, version, &changed(&before, &state))?;
        let (state, desired) = (Arc::new(state), Arc::new(merged));
        Ok(Done { before, base, state, desired, target, version, secret })
    }

    /// The base, and what is stored at this moment of the transaction with what comes of both.
    fn now(&self, tx: &Tx) -> Result<Before, RegistryError> {
        let (base, state, desired) = {
            let current = lock(&self.current);
            (Arc::clone(&current.base), Arc::clone(&current.state), Arc::clone(&current.desired))
        };
        if tx.revision()? == state.revision {
            return Ok((base, state, desired));
        }
        let state = State::read(tx)?;
        let desired = self.merge(&base, &state);
        Ok((base, Arc::new(state), Arc::new(desired)))
    }

    /// Publishes what was committed, unless something newer is in force already.
    pub(super) fn settle(&self, done: &Done) -> Result<Option<u64>, RegistryError> {
        let mut current = lock(&self.current);
        if current.state.revision < done.state.revision {
            let desired = if Arc::ptr_eq(&current.base, &done.base) {
                Arc::clone(&done.desired)
            } else {
                Arc::new(self.merge(&current.base, &done.state))
            };
            self.install(&mut current, Arc::clone(&done.state), desired)?;
        }
        Ok(current.applied)
    }
}

/// A write must not make anything that is stored take no part.
fn refuse_conflicts(
    merged: &Desired,
    before: &Desired,
    target: &Target,
) -> Result<(), RegistryError> {
    let mut problems = Vec::new();
    for conflict in &merged.conflicts {
        let about = target.object.as_ref();
        if about.is_some_and(|(kind, name)| *kind == conflict.kind && *name == conflict.name) {
            problems.extend(conflict.problems.iter().cloned());
        } else if !before.conflicts.iter().any(|old| old.is_of(conflict)) {
            let what = if conflict.id.is_some() { "" } else { "the override of " };
            problems.extend(conflict.problems.iter().map(|problem| {
                let detail =
                    format!("{what}{} {:?}: {}", conflict.kind, conflict.name, problem.detail);
                Problem::new("", problem.code, detail)
            }));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(RegistryError::Invalid(problems)) }
}

/// Which members of which objects differ, without any value.
fn changed(before: &State, after: &State) -> Vec<String> {
    /// Most that are written down of one change.
    const SHOWN_MAX: usize = 100;
    let none = Body::new();
    let mut out = Vec::new();
    let known = before.by_id();
    for object in &after.objects {
        let old = known.get(object.id.as_str()).map_or(&none, |old| &old.body);
        let keys =
            object.body.keys().chain(old.keys().filter(|key| !object.body.contains_key(*key)));
        let differing = keys.filter(|key| object.body.get(*key) != old.get(*key));
        out.extend(differing.map(|key| format!("{} {}: {key}", object.kind, object.name)));
    }
    for over in &after.overrides {
        if before.over(over.kind, &over.name).is_none_or(|old| old.body != over.body) {
            let keys: Vec<&str> = over.body.keys().map(String::as_str).collect();
            out.push(format!("override of {} {}: {}", over.kind, over.name, keys.join(", ")));
        }
    }
    out.truncate(SHOWN_MAX);
    out
}

fn record(
    tx: &Tx,
    now: u64,
    action: &str,
    change: &Change,
    target: &Target,
    version: u64,
    changed: &[String],
) -> Result<(), RegistryError> {
    let subject = match &target.object {
        Some((kind, name)) => format!("{kind}/{name}"),
        None => "registry".to_owned(),
    };
    tx.add_audit(&AuditEntry {
        id: 0,
        at: now,
        actor: change.actor.clone(),
        role: change.role.clone(),
        action: format!("registry.{action}"),
        target: subject.clone(),
        outcome: "done".to_owned(),
        request_id: change.request_id.clone(),
        detail: json!({"version": version, "summary": target.summary, "parts": target.parts, "changed": changed}),
    })?;
    let detail = json!({"version": version, "actor": change.actor, "summary": target.summary});
    tx.add_event(now, "registry.changed", &subject, &detail)?;
    Ok(())
}
