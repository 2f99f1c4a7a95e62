//! What a release's samples mean: each signal of a bake, and the verdict over all of them.

pub mod exposition;
pub mod growth;
pub mod rate;
pub mod ratio;
pub mod signal;
pub mod verdict;
