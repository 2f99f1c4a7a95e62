//! The pure core: what Halley decides, and nothing of how it is done.
//!
//! Nothing here reads a file, a clock, the environment or the network, spawns a process or knows
//! tokio. Time comes in as [`time::Tick`], facts as events, decisions go out as effects. The tidy
//! test holds this line.

pub mod analysis;
pub mod backoff;
pub mod drain;
pub mod health;
pub mod ids;
pub mod notice;
pub mod operation;
pub mod order;
pub mod release_set;
pub mod retention;
pub mod time;
