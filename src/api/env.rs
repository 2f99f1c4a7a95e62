//! `env SERVICE`: what a program of the service gets, in one [`Event::Env`](super::Event::Env).

use serde::{Deserialize, Serialize};

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// Which service.
    pub service: String,
    /// Which release; the serving one when absent.
    pub release: Option<u64>,
    /// With the values that look secret.
    pub show: bool,
}

/// What a program of a release is started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surroundings {
    /// Of which service.
    pub service: String,
    /// Of which release.
    pub release: u64,
    /// The release's tree, where it is started.
    pub dir: String,
    /// The user it runs as; Halley's when absent.
    pub user: Option<User>,
    /// What it may use, for the process that becomes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<serde_json::Value>,
    /// Its environment, sorted by name.
    pub variables: Vec<(String, String)>,
}

/// A user by numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}
