//! Exit codes of the command line: what a result means for the host, as a number for scripts.
//!
//! On the wire and on the disk a code is its number, so that a newer Halley's codes pass through an
//! older one. Everywhere else it is a value of [`Exit`], and no number stands beside it.

macro_rules! exits {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)+) => {
        /// How a command ends.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Exit {
            $($(#[$doc])* $name,)+
        }

        impl Exit {
            /// Every code, the lowest first.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its number.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self { $(Self::$name => $code,)+ }
            }

            /// The meaning of a number. `None` when this Halley gives no such code.
            #[must_use]
            pub const fn of_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

exits! {
    /// Done, or nothing to do.
    Done = 0,
    /// Something of Halley's own failed.
    Internal = 1,
    /// Wrong usage or configuration. Nothing was changed.
    Usage = 2,
    /// The supervisor cannot be reached. Nothing was changed.
    Unreachable = 3,
    /// Not allowed. Nothing was changed.
    Forbidden = 4,
    /// Busy or frozen. Nothing was changed.
    Busy = 9,
    /// Preflight found reasons against it. Nothing was changed.
    PreflightRefused = 10,
    /// The artifact is damaged, too large or not allowed. Nothing was changed.
    ArtifactRejected = 11,
    /// Not enough disk space, inodes or memory, or the disk refuses. Nothing was changed.
    NoSpace = 13,
    /// The rollback rehearsal failed. Nothing was changed.
    RehearsalFailed = 14,
    /// The backup failed, or its restore rehearsal did. Nothing was changed.
    BackupFailed = 15,
    /// The migration failed and the schema is as before.
    MigrationFailed = 16,
    /// The migration failed and changed the schema; the old release is proven on it and serves.
    SchemaChanged = 17,
    /// The migration changed the data and the old release is not proven on it: manual action needed.
    OldUnproven = 18,
    /// The gate failed: no connection was ever steered to the candidate.
    GateFailed = 20,
    /// Rolled back after the flip; the old release serves and is verified.
    RolledBack = 21,
    /// Inconclusive: both releases run until promote or abort.
    Holding = 22,
    /// Aborted, interrupted or superseded. The old release serves.
    Aborted = 23,
    /// The rollback failed. The service is degraded until the next commit.
    RollbackFailed = 30,
    /// There is no release to go back to. Nothing was changed.
    NoTarget = 31,
    /// Nobody waits for it any more, and what was begun goes on.
    Detached = 40,
    /// Ctrl-C with no operation running. Nothing was changed.
    Interrupted = 130,
}

impl Exit {
    /// The one code of several failures: their own when it is the same for all, else that of a
    /// refusal.
    #[must_use]
    pub fn of_all(failures: impl IntoIterator<Item = Self>) -> Self {
        let mut failures = failures.into_iter();
        match failures.next() {
            Some(first) if failures.all(|other| other == first) => first,
            _ => Self::PreflightRefused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_one_meaning() {
        for exit in Exit::ALL {
            assert_eq!(Exit::of_code(exit.code()), Some(*exit));
        }
        assert!(Exit::ALL.is_sorted_by_key(|exit| exit.code()));
        assert_eq!(Exit::of_code(12), None);
    }

    #[test]
    fn several_kinds_of_failure_are_a_refusal() {
        for (failures, expected) in [
            (&[Exit::Busy][..], Exit::Busy),
            (&[Exit::NoSpace, Exit::NoSpace], Exit::NoSpace),
            (&[Exit::NoSpace, Exit::Busy], Exit::PreflightRefused),
            (&[], Exit::PreflightRefused),
        ] {
            assert_eq!(Exit::of_all(failures.iter().copied()), expected, "{failures:?}");
        }
    }
}
