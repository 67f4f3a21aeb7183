//! Which backups are kept: the last ones, then one a day, then one a week.

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

/// Backups that are kept whatever their age.
pub const KEEP_LAST: usize = 10;
/// Days of which the newest backup is kept.
pub const KEEP_DAYS: usize = 7;
/// Weeks of which the newest backup is kept.
pub const KEEP_WEEKS: usize = 4;

const SUFFIX: &str = "Z.db";
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The name of the backup of this moment (unix time in milliseconds), in UTC: `20261121T163000.123Z.db`. Names sort by time.
#[must_use]
pub fn backup_name(at: u64) -> String {
    let text = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(at)).to_string();
    let text: String = text.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    text.replace('Z', SUFFIX)
}

/// The moment that a backup's name says; `None` for any other name.
fn moment(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let part = |from: usize, to: usize| digits.get(from..to);
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(9, 11)?,
        part(11, 13)?,
        digits.get(13..)?
    );
    let at = humantime::parse_rfc3339(&text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    let at = u64::try_from(at.as_millis()).ok()?;
    // Only a name that we would give.
    (backup_name(at) == name).then_some(at)
}

/// Which of these files in the folder have had their time. Names that are no backup's are never among them. Backups from the future (the clock
/// was set back) take no place and stay, or they would push out every new one.
#[must_use]
pub fn keep(now: u64, names: &[String]) -> Vec<String> {
    let mut dated: Vec<(u64, &String)> =
        names.iter().filter_map(|name| Some((moment(name)?, name))).collect();
    dated.retain(|(at, _)| *at <= now);
    dated.sort_unstable_by(|a, b| b.cmp(a));
    let (mut days, mut weeks) = (BTreeSet::new(), BTreeSet::new());
    let mut removed = Vec::new();
    for (place, (at, name)) in dated.into_iter().enumerate() {
        let day = at / DAY_MS;
        // The epoch was a Thursday; weeks begin on Monday.
        let newest_of_day = days.len() < KEEP_DAYS && days.insert(day);
        let newest_of_week = weeks.len() < KEEP_WEEKS && weeks.insert((day + 3) / 7);
        if place >= KEEP_LAST && !newest_of_day && !newest_of_week {
            removed.push(name.clone());
        }
    }
    removed
}
