//! Rollback readiness: would a rollback work now?
//!
//! This room looks and rehearses. It must never steer a connection or stop what serves.

pub(crate) mod drill;
pub mod readiness;
pub mod rehearsal;
pub mod schema;
