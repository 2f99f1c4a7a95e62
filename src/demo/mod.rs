//! The main job on real processes, under load: `halley-sup demo`.

pub mod ailment;
pub mod ledger;
pub mod load;
pub mod service;
mod show;
pub mod stream;

pub use show::run;
