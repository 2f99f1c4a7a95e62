//! What becomes of a server's work for a client, by what can be seen of the client from here.

use std::collections::BTreeSet;

use crate::core::ordered::Ordered as _;
use crate::os::diag::{self, CLOSE_WAIT, ESTABLISHED, Wanted};

/// Which clients are there, by their ports.
#[derive(Debug, Default)]
pub(super) struct Ports {
    pub(super) gone: BTreeSet<u16>,
    pub(super) alive: BTreeSet<u16>,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its client is there, or nothing runs.
    Stays,
    /// Its client is gone.
    Ends,
    /// Its client may be gone: its statement must end.
    Awaited,
}

impl Ports {
    /// The clients of the server with this port: seen at its side where it is on this host, else at theirs.
    pub(super) fn of(server: u16) -> Self {
        let here = |state: u8| {
            let states = [state];
            let wanted = Wanted { states: &states, local_port: Some(server), remote_port: None };
            diag::rows(wanted).into_iter().map(|row| row.remote.port())
        };
        let far = Wanted { states: &[ESTABLISHED], local_port: None, remote_port: Some(server) };
        let far = diag::rows(far).into_iter().map(|row| row.local.port());
        let gone = here(CLOSE_WAIT).into_set();
        Self { gone, alive: here(ESTABLISHED).chain(far).into_set() }
    }

    /// Whether the client is there; `None` where that is not known.
    pub(super) fn is_there(&self, client: u16) -> Option<bool> {
        let is_gone = self.gone.contains(&client);
        (is_gone || self.alive.contains(&client)).then_some(!is_gone)
    }
}

impl Fate {
    /// `is_there` is whether the client is, where that is known.
    pub(super) fn of(is_there: Option<bool>, is_working: bool) -> Self {
        match is_there {
            Some(false) => Self::Ends,
            None if is_working => Self::Awaited,
            Some(true) | None => Self::Stays,
        }
    }
}
