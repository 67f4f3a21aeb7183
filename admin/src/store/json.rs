//! JSON in columns.

use rusqlite::Row;
use serde::de::DeserializeOwned;

use super::StoreError;

/// Reads a column that holds JSON.
pub(super) fn read<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T, StoreError> {
    let text = row.get_ref(column)?.as_str().map_err(|_| damaged(column))?;
    serde_json::from_str(text).map_err(|_| damaged(column))
}

/// The text of a JSON value.
pub(super) fn text(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|_| StoreError::defect("a value is not JSON"))
}

/// Reads a column that holds one of a type's words.
pub(super) fn word<T: std::str::FromStr>(row: &Row<'_>, column: usize) -> Result<T, StoreError> {
    let text = row.get_ref(column)?.as_str().map_err(|_| damaged(column))?;
    text.parse().map_err(|_| damaged(column))
}

pub(super) fn damaged(column: usize) -> StoreError {
    StoreError::Corrupt(format!("column {column} of a row cannot be read"))
}
