//! What a generation is there for.

/// What a generation is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// It was started and is being probed; an end is the operation's business.
    Candidate,
    /// It is tried out and stopped again; it never gets connections.
    Rehearsal,
    /// New connections go to it, but it is not committed; an end is the operation's business.
    Trial,
    /// New connections go to it; its processes are started again.
    Live,
    /// Steered away, warm for a rollback.
    Standby,
    /// Steered away for good.
    Draining,
}

/// What a generation is in an open operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What the operation brings in.
    Candidate,
    /// Any other: what served before, a rung of the way back.
    Bystander,
}

/// Whether new connections go to a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// All of them, or most.
    Steered,
    /// None, or a part beside the live generation.
    Away,
}

impl Duty {
    /// The duty of a generation that a supervisor finds while an operation is open.
    #[must_use]
    pub fn found(part: Part, traffic: Traffic) -> Self {
        match (part, traffic) {
            (Part::Candidate, Traffic::Steered) => Self::Trial,
            (Part::Candidate, Traffic::Away) => Self::Candidate,
            (Part::Bystander, Traffic::Steered) => Self::Live,
            // The way back may want it; it is let go at the end of the operation.
            (Part::Bystander, Traffic::Away) => Self::Standby,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(part: Part, traffic: Traffic, expected: Duty) {
        assert_eq!(Duty::found(part, traffic), expected, "{part:?} {traffic:?}");
    }

    #[test]
    fn a_candidate_is_never_taken_for_the_live_one() {
        check(Part::Candidate, Traffic::Steered, Duty::Trial);
        check(Part::Candidate, Traffic::Away, Duty::Candidate);
    }

    #[test]
    fn what_serves_is_kept_up_and_the_rest_waits_for_a_rollback() {
        check(Part::Bystander, Traffic::Steered, Duty::Live);
        check(Part::Bystander, Traffic::Away, Duty::Standby);
    }
}
