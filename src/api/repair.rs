//! `repair SERVICE`: what is damaged of its files is rebuilt.

use serde::{Deserialize, Serialize};

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// Which service.
    pub service: String,
    /// Do it; otherwise only what would be done is shown.
    pub yes: bool,
}

/// What is damaged, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairPlan {
    /// Whose files.
    pub service: String,
    /// One for each file, in the order in which they are mended.
    pub steps: Vec<RepairStep>,
    /// It is done.
    pub done: bool,
    /// What is not known any more, or only guessed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What becomes of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairStep {
    /// The file, or the directory.
    pub path: String,
    /// What is wrong with it.
    pub why: String,
    /// What it becomes; what to do when it cannot be rebuilt.
    pub fix: String,
    /// It cannot be rebuilt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
    /// The name under which what was there is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}
