//! Who changes something, and what came of it.

use router::spec::{Catalog, Secret};

use super::object::{IfMatch, Object};
use super::problem::Problem;

/// Who asks for a change, and on what condition.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// The token's name.
    pub actor: String,
    /// Its role.
    pub role: String,
    /// The request, for the audit.
    pub request_id: String,
    /// Checked inside of the transaction; `None` = no condition.
    pub if_match: Option<IfMatch>,
    /// What is known to be served, so that discovered models can be changed as well.
    pub catalog: Catalog,
}

/// What came of a write.
#[derive(Debug, Clone)]
pub struct Written {
    /// The object as it is now; `None` = it is gone, or there was more than one.
    pub object: Option<Object>,
    /// The registry's version that holds the change.
    pub version: u64,
    /// The snapshot in which it is in force; `None` = no data plane runs in this process.
    pub applied: Option<u64>,
    /// A key's secret, shown this once.
    pub secret: Option<Secret>,
}

/// What an import did or would do.
#[derive(Debug, Clone)]
pub struct Imported {
    /// For instance `create backend "a"`.
    pub changes: Vec<String>,
    /// What is doubtful.
    pub warnings: Vec<Problem>,
    /// `None` = it was only tried, or nothing differs.
    pub written: Option<Written>,
}

/// What came of a new base.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// The snapshot in which it is in force; `None` = no data plane runs in this process.
    pub version: Option<u64>,
    /// Settings that need a restart.
    pub needs_restart: Vec<&'static str>,
    /// Stored objects that take no part now.
    pub conflicts: Vec<super::desired::Conflict>,
}
