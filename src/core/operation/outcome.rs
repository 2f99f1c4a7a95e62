//! How an operation ended, for people and scripts: one word and one exit code, from a table.

use crate::core::exit::Exit;
use crate::core::operation::machine::{Cause, Kind, Outcome};
use crate::core::release_set::Ended;

macro_rules! words {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// The word of an outcome: of an operation, of a set, of its members, of any other command.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Word {
            $($(#[$doc])* $variant,)+
        }

        impl Word {
            /// Every word.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in journal, history and output.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The word of this name.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words! {
    /// The release is live and the last good one.
    Committed = "committed",
    /// An earlier release is back.
    RolledBack = "rolled_back",
    /// The same release runs in new processes.
    Restarted = "restarted",
    /// Only the plan was asked for.
    Planned = "planned",
    /// The candidate was not healthy; it never had a connection, or none that was not taken back.
    GateFailed = "gate_failed",
    /// A phase before the start refused it.
    Rejected = "rejected",
    /// The migration failed.
    MigrationFailed = "migration_failed",
    /// `abort` ended it.
    Aborted = "aborted",
    /// The supervisor or the machine went down in the middle.
    Interrupted = "interrupted",
    /// Another operation took over.
    Superseded = "superseded",
    /// The rollback failed.
    RollbackFailed = "rollback_failed",
    /// It waits for promote or abort.
    Holding = "holding",
    /// `start`: the service runs.
    Started = "started",
    /// `stop`: the service does not run.
    Stopped = "stopped",
    /// `promote`: the step is over.
    Promoted = "promoted",
    /// `freeze`: releases are refused.
    Frozen = "frozen",
    /// `thaw`: releases are allowed.
    Thawed = "thawed",
    /// `drill`: a rollback would work.
    Drilled = "drilled",
    /// `backup`: a backup was taken.
    BackedUp = "backed_up",
    /// `restore`: the backup is in place.
    Restored = "restored",
    /// `restore`: the backup is not in place.
    NotRestored = "not_restored",
    /// `repair`: what could be rebuilt is rebuilt.
    Repaired = "repaired",
    /// `notify`: the test was delivered.
    Told = "told",
    /// `upgrade`: Halley is the new program.
    Upgraded = "upgraded",
    /// `logs`: all lines are sent.
    Read = "read",
    /// A member of a set: its operation has not begun.
    NotBegun = "not_begun",
    /// A member of a set: its first release stays, there is nothing to go back to.
    Kept = "kept",
}

/// What decides on an outcome beside the machine's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The exit code of the phase that refused it.
    pub refusal: Option<Exit>,
    /// Only the plan was asked for, and nothing stood against it.
    pub is_plan: bool,
    /// The release that a rollback was to leave serves again: its target failed.
    pub is_back_where_it_began: bool,
    /// The data was migrated, and the release that goes on serving does not run on it.
    pub is_unproven_on_data: bool,
}

/// The word and the exit code of an operation that has ended.
#[must_use]
pub fn of_operation(kind: Kind, ended: Outcome, facts: Facts) -> (Word, Exit) {
    match ended {
        Outcome::Committed => match kind {
            Kind::Restart => (Word::Restarted, Exit::Done),
            Kind::Release | Kind::Rollback => (Word::Committed, Exit::Done),
        },
        Outcome::Undone(cause) if facts.is_unproven_on_data && cause != Cause::Refused => {
            let word = match cause {
                Cause::Aborted => Word::Aborted,
                Cause::Interrupted => Word::Interrupted,
                _ => Word::GateFailed,
            };
            (word, Exit::OldUnproven)
        }
        Outcome::Undone(cause) => match cause {
            Cause::Refused => match facts.refusal {
                Some(exit @ (Exit::MigrationFailed | Exit::SchemaChanged | Exit::OldUnproven)) => {
                    (Word::MigrationFailed, exit)
                }
                exit => (Word::Rejected, exit.unwrap_or(Exit::PreflightRefused)),
            },
            Cause::Aborted if facts.is_plan => (Word::Planned, Exit::Done),
            Cause::Aborted => (Word::Aborted, Exit::Aborted),
            Cause::Interrupted => (Word::Interrupted, Exit::Aborted),
            Cause::Gate | Cause::Flip | Cause::Bake => (Word::GateFailed, Exit::GateFailed),
            Cause::Died | Cause::Inconclusive | Cause::Asked => {
                (Word::GateFailed, Exit::GateFailed)
            }
        },
        Outcome::RolledBack(cause) => match cause {
            Cause::Asked if facts.is_back_where_it_began => (Word::GateFailed, Exit::GateFailed),
            Cause::Asked => (Word::RolledBack, Exit::Done),
            Cause::Aborted => (Word::Aborted, Exit::Aborted),
            // It could not even be put on trial: nothing was steered to it.
            Cause::Refused | Cause::Gate | Cause::Flip | Cause::Bake => {
                (Word::RolledBack, facts.refusal.unwrap_or(Exit::RolledBack))
            }
            Cause::Died | Cause::Inconclusive | Cause::Interrupted => {
                (Word::RolledBack, Exit::RolledBack)
            }
        },
        Outcome::NothingBehind(_) | Outcome::RollbackFailed(_) => {
            (Word::RollbackFailed, Exit::RollbackFailed)
        }
    }
}

/// The word and the exit code of a set that has ended. `None`: those of the member that turned it
/// round, because nothing had been flipped.
#[must_use]
pub fn of_set(ended: Ended, n_taken_back: usize) -> Option<(Word, Exit)> {
    match ended {
        Ended::Committed => Some((Word::Committed, Exit::Done)),
        Ended::Stuck => Some((Word::RollbackFailed, Exit::RollbackFailed)),
        Ended::Back if n_taken_back > 0 => Some((Word::RolledBack, Exit::RolledBack)),
        Ended::Back => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Facts = Facts {
        refusal: None,
        is_plan: false,
        is_back_where_it_began: false,
        is_unproven_on_data: false,
    };
    const PLAN: Facts = Facts { is_plan: true, ..NONE };
    const BACK: Facts = Facts { is_back_where_it_began: true, ..NONE };

    const CAUSES: [Cause; 9] = [
        Cause::Refused,
        Cause::Gate,
        Cause::Flip,
        Cause::Bake,
        Cause::Died,
        Cause::Inconclusive,
        Cause::Aborted,
        Cause::Interrupted,
        Cause::Asked,
    ];

    #[track_caller]
    fn check(kind: Kind, ended: Outcome, facts: Facts, expected: &str) {
        let (word, exit) = of_operation(kind, ended, facts);
        assert_eq!(format!("{} {}", word.name(), exit.code()), expected, "{ended:?} {facts:?}");
    }

    #[test]
    fn words_are_read_back() {
        for word in Word::ALL {
            assert_eq!(Word::parse(word.name()), Some(*word));
        }
        assert_eq!(Word::parse("Committed"), None);
    }

    #[test]
    fn a_commit_is_a_success_and_a_restart_has_its_own_word() {
        check(Kind::Release, Outcome::Committed, NONE, "committed 0");
        check(Kind::Rollback, Outcome::Committed, NONE, "committed 0");
        check(Kind::Restart, Outcome::Committed, NONE, "restarted 0");
    }

    #[test]
    fn what_never_had_a_connection_has_the_code_of_what_stopped_it() {
        for (cause, expected) in [
            (Cause::Refused, "rejected 10"),
            (Cause::Gate, "gate_failed 20"),
            (Cause::Flip, "gate_failed 20"),
            (Cause::Bake, "gate_failed 20"),
            (Cause::Died, "gate_failed 20"),
            (Cause::Inconclusive, "gate_failed 20"),
            (Cause::Aborted, "aborted 23"),
            (Cause::Interrupted, "interrupted 23"),
            (Cause::Asked, "gate_failed 20"),
        ] {
            check(Kind::Release, Outcome::Undone(cause), NONE, expected);
        }
        for (refusal, expected) in [
            (Exit::ArtifactRejected, "rejected 11"),
            (Exit::NoSpace, "rejected 13"),
            (Exit::MigrationFailed, "migration_failed 16"),
            (Exit::SchemaChanged, "migration_failed 17"),
            (Exit::OldUnproven, "migration_failed 18"),
            (Exit::Aborted, "rejected 23"),
        ] {
            let facts = Facts { refusal: Some(refusal), ..NONE };
            check(Kind::Release, Outcome::Undone(Cause::Refused), facts, expected);
        }
    }

    #[test]
    fn what_serves_on_data_that_it_does_not_run_on_needs_somebody() {
        let facts = Facts { is_unproven_on_data: true, ..NONE };
        for (cause, expected) in [
            (Cause::Gate, "gate_failed 18"),
            (Cause::Died, "gate_failed 18"),
            (Cause::Aborted, "aborted 18"),
            (Cause::Interrupted, "interrupted 18"),
            // Nothing was migrated.
            (Cause::Refused, "rejected 10"),
        ] {
            check(Kind::Release, Outcome::Undone(cause), facts, expected);
        }
        check(Kind::Release, Outcome::RolledBack(Cause::Bake), facts, "rolled_back 21");
        check(Kind::Release, Outcome::Committed, facts, "committed 0");
    }

    #[test]
    fn a_plan_ends_as_a_success_and_changes_no_other_end() {
        check(Kind::Release, Outcome::Undone(Cause::Aborted), PLAN, "planned 0");
        for cause in CAUSES.into_iter().filter(|cause| *cause != Cause::Aborted) {
            let ended = Outcome::Undone(cause);
            assert_eq!(
                of_operation(Kind::Release, ended, PLAN),
                of_operation(Kind::Release, ended, NONE)
            );
        }
    }

    #[test]
    fn a_rollback_is_a_success_only_when_it_was_asked_for_and_leads_elsewhere() {
        check(Kind::Rollback, Outcome::RolledBack(Cause::Asked), NONE, "rolled_back 0");
        check(Kind::Rollback, Outcome::RolledBack(Cause::Asked), BACK, "gate_failed 20");
        check(Kind::Release, Outcome::RolledBack(Cause::Aborted), NONE, "aborted 23");
        for cause in CAUSES {
            if !matches!(cause, Cause::Asked | Cause::Aborted) {
                check(Kind::Release, Outcome::RolledBack(cause), BACK, "rolled_back 21");
            }
        }
    }

    #[test]
    fn what_the_disk_did_not_let_go_on_trial_has_the_disks_code() {
        let facts = Facts { refusal: Some(Exit::NoSpace), ..NONE };
        check(Kind::Release, Outcome::RolledBack(Cause::Flip), facts, "rolled_back 13");
        check(Kind::Release, Outcome::RolledBack(Cause::Died), facts, "rolled_back 21");
    }

    #[test]
    fn a_rollback_that_failed_is_one_whatever_its_cause() {
        for cause in CAUSES {
            for ended in [Outcome::NothingBehind(cause), Outcome::RollbackFailed(cause)] {
                check(Kind::Release, ended, PLAN, "rollback_failed 30");
                check(Kind::Rollback, ended, BACK, "rollback_failed 30");
            }
        }
    }

    #[test]
    fn a_set_that_flipped_nothing_has_its_members_result() {
        assert_eq!(of_set(Ended::Committed, 0), Some((Word::Committed, Exit::Done)));
        assert_eq!(of_set(Ended::Stuck, 1), Some((Word::RollbackFailed, Exit::RollbackFailed)));
        assert_eq!(of_set(Ended::Back, 1), Some((Word::RolledBack, Exit::RolledBack)));
        assert_eq!(of_set(Ended::Back, 0), None);
    }
}
