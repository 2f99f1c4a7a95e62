//! The operation as a pure machine: its phases, where it goes on after a crash, how connections are
//! shared while it runs.

pub mod conclusion;
pub mod ladder;
pub mod live;
pub mod machine;
pub mod outcome;
pub mod phase;
pub mod recover;
pub mod rollout;
