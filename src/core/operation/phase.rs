//! The phases of an operation and their names in journal and output.

use crate::core::operation::machine::Outcome;
use crate::core::operation::point::Point;

/// What a point is called in journal and output: `hook:before_flip`.
pub const HOOK: &str = "hook:";

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
    /// Run the hooks of a point, at most once. What follows their failure is the machine's. The
    /// hooks after the flip run beside the bake and are part of it: no phase waits for them.
    Hook(Point),
    /// Migrate the live data.
    Migrate,
    /// In turn only: from here on connections wait in a queue that no process accepts from.
    Park,
    /// In turn only: stop the old one. Its new connections are held; from here on the way back is
    /// a cold start.
    StopOld,
    /// Start the candidate in its own slots.
    Start,
    /// Probe it there.
    Gate,
    /// Steer this step's part of the connections to the candidate and watch it.
    Step(u8),
    /// The step's verdict was inconclusive: wait for `promote` or `abort`.
    StepHold(u8),
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
    /// Start this rung's release cold (never rung 0). In turn: first hold the connections and stop
    /// the release that runs.
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
    /// answers, connections are held; after a pause the ladder is climbed again.
    Stranded,
    /// Over.
    Done(Outcome),
}

/// What `promote` ends as a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promotion {
    /// A step: the next one has its own verdict.
    Step,
    /// The trial: the candidate is committed.
    Trial,
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
            Self::Hook(point) => return format!("{HOOK}{}", point.name()),
            Self::Migrate => "migrate",
            Self::Park => "park",
            Self::StopOld => "stop_old",
            Self::Start => "start",
            Self::Gate => "gate",
            Self::Step(step) => return format!("step:{step}"),
            Self::StepHold(step) => return format!("step_hold:{step}"),
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
        if let Some(point) = name.strip_prefix(HOOK) {
            let point = Point::parse(point).filter(|point| *point != Point::AfterFlip)?;
            return Some(Self::Hook(point));
        }
        if let Some((plain, rung)) = name.split_once(':') {
            let rung = rung.parse().ok()?;
            let all = [
                Self::BackStart(rung),
                Self::BackGate(rung),
                Self::BackFlip(rung),
                Self::BackVerify(rung),
                Self::BackCommit(rung),
                Self::Step(rung),
                Self::StepHold(rung),
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

    /// Whether the candidate gets connections and is not committed: a supervisor that comes up in
    /// such a phase uses one of the trial's tries.
    #[must_use]
    pub const fn is_on_trial(self) -> bool {
        matches!(self, Self::Step(_) | Self::StepHold(_) | Self::Flip | Self::Bake | Self::Hold)
    }

    /// Whether an abort waits for its end: what was begun on the data and on the old one is not
    /// called off.
    #[must_use]
    pub fn is_seen_through(self) -> bool {
        matches!(self, Self::Migrate | Self::StopOld)
    }

    /// Whether it is the one rename, forward or back: it is tried again until the disk takes it.
    #[must_use]
    pub fn is_commit(self) -> bool {
        matches!(self, Self::Commit | Self::BackCommit(_))
    }

    /// What `promote` ends in this phase; nothing where there is nothing to be decided.
    #[must_use]
    pub const fn promotion(self) -> Option<Promotion> {
        match self {
            Self::Step(_) | Self::StepHold(_) => Some(Promotion::Step),
            Self::Bake | Self::Hold => Some(Promotion::Trial),
            _ => None,
        }
    }

    /// The phases without a rung or a step, but for the end.
    pub const PLAIN: [Self; 18] = [
        Self::Receive,
        Self::Verify,
        Self::Preflight,
        Self::Stage,
        Self::RehearseOld,
        Self::Backup,
        Self::RestoreRehearsal,
        Self::Migrate,
        Self::Park,
        Self::StopOld,
        Self::Start,
        Self::Gate,
        Self::Flip,
        Self::Bake,
        Self::Hold,
        Self::Commit,
        Self::Undo,
        Self::Stranded,
    ];

    /// All that an operation is ever at; those with a rung or a step once.
    #[cfg(test)]
    pub fn all() -> Vec<Self> {
        let points = Point::ALL.into_iter().filter(|point| *point != Point::AfterFlip);
        let counted = [
            Self::Step(0),
            Self::StepHold(0),
            Self::BackStart(1),
            Self::BackGate(0),
            Self::BackFlip(0),
            Self::BackVerify(0),
            Self::BackCommit(0),
        ];
        Self::PLAIN.into_iter().chain(points.map(Self::Hook)).chain(counted).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let rungs = [Phase::BackStart(3), Phase::BackGate(0), Phase::BackCommit(1), Phase::Step(2)];
        for phase in Phase::all().into_iter().chain(rungs) {
            assert_eq!(Phase::parse(&phase.name()), Some(phase));
        }
        assert_eq!(Phase::parse("hook:after_flip"), None);
        assert_eq!(Phase::parse("hook:at_noon"), None);
        assert_eq!(Phase::parse("done"), None);
    }
}
