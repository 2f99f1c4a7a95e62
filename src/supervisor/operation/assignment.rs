//! What an operation set out to do, as the first line of its journal has it. Nothing of it changes
//! once the operation has begun; what a phase finds or makes is never here.

use std::time::Duration;

use crate::config::model::Strategy;
use crate::core::ids::{GenerationId, OpId, ReleaseId};
use crate::core::operation::way_back::{Before, WayBack};
use crate::supervisor::service::candidate::{BegunBy, Candidate};
use crate::supervisor::service::terms::Terms;

/// What an operation set out to do.
#[derive(Debug)]
pub(crate) struct Assignment {
    /// The operation's number.
    pub op: OpId,
    /// The actor that requested it.
    pub actor: String,
    /// The release it is about.
    pub release: ReleaseId,
    /// The candidate's generation.
    pub generation: GenerationId,
    /// What was named as the artifact.
    pub source_name: String,
    /// On what terms it is wanted.
    pub terms: Terms,
    /// Which supervisor began it.
    pub begun_by: BegunBy,
    /// The generation that served when it began.
    pub old: Option<GenerationId>,
    /// The generation that is rung 0 of the way back.
    pub warm: Option<GenerationId>,
    /// The release that is left when the operation goes back: its candidate, or what served before
    /// a rollback.
    pub left: Option<ReleaseId>,
    /// Releases to start cold on the way back.
    pub ladder: Vec<ReleaseId>,
    /// How the release was that it replaces, when it began.
    pub before: Before,
    /// How the new one takes over, as it was configured when the operation began.
    pub strategy: Strategy,
    /// The longest gap of a hold, as it was configured then.
    pub max_gap: Duration,
}

impl Assignment {
    /// The release that a rollback would start first.
    pub(crate) fn back_to(&self) -> Option<ReleaseId> {
        self.ladder.first().copied()
    }

    /// The release of a rung that is started cold.
    pub(crate) fn cold(&self, rung: u8) -> Option<ReleaseId> {
        self.ladder.get(usize::from(rung).checked_sub(1)?).copied()
    }

    /// What lower rooms must know of the release.
    pub(crate) fn candidate(&self) -> Candidate {
        Candidate {
            op: self.op,
            release: self.release,
            back_to: self.back_to(),
            way_back: WayBack::of(self.terms.no_way_back.is_some(), self.before, &self.ladder),
            begun_by: self.begun_by,
            succession: self.strategy.succession(),
        }
    }
}
