//! What was stored before: lists, texts, differences, and the way back.

use similar::TextDiff;

use super::Registry;
use super::change::{Change, Written};
use super::draft::Target;
use super::error::RegistryError;
use super::export::state_text;
use super::packed::unpack;
use super::state::State;
use crate::store::{StoreError, Tx, VersionHead};

/// Unchanged lines around each difference.
const CONTEXT: usize = 3;

impl Registry {
    /// Versions, newest first, older than `before`.
    ///
    /// # Errors
    /// [`RegistryError::Store`].
    pub async fn versions(
        &self,
        limit: usize,
        before: Option<u64>,
    ) -> Result<Vec<VersionHead>, RegistryError> {
        Ok(self.store()?.read(move |tx| tx.versions(limit, before)).await?)
    }

    /// One version: its stored objects and overrides as TOML, with placeholders for credentials.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`], [`RegistryError::Damaged`], [`RegistryError::Store`].
    pub async fn version(&self, number: u64) -> Result<(VersionHead, String), RegistryError> {
        self.store()?.read(move |tx| text(tx, number)).await
    }

    /// What differs between two versions, as a unified diff of their TOML; empty where nothing does.
    ///
    /// # Errors
    /// As for [`Registry::version`].
    pub async fn diff(&self, from: u64, to: u64) -> Result<String, RegistryError> {
        let (old, new) = self
            .store()?
            .read(move |tx| Ok::<_, RegistryError>((text(tx, from)?, text(tx, to)?)))
            .await?;
        let diff = TextDiff::from_lines(&old.1, &new.1);
        let names = (format!("version {from}"), format!("version {to}"));
        Ok(diff.unified_diff().context_radius(CONTEXT).header(&names.0, &names.1).to_string())
    }

    /// Makes stored objects and overrides what they were in a version. What conflicts with the files of today takes no part.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`]; as for [`Registry::create`].
    pub async fn rollback(&self, version: u64, change: Change) -> Result<Written, RegistryError> {
        let kept = self.store()?.read(move |tx| state(tx, version)).await?;
        self.write("rollback", change, move |draft| {
            draft.state.objects = kept.objects;
            draft.state.overrides = kept.overrides;
            let summary = format!("roll back to version {version}");
            Ok(Target::many(summary, Vec::new(), true))
        })
        .await
    }
}

fn stored(tx: &Tx, number: u64) -> Result<(VersionHead, String), RegistryError> {
    let found = tx.version(number).map_err(|error: StoreError| RegistryError::Store(error))?;
    let found =
        found.ok_or_else(|| RegistryError::NotFound { what: format!("version {number}") })?;
    let state = unpack(&found.state);
    let damaged = || RegistryError::Damaged(format!("version {number} cannot be read"));
    Ok((found.head, state.ok_or_else(damaged)?))
}

fn state(tx: &Tx, number: u64) -> Result<State, RegistryError> {
    State::of_json(&stored(tx, number)?.1)
}

fn text(tx: &Tx, number: u64) -> Result<(VersionHead, String), RegistryError> {
    let (head, state) = stored(tx, number)?;
    Ok((head, state_text(&State::of_json(&state)?)))
}
