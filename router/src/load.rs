//! How busy a backend is: what we measure ourselves, and what it says of itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use serde::{Deserialize, Serialize};

/// After this long without a sample, an estimate has lost 63 % of its value.
const DECAY: Duration = Duration::from_secs(10);
/// From this share of its KV cache in use a backend counts as twice as busy: what comes next will wait or evict.
const KV_FULL: f32 = 0.95;

/// What a backend says about itself, at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadSignals {
    /// Requests that wait for a place.
    pub waiting: Option<u32>,
    /// Requests that are being served.
    pub running: Option<u32>,
    /// Share of the KV cache in use, 0 to 1.
    pub kv_usage: Option<f32>,
    /// Models in memory (Ollama); `None` = not said.
    pub loaded: Option<Vec<LoadedModel>>,
    /// Bytes of the GPU's memory that its models take (Ollama).
    pub vram: Option<u64>,
    /// How long this may be believed; afterwards it counts as not said.
    pub valid_for: Duration,
}

/// A model that a backend has in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedModel {
    /// The backend's name for it.
    pub name: String,
    /// Digest of its weights; names that share it share a runner.
    pub digest: Option<String>,
}

/// Load of one backend.
#[derive(Debug)]
pub(crate) struct Load {
    first_event: PeakEwma,
    signals: ArcSwapOption<Heard>,
}

#[derive(Debug)]
struct Heard {
    signals: LoadSignals,
    at: Instant,
    /// Requests there that are not ours.
    others: u32,
}

impl Load {
    pub(crate) fn new(epoch: Instant) -> Self {
        Self { first_event: PeakEwma::new(epoch), signals: ArcSwapOption::empty() }
    }

    /// Takes note of a time to the first event.
    pub(crate) fn sample(&self, elapsed: Duration, now: Instant) {
        self.first_event.sample(elapsed, now);
    }

    /// The time to the first event, decayed since its last sample; `None` = never measured.
    pub(crate) fn first_event(&self, now: Instant) -> Option<Duration> {
        self.first_event.estimate(now).map(Duration::from_secs_f64)
    }

    /// Takes note of what the backend says; `in_flight` = what we had there at that moment.
    pub(crate) fn hear(&self, signals: LoadSignals, in_flight: u32, now: Instant) {
        let there = signals.running.unwrap_or(0).saturating_add(signals.waiting.unwrap_or(0));
        let others = there.saturating_sub(in_flight);
        self.signals.store(Some(Arc::new(Heard { signals, at: now, others })));
    }

    /// Requests in front of a new one: ours, those of others as last heard, and once more those that wait.
    pub(crate) fn pressure(&self, in_flight: u32, now: Instant) -> f64 {
        let ours = f64::from(in_flight);
        let heard = self.signals.load();
        let Some(heard) = heard.as_ref().filter(|heard| heard.fresh(now)) else { return ours };
        let waiting = f64::from(heard.signals.waiting.unwrap_or(0));
        let full = heard.signals.kv_usage.is_some_and(|usage| usage >= KV_FULL);
        (ours + f64::from(heard.others) + waiting) * if full { 2.0 } else { 1.0 }
    }

    /// Whether a model is in memory; `None` = the backend does not say, or said it too long ago.
    pub(crate) fn is_loaded(
        &self,
        model: &str,
        digest: Option<&str>,
        now: Instant,
    ) -> Option<bool> {
        let heard = self.signals.load();
        let heard = heard.as_ref().filter(|heard| heard.fresh(now))?;
        let loaded = heard.signals.loaded.as_ref()?;
        Some(loaded.iter().any(|entry| match (digest, entry.digest.as_deref()) {
            (Some(wanted), Some(found)) => wanted == found,
            _ => same_model(&entry.name, model),
        }))
    }

    /// What the backend said last, if it still may be believed.
    pub(crate) fn signals(&self, now: Instant) -> Option<LoadSignals> {
        let heard = self.signals.load();
        heard.as_ref().filter(|heard| heard.fresh(now)).map(|heard| heard.signals.clone())
    }
}

impl Heard {
    fn fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) <= self.signals.valid_for
    }
}

/// Whether two names mean the same model to Ollama: case is ignored, and the tag `latest` may be left out.
#[must_use]
pub fn same_model(one: &str, other: &str) -> bool {
    without_latest(one).eq_ignore_ascii_case(without_latest(other))
}

/// The name without the tag `latest`.
pub(crate) fn without_latest(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((stem, tag)) if tag.eq_ignore_ascii_case("latest") => stem,
        _ => name,
    }
}

/// A moving average that follows a rise at once and a fall slowly (Finagle's and tower's Peak EWMA). Two writers at
/// the same instant may lose a sample; nothing else can go wrong.
#[derive(Debug)]
struct PeakEwma {
    epoch: Instant,
    /// Bits of the estimate in seconds; NaN = none.
    seconds: AtomicU64,
    /// Microseconds since the epoch.
    stamp: AtomicU64,
}

impl PeakEwma {
    fn new(epoch: Instant) -> Self {
        Self { epoch, seconds: AtomicU64::new(f64::NAN.to_bits()), stamp: AtomicU64::new(0) }
    }

    fn sample(&self, elapsed: Duration, now: Instant) {
        let sample = elapsed.as_secs_f64();
        let value = match self.decayed(now) {
            Some((old, _)) if sample >= old => sample,
            // Between samples that come fast an estimate hardly falls; each of them pulls it down by its share of time.
            Some((old, kept)) => old.mul_add(kept, sample * (1.0 - kept)).max(sample),
            None => sample,
        };
        self.seconds.store(value.to_bits(), Relaxed);
        self.stamp.store(self.micros(now), Relaxed);
    }

    fn estimate(&self, now: Instant) -> Option<f64> {
        self.decayed(now).map(|(value, kept)| value * kept)
    }

    /// The last value, and the share of it that time has left.
    fn decayed(&self, now: Instant) -> Option<(f64, f64)> {
        let value = f64::from_bits(self.seconds.load(Relaxed));
        if value.is_nan() {
            return None;
        }
        let idle = Duration::from_micros(self.micros(now).saturating_sub(self.stamp.load(Relaxed)));
        Some((value, (-idle.as_secs_f64() / DECAY.as_secs_f64()).exp()))
    }

    fn micros(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signals(running: u32, waiting: u32) -> LoadSignals {
        LoadSignals {
            waiting: Some(waiting),
            running: Some(running),
            kv_usage: None,
            loaded: None,
            vram: None,
            valid_for: Duration::from_secs(10),
        }
    }

    #[test]
    fn a_rise_counts_at_once_and_a_fall_slowly() {
        let start = Instant::now();
        let load = Load::new(start);
        assert_eq!(load.first_event(start), None);
        load.sample(Duration::from_millis(10), start);
        load.sample(Duration::from_millis(100), start);
        assert_eq!(load.first_event(start), Some(Duration::from_millis(100)));
        let later = start + Duration::from_secs(5);
        load.sample(Duration::from_millis(10), later);
        let now = load.first_event(later).unwrap();
        assert!(now > Duration::from_millis(50) && now < Duration::from_millis(80), "{now:?}");
    }

    #[test]
    fn an_estimate_without_samples_fades() {
        let start = Instant::now();
        let load = Load::new(start);
        load.sample(Duration::from_millis(100), start);
        let faded = load.first_event(start + Duration::from_secs(30)).unwrap();
        assert!(faded < Duration::from_millis(6), "{faded:?}");
    }

    #[test]
    fn others_requests_count_and_ours_are_not_counted_twice() {
        let start = Instant::now();
        let load = Load::new(start);
        load.hear(signals(10, 2), 4, start);
        assert!((load.pressure(4, start) - 14.0).abs() < 1e-9);
        assert!((load.pressure(6, start) - 16.0).abs() < 1e-9);
        let stale = start + Duration::from_secs(11);
        assert!((load.pressure(6, stale) - 6.0).abs() < 1e-9);
    }

    #[test]
    fn a_full_kv_cache_weighs_double() {
        let start = Instant::now();
        let load = Load::new(start);
        load.hear(LoadSignals { kv_usage: Some(0.99), ..signals(3, 0) }, 0, start);
        assert!((load.pressure(0, start) - 6.0).abs() < 1e-9);
    }

    #[test]
    fn loaded_models_are_told_by_digest_first() {
        let start = Instant::now();
        let load = Load::new(start);
        assert_eq!(load.is_loaded("a", None, start), None);
        let entry = LoadedModel { name: "A:latest".into(), digest: Some("d1".into()) };
        load.hear(LoadSignals { loaded: Some(vec![entry]), ..signals(0, 0) }, 0, start);
        assert_eq!(load.is_loaded("a", None, start), Some(true));
        assert_eq!(load.is_loaded("other-name", Some("d1"), start), Some(true));
        assert_eq!(load.is_loaded("a", Some("d2"), start), Some(false));
        assert_eq!(load.is_loaded("a", None, start + Duration::from_secs(11)), None);
    }
}
