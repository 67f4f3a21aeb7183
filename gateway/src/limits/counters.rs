//! The metrics of keys' limits.

use metrics::Counter;

/// Their handles: requests refused by cause, and those judged without Redis.
pub(crate) struct LimitCounters {
    pub(crate) requests: Counter,
    pub(crate) tokens: Counter,
    pub(crate) concurrent: Counter,
    pub(crate) unfit: Counter,
    pub(crate) alone: Counter,
}

impl LimitCounters {
    /// Registers them; `counter` takes a name, and a label with its value.
    pub(crate) fn new(
        counter: impl Fn(&'static str, Option<&'static str>, &'static str) -> Counter,
    ) -> Self {
        let refused = |cause| counter("forebay_limits_refused_total", Some("cause"), cause);
        Self {
            requests: refused("requests"),
            tokens: refused("tokens"),
            concurrent: refused("concurrent"),
            unfit: refused("unfit"),
            alone: counter("forebay_limits_alone_total", None, ""),
        }
    }
}
