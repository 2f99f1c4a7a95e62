//! `release SERVICE SOURCE`: make a new release live. One descriptor comes along: a file, a pipe or a
//! directory. With `dry_run` the answer is its plan.

use serde::{Deserialize, Serialize};

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// Which service.
    pub service: String,
    /// What was named on the command line, for people: a path, or `-`.
    pub source: String,
    /// Release it though the artifact is frozen.
    pub force: bool,
    /// The reason for allowing a release that cannot be rolled back.
    #[serde(default)]
    pub no_way_back: Option<String>,
    /// Only its plan.
    #[serde(default)]
    pub dry_run: bool,
}

/// A release's plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Whose.
    pub service: String,
    /// The number it will have.
    pub release: u64,
    /// What it does, in order.
    pub steps: Vec<PlanStep>,
    /// Whether a rollback is possible afterwards.
    pub rollback: bool,
    /// The release that a rollback would go back to.
    pub rollback_to: Option<u64>,
    /// Why a rollback is possible, or not.
    pub because: String,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStep {
    /// The phase.
    pub phase: String,
    /// What it does here.
    pub what: String,
    /// How much it writes, when that is known.
    pub bytes: Option<u64>,
    /// How long it took in earlier releases of this service (the median), when there are any.
    pub ms: Option<u64>,
}
