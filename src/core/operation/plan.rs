//! What an operation is about: fixed when it begins, and the first line of its journal.

use crate::core::operation::phase::Phase;

/// What an operation is about, fixed when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Plan {
    /// What was asked for.
    pub kind: Kind,
    /// How many releases can be started cold on the way back: for a release, the one that serves
    /// and older good ones; for a rollback, its target and, when none was named, older good ones.
    pub n_cold: u8,
    /// What an inconclusive bake means.
    pub inconclusive: Inconclusive,
    /// How the old one and the new one meet.
    pub succession: Succession,
    /// Steps on which the new one gets a part of the connections before it gets all.
    pub n_steps: u8,
}

/// How the old one and the new one meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Succession {
    /// Side by side: the old one runs until the new one is committed, and after.
    Overlap,
    /// In turn, for programs that allow only one instance: connections are held in the queue, the
    /// old one is stopped, the new one is started.
    InTurn,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A new artifact goes live.
    Release,
    /// An older release comes back.
    Rollback,
    /// The same release, new processes.
    Restart,
}

/// What an inconclusive bake means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Inconclusive {
    /// Commit.
    Promote,
    /// Wait for a human.
    Hold,
    /// Go back.
    Rollback,
}

impl Plan {
    /// Where the way back begins: what cannot run twice has no rung that still runs.
    pub(crate) fn first_rung(self) -> Phase {
        match self.succession {
            Succession::Overlap => Phase::BackGate(0),
            Succession::InTurn => Phase::BackStart(1),
        }
    }
}

named!(Kind { Release = "release", Rollback = "rollback", Restart = "restart" });
named!(Succession { Overlap = "overlap", InTurn = "in_turn" });
named!(Inconclusive { Promote = "promote", Hold = "hold", Rollback = "rollback" });
