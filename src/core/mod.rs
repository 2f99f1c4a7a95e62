//! The pure core: what Halley decides, and nothing of how it is done.
//!
//! Nothing here reads a file, a clock, the environment or the network, spawns a process or knows
//! tokio. Time comes in as [`time::Tick`], facts as events, decisions go out as effects. The tidy
//! test holds this line.

pub mod bake;
pub mod deploy;
pub mod exposition;
pub mod growth;
pub mod health;
pub mod ids;
pub mod notice;
pub mod order;
pub mod phase;
pub mod rate;
pub mod ratio;
pub mod recover;
pub mod retention;
pub mod retire;
pub mod rollout;
pub mod service;
pub mod set;
pub mod signal;
pub mod time;
