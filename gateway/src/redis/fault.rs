//! Why a command failed: a closed list, for metrics and the log.

use ::redis::{ErrorKind, RedisError, ServerErrorKind};

/// Labels of `forebay_redis_errors_total`, in the order of [`Reason`].
pub(super) const REASONS: [&str; 12] = [
    "timeout",
    "refused",
    "closed",
    "oom",
    "readonly",
    "loading",
    "moved",
    "denied",
    "wrong_type",
    "no_script",
    "protocol",
    "other",
];

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// No answer in time.
    Timeout,
    /// Nobody listens there.
    Refused,
    /// The connection is gone.
    Closed,
    /// No memory left for writes.
    Oom,
    /// A replica, or a disk that cannot be written.
    ReadOnly,
    /// Still reading its data set.
    Loading,
    /// A cluster that wants to be asked elsewhere.
    Moved,
    /// Credentials or their rights.
    Denied,
    /// The key holds something else.
    WrongType,
    /// The script has to be sent whole.
    NoScript,
    /// An answer that makes no sense.
    Protocol,
    /// Anything else that Redis said.
    Other,
}

impl Reason {
    /// Its label.
    pub(crate) const fn as_str(self) -> &'static str {
        REASONS[self as usize]
    }
}

/// The reason behind an error.
pub(super) fn reason(error: &RedisError) -> Reason {
    use ServerErrorKind as S;
    if error.is_timeout() {
        return Reason::Timeout;
    }
    if error.is_connection_refusal() {
        return Reason::Refused;
    }
    match error.kind() {
        ErrorKind::Server(S::BusyLoading | S::MasterDown) => Reason::Loading,
        ErrorKind::Server(S::ReadOnly) => Reason::ReadOnly,
        ErrorKind::Server(S::NoScript) => Reason::NoScript,
        ErrorKind::Server(S::NoPerm) | ErrorKind::AuthenticationFailed => Reason::Denied,
        ErrorKind::Server(S::Moved | S::Ask | S::TryAgain | S::ClusterDown | S::CrossSlot) => {
            Reason::Moved
        }
        ErrorKind::Io => Reason::Closed,
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Reason::Protocol,
        _ => match error.code() {
            Some("OOM") => Reason::Oom,
            Some("MISCONF") => Reason::ReadOnly,
            Some("WRONGTYPE") => Reason::WrongType,
            Some("NOAUTH" | "WRONGPASS") => Reason::Denied,
            _ if error.is_unrecoverable_error() => Reason::Closed,
            _ => Reason::Other,
        },
    }
}
