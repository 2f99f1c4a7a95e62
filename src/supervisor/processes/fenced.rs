//! A fence around programs, with what it has kept them from.

use std::collections::BTreeSet;

use crate::keeper::protocol::{ChildId, Door, Fence, LaunchSpec, Refused};
use crate::supervisor::processes::keeper_client::{Link, RefusedList};

/// A fence around programs. Its clones write into one list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Fenced {
    fence: Fence,
    refused: RefusedList,
}

impl Fenced {
    /// What this fence keeps programs from is written down.
    pub(crate) fn new(fence: Fence) -> Self {
        Self { fence, refused: RefusedList::default() }
    }

    /// The same with more doors, after the others.
    pub(crate) fn with(&self, doors: Vec<Door>) -> Self {
        let mut fenced = self.clone();
        fenced.fence.doors.extend(doors);
        fenced
    }

    /// Puts a program behind it that is about to be started as this child.
    pub(crate) fn surround(&self, link: &Link, child: ChildId, spec: &mut LaunchSpec) {
        spec.fence = Some(self.fence.clone());
        link.note_refused(child, self.refused.clone());
    }

    /// What it has kept programs from so far: each program and address once.
    pub(crate) fn refused(&self) -> Vec<Refused> {
        let mut seen = BTreeSet::new();
        let all = self.refused.borrow().clone().into_iter();
        all.filter(|refused| seen.insert((refused.program.clone(), refused.to.clone()))).collect()
    }
}
