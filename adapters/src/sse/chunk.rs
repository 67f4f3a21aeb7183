//! What one event holds.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use memchr::{memchr2, memmem};
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::StreamDialect;
use crate::error::is_error_value;
use crate::usage::Usage;

/// The fields of an event that matter.
pub(super) struct Event<'b> {
    /// All `data` lines, joined by LF.
    pub(super) data: Cow<'b, [u8]>,
    /// `event: error`.
    pub(super) named_error: bool,
}

impl Event<'_> {
    /// The end mark. Trailing characters are allowed, as the Python SDK does.
    pub(super) fn is_done(&self) -> bool {
        self.data.trim_ascii_start().starts_with(b"[DONE]")
    }
}

/// The event in a block; `None` when it has no data: comments, other fields.
pub(super) fn data(block: &[u8]) -> Option<Event<'_>> {
    let mut found: Option<Cow<'_, [u8]>> = None;
    let mut named_error = false;
    let mut rest = block;
    while !rest.is_empty() {
        let len = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let (line, after) = rest.split_at(len);
        rest = after.get(1..).unwrap_or_default();
        if let Some(value) = field(line, b"data") {
            match &mut found {
                None => found = Some(Cow::Borrowed(value)),
                Some(data) => {
                    let data = data.to_mut();
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
            }
        } else if field(line, b"event") == Some(b"error") {
            named_error = true;
        }
    }
    found.map(|data| Event { data, named_error })
}

/// The value of a line of this field, without one leading space.
fn field<'b>(line: &'b [u8], name: &[u8]) -> Option<&'b [u8]> {
    let rest = line.strip_prefix(name)?;
    if rest.is_empty() {
        return Some(rest);
    }
    let value = rest.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

static FINISH: LazyLock<memmem::Finder<'static>> =
    LazyLock::new(|| memmem::Finder::new("finish_reason\""));
static USAGE: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("usage\""));
static ERROR: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("error\""));
static NO_MODEL: LazyLock<memmem::Finder<'static>> =
    LazyLock::new(|| memmem::Finder::new("\"model\":\"\""));

/// Whether an event after the first content can hold anything that is kept: a finish reason, a usage, an error, or
/// the mark of a dead runner. A quote inside a string is escaped, so these texts are keys (or end like one); the
/// answer errs only towards looking closer.
pub(super) fn may_matter(data: &[u8]) -> bool {
    [&FINISH, &USAGE, &ERROR]
        .iter()
        .any(|key| key.find_iter(data).any(|at| set(&data[at + key.needle().len()..])))
        || NO_MODEL.find(data).is_some()
}

/// Whether a value that is not null follows a key.
fn set(after_key: &[u8]) -> bool {
    match after_key.trim_ascii_start().split_first() {
        Some((b':', value)) => value.trim_ascii_start().first() != Some(&b'n'),
        _ => false,
    }
}

/// A `finish_reason` that the client did not cause.
const ABORT: &str = "\"abort\"";

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    index: Option<&'a RawValue>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    finish_reason: Option<&'a RawValue>,
}

impl Choice<'_> {
    /// 0 where it is missing or odd: a choice that ended must not go uncounted.
    fn index(&self) -> u32 {
        self.index.and_then(|index| index.get().parse().ok()).unwrap_or(0)
    }

    /// Why it ended; some servers say `""` for "not yet".
    fn end(&self) -> Option<&str> {
        self.finish_reason.map(RawValue::get).filter(|reason| *reason != "\"\"")
    }

    /// Nothing but a role, empty strings and nulls, and not the end; an abort is no end that anyone wants to see.
    fn is_empty(&self, dialect: StreamDialect) -> bool {
        self.end().is_none_or(|reason| reason == ABORT)
            && match dialect {
                StreamDialect::Chat => self.delta.is_some_and(|delta| {
                    serde_json::from_str(delta.get()).is_ok_and(|EmptyDelta(empty)| empty)
                }),
                StreamDialect::Completions => self.text.is_some_and(|text| text.get() == "\"\""),
            }
    }
}

/// Whether a delta holds only a role, empty strings or nulls.
struct EmptyDelta(bool);

impl<'de> Deserialize<'de> for EmptyDelta {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = EmptyDelta;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a delta")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EmptyDelta, A::Error> {
                let mut empty = true;
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    if key == "role" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        let value: &RawValue = map.next_value()?;
                        empty &= matches!(value.get(), "null" | "\"\"");
                    }
                }
                Ok(EmptyDelta(empty))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// What a parsed event shows.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) content: bool,
    pub(super) progress: bool,
    pub(super) error: bool,
    pub(super) aborted: bool,
    pub(super) dead_runner: bool,
    pub(super) usage: Option<Usage>,
    /// It holds nothing but that.
    pub(super) usage_only: bool,
    /// Indexes of the choices that end here.
    pub(super) finished: SmallVec<[u32; 2]>,
}

impl Look {
    pub(super) fn at(event: &Event<'_>, dialect: StreamDialect) -> Self {
        if event.named_error {
            return Self { error: true, ..Self::default() };
        }
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(&event.data) else {
            return Self { content: true, progress: true, ..Self::default() };
        };
        if is_error_value(chunk.error) {
            return Self { error: true, ..Self::default() };
        }
        let usage = chunk.usage.and_then(|usage| Usage::read(usage.get()));
        let choices = match chunk.choices {
            Some(choices) => choices,
            None if usage.is_some() => Vec::new(),
            // Not a chunk as we know it.
            None => return Self { content: true, progress: true, ..Self::default() },
        };
        let empty = choices.iter().all(|choice| choice.is_empty(dialect));
        let dead_runner =
            empty && !choices.is_empty() && chunk.model.is_some_and(|model| model.get() == "\"\"");
        let ends = || choices.iter().filter_map(|choice| Some((choice.index(), choice.end()?)));
        Self {
            content: !empty,
            progress: !(dead_runner || choices.is_empty() && chunk.usage.is_some()),
            error: false,
            aborted: ends().any(|(_, reason)| reason == ABORT),
            dead_runner,
            usage_only: choices.is_empty() && usage.is_some(),
            usage,
            finished: ends().map(|(index, _)| index).collect(),
        }
    }
}

/// Choices tracked one by one; those with a higher index are only counted.
const TRACKED: u32 = 128;

/// Which choices have ended.
#[derive(Debug)]
pub(super) struct Finished {
    expected: u32,
    low: u128,
    high: u32,
}

impl Finished {
    pub(super) const fn new(expected: u32) -> Self {
        Self { expected: if expected == 0 { 1 } else { expected }, low: 0, high: 0 }
    }

    pub(super) const fn mark(&mut self, index: u32) {
        if index < TRACKED {
            self.low |= 1 << index;
        } else {
            self.high = self.high.saturating_add(1);
        }
    }

    pub(super) const fn all(&self) -> bool {
        self.low.count_ones().saturating_add(self.high) >= self.expected
    }
}
