//! `releases SERVICE`: the releases on disk, in one [`Event::Releases`](super::Event::Releases).

use serde::{Deserialize, Serialize};

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Args {
    /// Which service.
    pub service: String,
}

/// One release on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseEntry {
    /// Its number.
    pub release: u64,
    /// `staged`, `good`, `bad` or `aborted`.
    pub verdict: String,
    /// Why it is bad.
    pub why: Option<String>,
    /// `serving`, `last_good`, `trial`, `standby`, `pinned`: why it is kept, empty when by count.
    pub roles: Vec<String>,
    /// The artifact's own version from `release.toml`.
    pub label: Option<String>,
    /// sha256 over the tree.
    pub digest: String,
    /// Bytes of its files.
    pub size_bytes: u64,
    /// When it was staged, RFC 3339.
    pub at: String,
}
