//! What each phase of an operation does. One function a phase; the machine decides what follows.

pub(crate) mod backup;
pub(crate) mod bake;
pub(crate) mod candidate;
pub(crate) mod commit;
pub(crate) mod flip;
pub(crate) mod hold;
pub(crate) mod in_turn;
pub(crate) mod preflight;
pub(crate) mod receive;
pub(crate) mod rollback;
pub(crate) mod rollout_step;
mod standby;
mod trial;
pub(crate) mod undo;
pub(crate) mod wrap_up;
