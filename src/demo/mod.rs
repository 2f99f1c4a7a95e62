//! The main job on real processes, under load: `halley-sup demo`.
//!
//! The demo runs in a directory of its own. It must never touch an installed service.

pub mod ailment;
pub mod ledger;
pub mod load;
pub mod service;
mod show;
pub mod stream;

pub use show::run;
