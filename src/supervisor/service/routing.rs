//! Where new connections go: the live generation, and one beside it that gets a part of them.
//!
//! Only steering changes this, after the kernel has taken the change.

use std::cell::Cell;

use crate::core::ids::GenerationId;
use crate::core::operation::rollout::Part;

/// Where new connections go.
#[derive(Debug, Default)]
pub(crate) struct Routing {
    live: Cell<Option<GenerationId>>,
    beside: Cell<Option<(GenerationId, Part)>>,
}

impl Routing {
    /// The generation that new connections go to.
    pub(crate) fn live(&self) -> Option<GenerationId> {
        self.live.get()
    }

    /// A generation beside the live one, with its part of the connections.
    pub(crate) fn beside(&self) -> Option<(GenerationId, Part)> {
        self.beside.get()
    }

    /// All new connections go to this generation.
    pub(crate) fn point_at(&self, generation: GenerationId) {
        self.beside.set(None);
        self.live.set(Some(generation));
    }

    /// A part of them goes to a generation beside the live one.
    pub(crate) fn share_with(&self, generation: GenerationId, part: Part) {
        self.beside.set(Some((generation, part)));
    }

    /// New connections go to no generation: they wait, or are refused.
    pub(crate) fn clear(&self) {
        self.live.set(None);
    }
}
