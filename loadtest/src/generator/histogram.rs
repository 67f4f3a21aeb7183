//! A histogram of times in logarithmic buckets, as HdrHistogram keeps them: constant memory, and an
//! error below 1/128 at every size.

use std::time::Duration;

use serde::Serialize;

/// Bits of precision: 128 buckets for each doubling.
const BITS: u32 = 7;
const SUB: u64 = 1 << BITS;
/// Longest time that keeps its precision, us (about 19 hours).
const MAX: u64 = 1 << 36;
const BUCKETS: usize = ((36 - BITS as usize) + 2) << BITS;

/// Times, in microseconds.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    count: u64,
    sum: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], count: 0, sum: 0, max: 0 }
    }
}

/// Below 128 us each value has a bucket; above, a value's top 8 bits choose it.
fn bucket(us: u64) -> usize {
    if us < SUB {
        return us as usize;
    }
    let shift = us.ilog2() - BITS;
    ((u64::from(shift) * SUB) + (us >> shift)) as usize
}

/// The largest value that a bucket holds.
fn top(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * SUB {
        return bucket;
    }
    let shift = bucket / SUB - 1;
    ((bucket - shift * SUB + 1) << shift) - 1
}

impl Histogram {
    /// Counts one time.
    pub fn record(&mut self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(MAX).min(MAX);
        self.counts[bucket(us)] += 1;
        self.count += 1;
        self.sum += us;
        self.max = self.max.max(us);
    }

    /// How many times were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The time that a share `q` (0 to 1) of the counted ones does not exceed; zero without any.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Duration {
        let rank = ((self.count as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        for (i, n) in self.counts.iter().enumerate() {
            seen += n;
            if seen >= rank {
                return Duration::from_micros(top(i).min(self.max));
            }
        }
        Duration::from_micros(self.max)
    }

    /// The usual percentiles.
    #[must_use]
    pub fn summary(&self) -> Percentiles {
        let ms = |q| self.quantile(q).as_secs_f64() * 1e3;
        Percentiles {
            count: self.count,
            mean_ms: self.sum as f64 / self.count.max(1) as f64 / 1e3,
            p50_ms: ms(0.5),
            p90_ms: ms(0.9),
            p99_ms: ms(0.99),
            p999_ms: ms(0.999),
            max_ms: self.max as f64 / 1e3,
        }
    }
}

/// Percentiles of times, ms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many times there are.
    pub count: u64,
    /// Their mean.
    pub mean_ms: f64,
    /// Median.
    pub p50_ms: f64,
    /// 90 %.
    pub p90_ms: f64,
    /// 99 %.
    pub p99_ms: f64,
    /// 99.9 %.
    pub p999_ms: f64,
    /// Longest.
    pub max_ms: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_precise() {
        let mut last = 0;
        for us in (0..100_000).chain((17..36).flat_map(|e| [(1 << e) - 1, 1 << e, (1 << e) + 1])) {
            let b = bucket(us);
            assert!(b >= last || us < 100_000 && b + 1 >= last, "{us}");
            last = b;
            assert!(top(b) >= us && top(b) - us <= us / 128, "{us} {b} {}", top(b));
        }
        assert!(bucket(MAX) < BUCKETS);
    }

    #[test]
    fn quantiles_of_known_times() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        for us in 1..=100 {
            histogram.record(Duration::from_micros(us));
        }
        assert_eq!(histogram.quantile(0.5), Duration::from_micros(50));
        assert_eq!(histogram.quantile(0.99), Duration::from_micros(99));
        assert_eq!(histogram.quantile(1.0), Duration::from_micros(100));
        histogram.record(Duration::from_secs(1_000_000));
        assert_eq!(histogram.quantile(1.0), Duration::from_micros(MAX));
    }
}
