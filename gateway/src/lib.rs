//! forebay's data plane: takes requests, routes them by the current snapshot, relays the answers.
//!
//! The path of a request, file by file: [`accept`](self) hands a socket to a core, `connection` speaks HTTP on it,
//! `service` is the edge of each request, `proxy` reads, plans and answers, `dispatch` loops over candidates, `attempt`
//! tries one, `relay` carries a committed answer. `error` is the one table of failures, `telemetry` of metrics.

mod accept;
mod affinity;
mod attempt;
mod auth;
#[doc(hidden)]
pub mod bench;
mod body;
mod brackets;
mod cache;
mod call;
mod connection;
mod control;
mod core;
mod descriptors;
mod dial;
mod dispatch;
mod error;
mod failed;
mod headers;
mod io;
mod limits;
mod listing;
mod ops;
mod orphan;
mod plane;
mod planes;
mod poison;
mod prober;
mod probes;
mod proxy;
mod queue;
mod redis;
mod relay;
mod reloads;
mod report;
mod request;
mod request_id;
mod request_log;
mod route;
mod run;
mod service;
mod settings;
mod shutdown;
mod stall;
mod stopper;
mod survey;
mod tail;
mod tally;
mod telemetry;
mod tenure;
mod tls;
mod unasked;
mod upstream;
mod waiting;

pub use affinity::PREFIX_BYTES;
pub use auth::{key_digest, key_digest_of_sha256};
pub use plane::{Plane, World, WorldHandle};
pub use reloads::{REFUSAL_MAX, Refusal, Reloads};
pub use request_log::RequestLog;
pub use run::{Applied, DataPlane, StartError};
pub use settings::{DrainSettings, ListenSettings, Settings, TlsSettings};
pub use shutdown::{Phase, Shutdown};
pub use survey::{SurveyError, Surveyed, survey};
pub use telemetry::{Counters, METRICS};
pub use tls::TlsError;
