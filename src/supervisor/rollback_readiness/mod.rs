//! Rollback readiness: would a rollback work now?
//!
//! This room looks and rehearses. It must never steer a connection or stop what serves.

pub(crate) mod drill;
pub(crate) mod readiness;
pub(crate) mod rehearsal;
pub(crate) mod schema;
