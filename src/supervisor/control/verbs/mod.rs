//! One file a verb, of the same name as in the command line and in the protocol.

pub mod backup;
pub mod drill;
pub mod freeze;
pub mod notify;
pub mod release_set;
