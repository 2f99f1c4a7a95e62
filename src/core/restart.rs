//! The restart table: what follows from the end of a process.

use crate::core::duty::Duty;

/// What ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// The program of an instance.
    Program,
    /// The process that passes connections on to it.
    Forwarder,
}

/// What is left of its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Nothing, not even a forwarder.
    Nothing,
    /// No program: forwarders alone, or no program behind the forwarder that ended.
    NoProgram,
    /// A program; of a forwarder that ended, the one behind it.
    Program,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// With 0, or by a signal that asks a program to stop.
    Clean,
    /// In any other way, or nobody knows how.
    Failed,
}

/// When a live program that ended is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// However it ended.
    #[default]
    Always,
    /// When it failed.
    OnFailure,
    /// Not at all.
    Never,
}

impl Policy {
    /// Whether a live program that ended so is started again.
    #[must_use]
    pub fn restarts(self, how: How) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => how == How::Failed,
            Self::Never => false,
        }
    }

    /// As it is written in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::OnFailure => "on-failure",
            Self::Never => "never",
        }
    }
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It is started again.
    Restart,
    /// The forwarders without programs are stopped.
    Stop,
    /// What the generation had is let go.
    Dismiss,
    /// Nothing here: an operation, a rehearsal or a retirement looks after it.
    Leave,
}

/// What follows from the end of a process.
#[must_use]
pub fn after(process: Process, duty: Duty, rest: Rest) -> After {
    match (process, duty, rest) {
        (Process::Program, Duty::Live, _) => After::Restart,
        // A forwarder is of use as long as there is a program behind it.
        (Process::Forwarder, Duty::Live | Duty::Standby, Rest::Program) => After::Restart,
        // A rollback to it would be a cold one.
        (_, Duty::Standby, Rest::Nothing) => After::Dismiss,
        (Process::Program, Duty::Standby, Rest::NoProgram) => After::Stop,
        (Process::Program, Duty::Standby, Rest::Program) => After::Leave,
        (Process::Forwarder, Duty::Live, Rest::Nothing | Rest::NoProgram) => After::Leave,
        (Process::Forwarder, Duty::Standby, Rest::NoProgram) => After::Leave,
        (_, Duty::Candidate | Duty::Rehearsal | Duty::Trial | Duty::Draining, _) => After::Leave,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(process: Process, duty: Duty, rest: Rest, expected: After) {
        assert_eq!(after(process, duty, rest), expected, "{process:?} {duty:?} {rest:?}");
    }

    const RESTS: [Rest; 3] = [Rest::Nothing, Rest::NoProgram, Rest::Program];

    #[test]
    fn a_live_program_is_started_again() {
        for rest in RESTS {
            check(Process::Program, Duty::Live, rest, After::Restart);
        }
    }

    #[test]
    fn the_policy_says_whether_an_end_is_the_last() {
        for (policy, clean, failed) in [
            (Policy::Always, true, true),
            (Policy::OnFailure, false, true),
            (Policy::Never, false, false),
        ] {
            assert_eq!(policy.restarts(How::Clean), clean, "{policy:?}");
            assert_eq!(policy.restarts(How::Failed), failed, "{policy:?}");
        }
    }

    #[test]
    fn a_standby_that_ends_is_let_go() {
        check(Process::Program, Duty::Standby, Rest::Program, After::Leave);
        check(Process::Program, Duty::Standby, Rest::NoProgram, After::Stop);
        check(Process::Program, Duty::Standby, Rest::Nothing, After::Dismiss);
        check(Process::Forwarder, Duty::Standby, Rest::Nothing, After::Dismiss);
    }

    #[test]
    fn a_forwarder_is_started_again_for_a_program_that_runs() {
        for duty in [Duty::Live, Duty::Standby] {
            check(Process::Forwarder, duty, Rest::Program, After::Restart);
            check(Process::Forwarder, duty, Rest::NoProgram, After::Leave);
        }
        check(Process::Forwarder, Duty::Live, Rest::Nothing, After::Leave);
    }

    #[test]
    fn what_something_else_looks_after_is_left_to_it() {
        for duty in [Duty::Candidate, Duty::Rehearsal, Duty::Trial, Duty::Draining] {
            for rest in RESTS {
                check(Process::Program, duty, rest, After::Leave);
                check(Process::Forwarder, duty, rest, After::Leave);
            }
        }
    }
}
