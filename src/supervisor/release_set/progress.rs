//! What a set carries from member to member: its machine, its journal, what became of each.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::api::{Event, Member, Outcome};
use crate::core::exit::Exit;
use crate::core::ids::OpId;
use crate::core::operation::outcome::Word;
use crate::core::release_set::{Ended, Event as Step, Set as Machine, Stage};
use crate::store::journal::{Journal, JournalError};
use crate::store::set::{Came, Intent, Kind, Record, Step as Line, Turn};
use crate::supervisor::service::release_set::ReleaseSet;
use crate::supervisor::service::terms::Force;

/// A member's artifact, as the client handed it over.
#[derive(Debug)]
pub(crate) struct Artifact {
    /// It.
    pub source: OwnedFd,
    /// What was named.
    pub name: String,
    /// Also when it is frozen.
    pub force: Force,
}

/// What a set carries from member to member.
#[derive(Debug)]
pub(crate) struct Course {
    /// What it decides.
    pub machine: Machine,
    /// What it has written down.
    pub journal: Rc<RefCell<Journal>>,
    /// What became of each member so far.
    pub members: Vec<Member>,
    /// Why it goes back.
    pub turn: Option<Turn>,
    /// The operation that a supervisor before this one began and that goes on.
    pub in_flight: Option<OpId>,
    /// Each member's artifact, until the member begins. Lost after a crash.
    artifacts: Vec<Option<Artifact>>,
}

impl Course {
    /// A set without artifacts.
    pub(crate) fn new(intent: &Intent, machine: Machine, journal: Journal) -> Self {
        let waiting = |service: &str| Member {
            service: service.to_owned(),
            op: None,
            release: None,
            outcome: Word::NotBegun.into(),
            exit: None,
            serving: None,
            back: None,
            why: None,
        };
        let members = intent.members.iter().map(|member| waiting(&member.service)).collect();
        let journal = Rc::new(RefCell::new(journal));
        Self { machine, journal, members, turn: None, in_flight: None, artifacts: Vec::new() }
    }

    /// The same with each member's artifact.
    pub(crate) fn with_artifacts(self, artifacts: Vec<Option<Artifact>>) -> Self {
        Self { artifacts, ..self }
    }

    /// A member's artifact, once.
    pub(crate) fn take_artifact(&mut self, index: usize) -> Option<Artifact> {
        self.artifacts.get_mut(index)?.take()
    }

    /// Writes down that an operation is about to be begun, and waits for the disk: the
    /// supervisor after a crash looks for it by its number.
    ///
    /// # Errors
    /// The journal's.
    pub(crate) fn announce(
        &mut self,
        index: usize,
        kind: Kind,
        op: OpId,
    ) -> Result<(), JournalError> {
        let begin = Line::Begin { index, kind, op: op.0, aborted_by: None };
        self.journal.borrow_mut().announce(&Record::new(begin))
    }

    /// A member's operation is over: so the machine, and on to what it decides.
    pub(crate) fn ended(&mut self, set: &ReleaseSet, index: usize, came: Came, member: Member) {
        self.note_end(set, index, came, member);
        if set.aborted_by().is_some() {
            self.machine.step(Step::Abort);
        }
        self.machine.step(came.event());
        self.say_if_turned(set, Some(index));
    }

    /// Notes what became of a member. Its operation's own journal has it on the disk already, so
    /// this line need not wait for it.
    pub(crate) fn note_end(&mut self, set: &ReleaseSet, index: usize, came: Came, member: Member) {
        let line = Record::new(Line::End { came, member: member.clone() });
        if let Err(error) = self.journal.borrow_mut().note(&line) {
            tracing::warn!(set = set.id.0, %error, "recording a member's result");
        }
        let known = self.members.get_mut(index).filter(|known| **known != member);
        if let Some(known) = known {
            known.clone_from(&member);
            set.tell(Event::Member(Box::new(member)));
        }
    }

    /// Writes down why the set goes back, once: for the member that ended last, or for no member's
    /// sake. The way back does not wait for a journal that cannot be written.
    pub(crate) fn say_if_turned(&mut self, set: &ReleaseSet, last: Option<usize>) {
        let is_turned =
            !matches!(self.machine.stage(), Stage::Release(_) | Stage::Done(Ended::Committed));
        if !is_turned || self.turn.is_some() {
            return;
        }
        let guilty = last.and_then(|index| self.members.get(index));
        let turn = match guilty.and_then(|member| Some((member, member.exit?))) {
            Some((member, exit)) if exit != Exit::Done.code() => Turn {
                service: Some(member.service.clone()),
                outcome: member.outcome.clone(),
                exit,
                why: member.why.clone().unwrap_or_default(),
            },
            _ => closed(set),
        };
        let line = Record::new(Line::Back { turn: turn.clone() });
        if let Err(error) = self.journal.borrow_mut().announce(&line) {
            tracing::error!(set = set.id.0, %error, "recording that a set is rolled back");
        }
        self.turn = Some(turn);
    }
}

/// No member failed: `abort` was ordered, or the artifacts of the others are gone.
pub(crate) fn closed(set: &ReleaseSet) -> Turn {
    let (word, why) = match set.aborted_by() {
        Some(actor) => (Word::Aborted, format!("aborted by {actor}")),
        None => (
            Word::Interrupted,
            "the supervisor or the machine went down during the set, and the artifacts that were \
             not yet received are lost"
                .to_owned(),
        ),
    };
    Turn { service: None, outcome: word.into(), exit: Exit::Aborted.code(), why }
}

/// What the result of a member's operation means for the set.
pub(crate) fn came(kind: Kind, outcome: &Outcome) -> Came {
    match (kind, outcome.outcome.known(), Exit::of_code(outcome.exit)) {
        (Kind::Release, Some(Word::Committed), Some(Exit::Done)) => Came::Committed,
        (Kind::Release, _, exit) if exit != Some(Exit::RollbackFailed) => Came::Unchanged,
        (Kind::Rollback, Some(Word::RolledBack), Some(Exit::Done)) => Came::Back,
        (Kind::Rollback, Some(Word::Interrupted), _) => Came::Unchanged,
        _ => Came::Stuck,
    }
}

/// What becomes of a member by the result of its operation.
pub(crate) fn member(before: &Member, kind: Kind, outcome: &Outcome) -> Member {
    let why = outcome.trouble.as_ref().map(|trouble| trouble.why.clone());
    match (kind, came(kind, outcome)) {
        (Kind::Release, _) => Member {
            op: Some(outcome.op),
            release: outcome.release,
            outcome: outcome.outcome.clone(),
            exit: Some(outcome.exit),
            serving: outcome.serving,
            why,
            ..before.clone()
        },
        (Kind::Rollback, Came::Back) => Member {
            outcome: Word::RolledBack.into(),
            exit: Some(Exit::RolledBack.code()),
            serving: outcome.serving,
            back: Some(outcome.op),
            why: Some("rolled back with the set".to_owned()),
            ..before.clone()
        },
        (Kind::Rollback, Came::Unchanged) => before.clone(),
        (Kind::Rollback, _) => Member {
            outcome: Word::RollbackFailed.into(),
            exit: Some(Exit::RollbackFailed.code()),
            serving: outcome.serving,
            back: Some(outcome.op),
            why,
            ..before.clone()
        },
    }
}
