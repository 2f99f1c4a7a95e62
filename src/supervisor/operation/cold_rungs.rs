//! The generations of the rungs that are started cold on the way back: the present one, and the one
//! before, which is stopped before the next is started.

use std::rc::Rc;

use crate::core::ids::Generation;
use crate::core::operation::phase::Phase;
use crate::supervisor::operation::assignment::Assignment;
use crate::supervisor::service::Service;
use crate::supervisor::service::instances::Crew;

/// The generations of the rungs that are started cold.
#[derive(Debug, Default)]
pub(crate) struct ColdRungs {
    /// The generation of the present rung.
    pub present: Option<Generation>,
    /// The rung before, which did not hold.
    pub left: Option<Generation>,
}

impl ColdRungs {
    /// Sets a generation aside for the next rung, so that its announcement can name it.
    pub(crate) fn advance(&mut self, generation: Generation) {
        self.left = self.present.replace(generation);
    }

    /// Leaves the cold rungs: the one to stop, if there is one.
    pub(crate) fn leave(&mut self) -> Option<Generation> {
        let present = self.present.take();
        self.left.take().or(present)
    }

    /// The number that the journal must know of a phase: a cold rung's generation.
    pub(crate) fn number(&self, phase: Phase) -> Option<u64> {
        phase.rung().filter(|rung| *rung > 0).and(self.present).map(|generation| generation.0)
    }

    /// A rung's generation: rung 0 is the one that runs still, the others are started cold.
    pub(crate) fn crew(
        &self,
        service: &Service,
        assignment: &Assignment,
        rung: u8,
    ) -> Option<Rc<Crew>> {
        let generation = if rung == 0 { assignment.warm } else { self.present };
        service.fleet.get(generation?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rung_before_is_the_one_to_stop() {
        let mut rungs = ColdRungs::default();
        rungs.advance(Generation(4));
        assert_eq!((rungs.present, rungs.left), (Some(Generation(4)), None));
        rungs.advance(Generation(5));
        assert_eq!((rungs.present, rungs.left), (Some(Generation(5)), Some(Generation(4))));
        assert_eq!(rungs.number(Phase::BackGate(2)), Some(5));
        assert_eq!(rungs.number(Phase::BackGate(0)), None);
        assert_eq!(rungs.leave(), Some(Generation(4)));
        assert_eq!((rungs.present, rungs.leave()), (None, None));
    }
}
