//! What became of connections that clients keep open, since the last flip.

use serde::{Deserialize, Serialize};

/// Kept connections of what new connections were steered away from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptConnections {
    /// Whose next request went to where new connections go.
    pub followed: u32,
    /// That were ended while they were quiet.
    pub closed: u32,
    /// That follow at their next request.
    pub waiting: u32,
    /// That stay.
    pub stay: u32,
    /// With this release.
    pub release: Option<u64>,
    /// Why.
    pub why: Option<String>,
}

impl KeptConnections {
    /// Whether there are any to speak of.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.followed + self.closed + self.waiting + self.stay == 0
    }
}
