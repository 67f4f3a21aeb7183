//! Lists in pages: sorted by a key that does not change, so that what comes and goes meanwhile neither repeats nor hides
//! anything else.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::api::problem::Problem;

/// Most entries of a page.
pub(crate) const LIMIT_MAX: usize = 500;
/// Entries of a page when nothing is said.
pub(crate) const LIMIT: usize = 100;

/// One page of a list.
#[derive(Debug, Serialize)]
pub(crate) struct Page<T> {
    /// The entries.
    pub(crate) data: Vec<T>,
    /// Where the next page begins, for `cursor`; null on the last page.
    pub(crate) next_cursor: Option<String>,
}

/// Written out, since a derived schema has the same name for every `T`.
impl<T: ToSchema> PartialSchema for Page<T> {
    fn schema() -> RefOr<Schema> {
        let schema = serde_json::from_value(schema_of(&T::name()));
        schema.unwrap_or_else(|_| RefOr::T(Schema::default()))
    }
}

impl<T: ToSchema> ToSchema for Page<T> {
    fn name() -> Cow<'static, str> {
        Cow::Owned(format!("{}Page", T::name()))
    }

    fn schemas(all: &mut Vec<(String, RefOr<Schema>)>) {
        all.push((T::name().into_owned(), T::schema()));
        T::schemas(all);
    }
}

/// The schema of a page of what has the schema `name`.
pub(crate) fn schema_of(name: &str) -> Value {
    json!({
        "type": "object",
        "description": "One page of a list.",
        "required": ["data", "next_cursor"],
        "properties": {
            "data": {
                "type": "array",
                "maxItems": LIMIT_MAX,
                "items": {"$ref": format!("#/components/schemas/{name}")},
                "description": "The entries.",
            },
            "next_cursor": {
                "type": ["string", "null"],
                "description": "Where the next page begins, for `cursor`; null on the last page.",
            },
        },
    })
}

/// The bound that was asked for.
///
/// # Errors
/// When it is 0 or above [`LIMIT_MAX`].
pub(crate) fn limit(asked: Option<u32>) -> Result<usize, Problem> {
    match asked.map(|asked| asked as usize) {
        None => Ok(LIMIT),
        Some(asked @ 1..=LIMIT_MAX) => Ok(asked),
        Some(_) => Err(Problem::parameter("limit", format!("a number from 1 to {LIMIT_MAX}"))),
    }
}

/// The key of the last entry of a page, hidden from callers so that they rely on nothing in it.
pub(crate) fn cursor(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("k{key}"))
}

/// The key that a cursor stands for.
///
/// # Errors
/// When it is not one of ours.
pub(crate) fn key_of(cursor: Option<&str>) -> Result<Option<String>, Problem> {
    let Some(cursor) = cursor else { return Ok(None) };
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    match text.as_deref().and_then(|text| text.strip_prefix('k')) {
        Some(key) => Ok(Some(key.to_owned())),
        None => Err(Problem::parameter("cursor", "take it from `next_cursor` of the page before")),
    }
}

/// The number that a cursor stands for.
///
/// # Errors
/// As [`key_of`].
pub(crate) fn number_of(cursor: Option<&str>) -> Result<Option<u64>, Problem> {
    let wrong = || Problem::parameter("cursor", "take it from `next_cursor` of the page before");
    let number = |key: String| key.parse().ok().filter(|number| is_number(*number));
    key_of(cursor)?.map(|key| number(key).ok_or_else(wrong)).transpose()
}

/// Whether the store can hold a number at all.
pub(crate) fn is_number(number: u64) -> bool {
    i64::try_from(number).is_ok()
}

/// The page after `after` of entries that are sorted by `key`.
pub(crate) fn page<T, U>(
    sorted: impl Iterator<Item = T>,
    key: impl Fn(&T) -> &str,
    after: Option<&str>,
    limit: usize,
    mut show: impl FnMut(&T) -> U,
) -> Page<U> {
    let mut rest = sorted.skip_while(|entry| after.is_some_and(|after| key(entry) <= after));
    let taken: Vec<T> = rest.by_ref().take(limit).collect();
    let more = rest.next().is_some();
    let next_cursor = taken.last().filter(|_| more).map(|last| cursor(key(last)));
    Page { data: taken.iter().map(&mut show).collect(), next_cursor }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What was there all the time is seen exactly once, whatever comes in between two pages.
        #[test]
        fn pages_show_everything_that_stays_once(
            stays in prop::collection::btree_set("[a-d]{1,3}", 0..40),
            comes in prop::collection::vec("[a-d]{1,3}", 0..10),
            limit in 1_usize..7,
        ) {
            let mut now = stays.clone();
            let mut comes = comes.into_iter();
            let mut seen = Vec::new();
            let mut after = None;
            loop {
                let list: Vec<&str> = now.iter().map(String::as_str).collect();
                let page = page(list.into_iter(), |entry| entry, after.as_deref(), limit, |entry| (*entry).to_owned());
                prop_assert!(page.data.len() <= limit);
                seen.extend(page.data);
                let Some(next) = page.next_cursor else { break };
                after = key_of(Some(&next)).unwrap();
                now.extend(comes.next());
            }
            let once: BTreeSet<&String> = seen.iter().collect();
            prop_assert_eq!(once.len(), seen.len());
            prop_assert!(stays.iter().all(|entry| once.contains(entry)));
        }
    }

    #[test]
    fn foreign_cursors_are_refused() {
        for cursor in ["", "%", "YWJj", "a"] {
            assert!(key_of(Some(cursor)).is_err(), "{cursor}");
        }
        assert!(number_of(Some(&cursor("x"))).is_err());
        assert!(number_of(Some(&cursor("9223372036854775808"))).is_err());
        assert_eq!(number_of(Some(&cursor("17"))).unwrap(), Some(17));
    }
}
