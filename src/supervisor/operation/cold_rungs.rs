//! The generations of the rungs that are started cold on the way back: the present one, and the one
//! before, which is stopped before the next is started.

use std::rc::Rc;

use crate::core::ids::GenerationId;
use crate::core::operation::phase::Phase;
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::Generation;

/// The generations of the rungs that are started cold.
#[derive(Debug, Default)]
pub(crate) struct ColdRungs {
    /// The generation of the present rung.
    pub present: Option<GenerationId>,
    /// The rung before, which did not hold.
    pub left: Option<GenerationId>,
}

impl ColdRungs {
    /// Sets a generation aside for the next rung, so that its announcement can name it.
    pub(crate) fn advance(&mut self, id: GenerationId) {
        self.left = self.present.replace(id);
    }

    /// Leaves the cold rungs: the one to stop, if there is one.
    pub(crate) fn leave(&mut self) -> Option<GenerationId> {
        let present = self.present.take();
        self.left.take().or(present)
    }

    /// The number that the journal must know of a phase: a cold rung's generation.
    pub(crate) fn number(&self, phase: Phase) -> Option<u64> {
        phase.rung().filter(|rung| *rung > 0).and(self.present).map(|id| id.0)
    }

    /// A rung's generation: rung 0 is the one that runs still, the others are started cold.
    pub(crate) fn generation(
        &self,
        service: &Service,
        assignment: &Assignment,
        rung: u8,
    ) -> Option<Rc<Generation>> {
        let id = if rung == 0 { assignment.warm } else { self.present };
        service.fleet.get(id?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rung_before_is_the_one_to_stop() {
        let mut rungs = ColdRungs::default();
        rungs.advance(GenerationId(4));
        assert_eq!((rungs.present, rungs.left), (Some(GenerationId(4)), None));
        rungs.advance(GenerationId(5));
        assert_eq!((rungs.present, rungs.left), (Some(GenerationId(5)), Some(GenerationId(4))));
        assert_eq!(rungs.number(Phase::BackGate(2)), Some(5));
        assert_eq!(rungs.number(Phase::BackGate(0)), None);
        assert_eq!(rungs.leave(), Some(GenerationId(4)));
        assert_eq!((rungs.present, rungs.leave()), (None, None));
    }
}
