//! One file a verb, of the same name as in the command line and in the protocol.

pub(crate) mod abort;
pub(crate) mod backup;
pub(crate) mod drill;
pub(crate) mod env;
pub(crate) mod freeze;
pub(crate) mod history;
pub(crate) mod logs;
pub(crate) mod notify;
pub(crate) mod promote;
pub(crate) mod release;
pub(crate) mod release_set;
pub(crate) mod releases;
pub(crate) mod reload;
pub(crate) mod repair;
pub(crate) mod restart;
pub(crate) mod restore;
pub(crate) mod rollback;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod thaw;
pub(crate) mod upgrade;
pub(crate) mod watch;
