//! What a process that is only tried out on a copy of the data is kept to.

use std::path::PathBuf;

use crate::keeper::protocol::{ChildId, LaunchSpec};
use crate::os::isolate::Isolation;
use crate::supervisor::processes::fenced::Fenced;
use crate::supervisor::processes::keeper_client::Link;

/// Set for programs that are only tried out: they should not send mail, for example.
pub(crate) const VARIABLE: &str = "HALLEY_REHEARSAL";

/// What a process is kept to; a process that works on live data has none of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Confinement {
    /// Variables that lead it to the copy, over those of its settings.
    pub(crate) env: Vec<(String, String)>,
    /// The copy lies over the live place.
    pub(crate) isolation: Option<Isolation>,
    /// It may write below these directories alone.
    pub(crate) writes: Option<Vec<PathBuf>>,
    /// What it may reach over sockets.
    pub(crate) fenced: Option<Fenced>,
}

impl Confinement {
    /// Keeps a process to it that is about to be started. Its environment has been made with
    /// [`Self::env`].
    pub(crate) fn apply(&self, spec: &mut LaunchSpec) {
        spec.isolation.clone_from(&self.isolation);
        spec.writes.clone_from(&self.writes);
    }

    /// Puts a process behind its fence that is about to be started as this child.
    pub(crate) fn surround(&self, link: &Link, child: ChildId, spec: &mut LaunchSpec) {
        if let Some(fenced) = &self.fenced {
            fenced.surround(link, child, spec);
        }
    }
}
