//! The pure core: what Halley decides, and nothing of how it is done.
//!
//! The core must never read a file, a clock, the environment or the network, spawn a process or
//! know tokio. Time comes in as [`time::Tick`], facts as events, decisions go out as effects. The
//! tidy test holds this line.

pub mod analysis;
pub mod backoff;
pub mod crashes;
pub mod data_users;
pub mod drain;
pub mod duty;
pub mod exit;
pub mod freshness;
pub mod health;
pub mod ids;
pub mod kernel;
pub mod notice;
pub mod operation;
pub mod order;
pub mod ordered;
pub mod refused_write;
pub mod release_set;
pub mod restart;
pub mod retention;
pub mod schema;
pub mod secret;
pub mod status;
pub mod time;
pub mod watchdog;
