//! How measurements age: each step is rolled up into the next coarser one, and goes when its time is over.

use std::collections::BTreeMap;

use super::history::{Mean, unpacked};
use super::{StoreError, Tx};

/// How long a step's rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The length of a step, seconds.
    pub step: u64,
    /// How long its rows are kept, seconds.
    pub kept: u64,
}

/// The steps, from fine to coarse; each is a multiple of the one before.
pub const STEPS: [Retention; 3] = [
    Retention { step: 10, kept: 6 * 60 * 60 },
    Retention { step: 60, kept: 3 * 24 * 60 * 60 },
    Retention { step: 15 * 60, kept: 90 * 24 * 60 * 60 },
];

/// Steps that one call rolls up or removes at most, of each kind: a bound on the length of its transaction.
const BATCH: u64 = 60;
/// Forgotten subjects that one call removes at most.
const SUBJECTS_BATCH: u64 = 100;

impl Tx {
    /// Rolls up what is complete, and removes what has had its time, as of `now` in unix seconds. Gives whether there is more to do at
    /// once. To be called about once a minute.
    ///
    /// # Errors
    /// As [`StoreError`].
    pub fn roll_up(&self, now: u64) -> Result<bool, StoreError> {
        let [fine, middle, coarse] = STEPS;
        // The newest fine step may still be written.
        let complete = now.saturating_sub(fine.step);
        let mut more = self.roll(fine.step, middle.step, complete)?;
        more |= self.roll(middle.step, coarse.step, self.rolled(middle.step)?)?;
        let rolled = [self.rolled(middle.step)?, self.rolled(coarse.step)?, u64::MAX];
        for (kept, rolled) in STEPS.into_iter().zip(rolled) {
            more |= self.drop_old(kept, now, rolled)?;
        }
        // Their rows have gone before them.
        let unseen = now.saturating_sub(coarse.kept + coarse.step);
        self.execute(
            "DELETE FROM subjects WHERE id IN (SELECT id FROM subjects WHERE seen < ?1 LIMIT ?2)",
            [unseen, SUBJECTS_BATCH],
        )?;
        Ok(more)
    }

    /// Up to where a step's rows have been made from finer ones.
    pub(super) fn rolled(&self, step: u64) -> Result<u64, StoreError> {
        let mark = self.meta(&mark_of(step))?;
        Ok(mark.and_then(|text| text.parse().ok()).unwrap_or(0))
    }

    fn roll(&self, fine: u64, coarse: u64, complete: u64) -> Result<bool, StoreError> {
        let end = complete / coarse * coarse;
        // A mark from the future was made before the clock was set back: everything that there still is is rolled up again.
        let mark = Some(self.rolled(coarse)?).filter(|mark| *mark <= end).unwrap_or(0);
        let sql = "SELECT at FROM samples WHERE step = ?1 AND at >= ?2 ORDER BY at LIMIT 1";
        let first = self.first(sql, [fine, mark], |row| Ok(row.get::<_, u64>(0)?))?;
        let start = first.map_or(end, |at| at / coarse * coarse).min(end);
        let stop = end.min(start + BATCH * coarse);
        let mut at = start;
        while at < stop {
            self.roll_one(fine, coarse, at)?;
            at += coarse;
        }
        self.set_meta(&mark_of(coarse), &stop.to_string())?;
        Ok(stop < end)
    }

    fn roll_one(&self, fine: u64, coarse: u64, at: u64) -> Result<(), StoreError> {
        let sql = "SELECT subject, packed FROM samples WHERE step = ?1 AND at >= ?2 AND at < ?3";
        let rows = self.rows(sql, [fine, at, at + coarse], |row| {
            Ok((row.get::<_, u64>(0)?, row.get::<_, Vec<u8>>(1)?))
        })?;
        let mut subjects: BTreeMap<u64, BTreeMap<u8, Mean>> = BTreeMap::new();
        for (subject, packed) in rows {
            let means = subjects.entry(subject).or_default();
            for (metric, value) in unpacked(&packed) {
                means.entry(metric).or_default().add(value, fine);
            }
        }
        for (subject, means) in subjects {
            let values = means.into_iter().map(|(metric, mean)| (metric, mean.value())).collect();
            self.put_packed(coarse, at, subject, &values)?;
        }
        Ok(())
    }

    /// Removes rows of a step that are too old, except for what was not rolled up yet.
    fn drop_old(&self, kept: Retention, now: u64, rolled: u64) -> Result<bool, StoreError> {
        let Some(oldest) = self.oldest(kept.step)? else { return Ok(false) };
        let cut = now.saturating_sub(kept.kept).min(rolled);
        let stop = cut.min(oldest + BATCH * kept.step);
        self.execute("DELETE FROM samples WHERE step = ?1 AND at < ?2", [kept.step, stop])?;
        Ok(stop < cut)
    }
}

fn mark_of(step: u64) -> String {
    format!("rolled_{step}")
}
