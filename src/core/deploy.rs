//! The operation: one release, rollback or restart, as a pure machine.
//!
//! A phase *is* the one effect that is in flight: the shell announces the phase in the journal
//! (fsync), performs it, and hands the machine what came of it. Every effect may be performed again
//! after a crash. Nothing that has served is stopped here: whoever was left by the last flip is
//! handed to [`super::retire`], which compares before it acts.
//!
//! Rollback is this machine entered at its way back, never a second path.

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

/// Where an operation stands, and so what is to be performed.
///
/// The way back climbs down a ladder: rung 0 is the process that served before and still runs,
/// rung 1.. are cold starts of the plan's releases in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The artifact's bytes go to `incoming/`.
    Receive,
    /// Length, digest, archive policy.
    Verify,
    /// All that can be known before the first side effect.
    Preflight,
    /// Unpack, seal, sync, rename to `releases/N`.
    Stage,
    /// Could we come back?
    RehearseOld,
    /// Take the backup.
    Backup,
    /// Restore it to scratch, migrate the copy.
    RestoreRehearsal,
    /// Migrate the live data.
    Migrate,
    /// Start the candidate in its own slots.
    Start,
    /// Probe it there.
    Gate,
    /// Trial file, steer to the candidate, `current`.
    Flip,
    /// Watch it.
    Bake,
    /// The bake was inconclusive: wait for `promote` or `abort`.
    Hold,
    /// One rename: `last_good` is the candidate, the trial is gone.
    Commit,
    /// Before any flip: stop the candidate, remove what was staged.
    Undo,
    /// Start this rung's release cold (never rung 0).
    BackStart(u8),
    /// Probe this rung in its own slots.
    BackGate(u8),
    /// Steer to this rung, `current`.
    BackFlip(u8),
    /// Probe it where users reach it.
    BackVerify(u8),
    /// One rename: `last_good` is this rung's release, the trial is gone.
    BackCommit(u8),
    /// No rung held. `Ok`: something answers, it is steered to and left alone. `Failed`: nothing
    /// answers, callers are held; after a pause the ladder is climbed again.
    Stranded,
    /// Over.
    Done(Outcome),
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The candidate is the last good release.
    Committed,
    /// It never got a connection; the phase that stopped it is in [`Cause`].
    Undone(Cause),
    /// An older release serves and is the last good one.
    RolledBack(Cause),
    /// The first release turned bad: there is nothing to go back to, it is left running.
    NothingBehind(Cause),
    /// No rung of the way back held; what still answers is left alone.
    RollbackFailed(Cause),
}

/// Why an operation left its way forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A phase before the candidate was started failed.
    Refused,
    /// The gate (or the start) failed.
    Gate,
    /// The flip itself failed.
    Flip,
    /// The bake failed.
    Bake,
    /// The candidate's processes ended.
    Died,
    /// The bake was inconclusive and the policy says go back.
    Inconclusive,
    /// Somebody said `abort`.
    Aborted,
    /// The supervisor or the machine went down in the middle.
    Interrupted,
    /// A rollback was what was asked for.
    Asked,
}

/// What came of the effect in flight, or happened meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The effect was performed (or there was nothing to do).
    Ok,
    /// It could not be, or its verdict is bad.
    Failed,
    /// The bake ended without a verdict.
    Inconclusive,
    /// A process of the candidate ended.
    Died,
    /// Somebody said `abort`.
    Abort,
    /// Somebody said `promote`.
    Promote,
}

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Deploy {
    plan: Plan,
    phase: Phase,
    cause: Cause,
}

impl Deploy {
    /// The operation at its first phase.
    #[must_use]
    pub fn begin(plan: Plan) -> Self {
        let (phase, cause) = match plan.kind {
            Kind::Release => (Phase::Receive, Cause::Refused),
            Kind::Restart => (Phase::Start, Cause::Gate),
            Kind::Rollback => (Phase::BackGate(0), Cause::Asked),
        };
        Self { plan, phase, cause }
    }

    /// The operation in the middle: for [`super::recover`] and tests.
    #[must_use]
    pub fn resume(plan: Plan, phase: Phase, cause: Cause) -> Self {
        Self { plan, phase, cause }
    }

    /// Where it stands: the effect to perform.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Why it left its way forward.
    #[must_use]
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// What it is about.
    #[must_use]
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// Takes one event in. `Some` is the next effect, to be announced and performed (the same
    /// phase again is a retry); `None` means that the event changes nothing and the effect in
    /// flight goes on.
    pub fn step(&mut self, event: Event) -> Option<Phase> {
        use Event::{Abort, Died, Failed, Inconclusive as Unclear, Ok, Promote};
        use Phase::*;
        let next = match (self.phase, event) {
            (Receive, Ok) => Verify,
            (Verify, Ok) => Preflight,
            (Preflight, Ok) => Stage,
            (Stage, Ok) => RehearseOld,
            (RehearseOld, Ok) => Backup,
            (Backup, Ok) => RestoreRehearsal,
            (RestoreRehearsal, Ok) => Migrate,
            (Migrate, Ok) => Start,
            (Start, Ok) => Gate,
            (Gate, Ok) => Flip,
            (Flip, Ok) => Bake,
            (Bake, Ok | Promote) | (Hold, Ok | Promote) => Commit,
            (Bake, Unclear) => match self.plan.inconclusive {
                Inconclusive::Promote => Commit,
                Inconclusive::Hold => Hold,
                Inconclusive::Rollback => self.back(Cause::Inconclusive),
            },
            // The rename is the commit: until it is done, and after it, nothing else may happen.
            (Commit, Ok) => Done(Outcome::Committed),
            (Commit, Failed) => Commit,

            (Receive | Verify | Preflight | Stage, Failed)
            | (RehearseOld | Backup | RestoreRehearsal | Migrate, Failed) => {
                self.undo(Cause::Refused)
            }
            (Start | Gate, Failed) => self.undo(Cause::Gate),
            (Start | Gate, Died) => self.undo(Cause::Died),
            (Receive | Verify | Preflight | Stage | RehearseOld | Backup, Abort)
            | (RestoreRehearsal | Migrate | Start | Gate, Abort) => self.undo(Cause::Aborted),
            (Undo, Ok) => Done(Outcome::Undone(self.cause)),
            (Undo, Failed) => Undo,

            (Flip, Failed) => self.back(Cause::Flip),
            (Bake | Hold, Failed) => self.back(Cause::Bake),
            (Flip | Bake | Hold, Died) => self.back(Cause::Died),
            (Flip | Bake | Hold, Abort) => self.back(Cause::Aborted),

            (BackStart(rung), Ok) => BackGate(rung),
            (BackGate(rung), Ok) => BackFlip(rung),
            (BackFlip(rung), Ok) => BackVerify(rung),
            (BackVerify(rung), Ok) => BackCommit(rung),
            (BackCommit(_), Ok) => Done(Outcome::RolledBack(self.cause)),
            (BackStart(rung) | BackGate(rung), Failed)
            | (BackFlip(rung) | BackVerify(rung), Failed) => self.below(rung),
            // The rename has no other way than through.
            (BackCommit(rung), Failed) => BackCommit(rung),
            (Stranded, Ok) => Done(Outcome::RollbackFailed(self.cause)),
            (Stranded, Failed) => BackGate(0),

            // The candidate's death changes nothing on the way back, nor before it exists; abort
            // and promote mean nothing there; a verdict nobody asked for is dropped.
            (_, Died | Abort | Promote | Unclear) | (Done(_), _) => return None,
        };
        self.phase = next;
        Some(next)
    }

    fn undo(&mut self, cause: Cause) -> Phase {
        self.cause = cause;
        Phase::Undo
    }

    fn back(&mut self, cause: Cause) -> Phase {
        self.cause = cause;
        if self.plan.n_cold == 0 {
            Phase::Done(Outcome::NothingBehind(cause))
        } else {
            Phase::BackGate(0)
        }
    }

    fn below(&self, rung: u8) -> Phase {
        if rung < self.plan.n_cold { Phase::BackStart(rung + 1) } else { Phase::Stranded }
    }
}

impl Phase {
    /// The name in journal and output: `gate`, `back_gate:1`.
    #[must_use]
    pub fn name(self) -> String {
        let plain = match self {
            Self::Receive => "receive",
            Self::Verify => "verify",
            Self::Preflight => "preflight",
            Self::Stage => "stage",
            Self::RehearseOld => "rehearse_old",
            Self::Backup => "backup",
            Self::RestoreRehearsal => "restore_rehearsal",
            Self::Migrate => "migrate",
            Self::Start => "start",
            Self::Gate => "gate",
            Self::Flip => "flip",
            Self::Bake => "bake",
            Self::Hold => "hold",
            Self::Commit => "commit",
            Self::Undo => "undo",
            Self::BackStart(rung) => return format!("back_start:{rung}"),
            Self::BackGate(rung) => return format!("back_gate:{rung}"),
            Self::BackFlip(rung) => return format!("back_flip:{rung}"),
            Self::BackVerify(rung) => return format!("back_verify:{rung}"),
            Self::BackCommit(rung) => return format!("back_commit:{rung}"),
            Self::Stranded => "stranded",
            Self::Done(_) => "done",
        };
        plain.to_owned()
    }

    /// The phase of this name; `done` is none that can be gone on with.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if let Some((plain, rung)) = name.split_once(':') {
            let rung = rung.parse().ok()?;
            let all = [
                Self::BackStart(rung),
                Self::BackGate(rung),
                Self::BackFlip(rung),
                Self::BackVerify(rung),
                Self::BackCommit(rung),
            ];
            return all.into_iter().find(|phase| phase.name().split(':').next() == Some(plain));
        }
        Self::PLAIN.into_iter().find(|phase| phase.name() == name)
    }

    /// The rung of the way back that it is about.
    #[must_use]
    pub fn rung(self) -> Option<u8> {
        match self {
            Self::BackStart(rung)
            | Self::BackGate(rung)
            | Self::BackFlip(rung)
            | Self::BackVerify(rung)
            | Self::BackCommit(rung) => Some(rung),
            _ => None,
        }
    }

    /// The phases without a rung, but for the end.
    pub const PLAIN: [Self; 16] = [
        Self::Receive,
        Self::Verify,
        Self::Preflight,
        Self::Stage,
        Self::RehearseOld,
        Self::Backup,
        Self::RestoreRehearsal,
        Self::Migrate,
        Self::Start,
        Self::Gate,
        Self::Flip,
        Self::Bake,
        Self::Hold,
        Self::Commit,
        Self::Undo,
        Self::Stranded,
    ];
}

macro_rules! named {
    ($type:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $type {
            /// The name in journal and output.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The one of this name.
            #[must_use]
            pub fn parse(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

named!(Kind { Release = "release", Rollback = "rollback", Restart = "restart" });
named!(Inconclusive { Promote = "promote", Hold = "hold", Rollback = "rollback" });
named!(Cause {
    Refused = "refused",
    Gate = "gate",
    Flip = "flip",
    Bake = "bake",
    Died = "died",
    Inconclusive = "inconclusive",
    Aborted = "aborted",
    Interrupted = "interrupted",
    Asked = "asked",
});

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan { kind: Kind::Release, n_cold: 2, inconclusive: Inconclusive::Hold };

    fn check(from: Phase, event: Event, expected: Option<Phase>) {
        let mut machine = Deploy::resume(PLAN, from, Cause::Bake);
        assert_eq!(machine.step(event), expected, "{from:?} {event:?}");
    }

    #[test]
    fn a_release_goes_through_its_phases_in_order() {
        let mut machine = Deploy::begin(PLAN);
        let mut names = vec![machine.phase().name()];
        while let Some(next) = machine.step(Event::Ok) {
            names.push(next.name());
        }
        let wanted = "receive verify preflight stage rehearse_old backup restore_rehearsal migrate \
                      start gate flip bake commit done";
        assert_eq!(names.join(" "), wanted.split_whitespace().collect::<Vec<_>>().join(" "));
        assert_eq!(machine.phase(), Phase::Done(Outcome::Committed));
    }

    #[test]
    fn each_failure_takes_the_way_its_phase_allows() {
        use Phase::*;
        for phase in [Receive, Verify, Preflight, Stage, Backup, Migrate, Start, Gate] {
            check(phase, Event::Failed, Some(Undo));
            check(phase, Event::Abort, Some(Undo));
        }
        for phase in [Flip, Bake, Hold] {
            check(phase, Event::Failed, Some(BackGate(0)));
            check(phase, Event::Died, Some(BackGate(0)));
            check(phase, Event::Abort, Some(BackGate(0)));
        }
        check(Bake, Event::Inconclusive, Some(Hold));
        check(Commit, Event::Failed, Some(Commit));
        check(Commit, Event::Died, None);
        check(Commit, Event::Abort, None);
        check(BackGate(0), Event::Failed, Some(BackStart(1)));
        check(BackVerify(1), Event::Failed, Some(BackStart(2)));
        check(BackStart(2), Event::Failed, Some(Stranded));
        check(BackFlip(1), Event::Failed, Some(BackStart(2)));
        check(BackCommit(1), Event::Failed, Some(BackCommit(1)));
        check(BackGate(1), Event::Abort, None);
        check(Stranded, Event::Failed, Some(BackGate(0)));
        check(Stranded, Event::Ok, Some(Done(Outcome::RollbackFailed(Cause::Bake))));
    }

    #[test]
    fn names_are_read_back() {
        let rungs = [Phase::BackStart(3), Phase::BackGate(0), Phase::BackCommit(1)];
        for phase in Phase::PLAIN.into_iter().chain(rungs) {
            assert_eq!(Phase::parse(&phase.name()), Some(phase));
        }
        assert_eq!(Phase::parse("done"), None);
        for cause in [Cause::Refused, Cause::Asked, Cause::Interrupted] {
            assert_eq!(Cause::parse(cause.name()), Some(cause));
        }
    }
}
