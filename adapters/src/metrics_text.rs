//! Load signals in an upstream's Prometheus page.

/// Longest page that is read, in bytes; what comes after is not looked at.
pub const PAGE_MAX_BYTES: usize = 5 << 20;

/// What a page says about load. `None` = the page does not say.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LoadSignals {
    /// Requests being computed, all engines and models together.
    pub running: Option<f64>,
    /// Requests waiting.
    pub waiting: Option<f64>,
    /// Share of the KV cache in use, 0 to 1, of the fullest engine.
    pub kv_cache: Option<f64>,
    /// An engine sleeps (vLLM: its weights are not loaded), so it serves nothing though `/health` says 200.
    pub asleep: Option<bool>,
}

/// Reads a page of vLLM (`vllm:`) or llama-server (`llamacpp:`). Lines that are not understood and values that are
/// not finite are passed over.
#[must_use]
pub fn parse(page: &[u8]) -> LoadSignals {
    let mut signals = LoadSignals::default();
    for line in page[..page.len().min(PAGE_MAX_BYTES)].split(|byte| *byte == b'\n') {
        // Most of a page is histograms of other names: look at two bytes before anything else.
        if matches!(line, [b'v', b'l', ..] | [b'l', b'l', ..])
            && let Ok(line) = std::str::from_utf8(line)
        {
            take(&mut signals, line);
        }
    }
    signals
}

fn take(signals: &mut LoadSignals, line: &str) {
    let Some((name, labels, value)) = sample(line) else { return };
    match name.strip_suffix("_total").unwrap_or(name) {
        "vllm:num_requests_running" | "llamacpp:requests_processing" => {
            add(&mut signals.running, value);
        }
        "vllm:num_requests_waiting" | "llamacpp:requests_deferred" => {
            add(&mut signals.waiting, value);
        }
        "vllm:kv_cache_usage_perc"
        | "vllm:gpu_cache_usage_perc"
        | "llamacpp:kv_cache_usage_ratio" => {
            let value = value.clamp(0.0, 1.0);
            signals.kv_cache = Some(signals.kv_cache.map_or(value, |full| full.max(value)));
        }
        "vllm:engine_sleep_state" => {
            let on = value >= 1.0;
            let sleeps = on && !labels.contains("sleep_state=\"awake\"");
            signals.asleep = Some(signals.asleep.unwrap_or(false) || sleeps);
        }
        _ => {}
    }
}

fn add(sum: &mut Option<f64>, value: f64) {
    *sum = Some(sum.unwrap_or(0.0) + value.max(0.0));
}

/// `name{labels} value [timestamp]`; `None` for anything else and for values that are not finite.
fn sample(line: &str) -> Option<(&str, &str, f64)> {
    let (name, labels, rest) = match line.split_once('{') {
        // A label's value may hold `}`; the last one closes.
        Some((name, rest)) => {
            let (labels, rest) = rest.rsplit_once('}')?;
            (name, labels, rest)
        }
        None => {
            let (name, rest) = line.split_once([' ', '\t'])?;
            (name, "", rest)
        }
    };
    let value: f64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
    value.is_finite().then_some((name.trim(), labels, value))
}

#[cfg(test)]
mod tests;
