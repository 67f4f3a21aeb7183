//! Moments as the API shows and takes them: RFC 3339 in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Unix milliseconds now.
pub(crate) fn now_ms() -> u64 {
    ms_of(SystemTime::now())
}

/// Unix milliseconds of a moment; 0 before 1970.
pub(crate) fn ms_of(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Unix milliseconds as text, for instance `2026-03-01T09:30:00.000Z`.
pub(crate) fn show(ms: u64) -> String {
    // The last moment that has four digits of a year.
    let ms = ms.min(253_402_300_799_999);
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}

/// A text as Unix milliseconds. An offset of hours and minutes is taken as well as `Z`.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let at = text.len().checked_sub(6)?;
    if text.is_char_boundary(at)
        && let (time, offset) = text.split_at(at)
        && let Some(sign) = offset.chars().next().filter(|sign| matches!(sign, '+' | '-'))
        && let Some((hours, minutes)) = offset[1..].split_once(':')
    {
        let (hours, minutes): (u64, u64) = (hours.parse().ok()?, minutes.parse().ok()?);
        let offset = Duration::from_secs(hours * 3600 + minutes * 60);
        let at = humantime::parse_rfc3339_weak(time).ok()?;
        let at = if sign == '+' { at.checked_sub(offset) } else { at.checked_add(offset) };
        return at.map(ms_of);
    }
    humantime::parse_rfc3339_weak(text).ok().map(ms_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_come_back() {
        assert_eq!(show(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(parse("2023-11-14T22:13:20.123Z"), Some(1_700_000_000_123));
        assert_eq!(parse("2023-11-14T23:13:20+01:00"), Some(1_700_000_000_000));
        assert_eq!(parse("2023-11-14T17:13:20-05:00"), Some(1_700_000_000_000));
        for text in ["", "soon", "2023-13-14T22:13:20Z", "+01:00", "ä+01:00"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(show(u64::MAX).len(), 24);
    }
}
