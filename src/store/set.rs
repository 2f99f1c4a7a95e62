//! The journal of one set: `sets/0000003/journal.ndjson`, in the format of an operation's journal.
//!
//! The first line is the intent: the members in order, with what served before. Then each member's
//! operation by its number, before that operation has a journal of its own; how it ended; the turn;
//! the result. All that recovery must know; what became of an operation is in its own journal.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::api::{Member, Outcome, OutcomeWord};
use crate::core::ids::SetId;
use crate::core::release_set::{Before, Entry, Event, Stage};
use crate::os::{clock, fs};
use crate::store::journal::{self, Journal, JournalError};
use crate::store::layout::{Layout, ServiceLayout};
use crate::store::reserve;

/// The version of this format.
const VERSION: u16 = 1;

/// What a set set out to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Version of the journal's format.
    pub version: u16,
    /// The set's number.
    pub set: u64,
    /// The user that requested the set.
    pub actor: String,
    /// When, RFC 3339.
    pub at: String,
    /// The members, in the order of their releases.
    pub members: Vec<Planned>,
}

/// A member, before anything was done to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Which service.
    pub service: String,
    /// What was named as the source.
    pub source: String,
    /// Its last good release; none when the set brings its first.
    pub before: Option<u64>,
}

/// One line after the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When, RFC 3339.
    pub at: String,
    /// What.
    #[serde(rename = "flat:")]
    pub step: Step,
}

/// The content of a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "tag:step", rename_all = "snake_case")]
pub enum Step {
    /// This operation is about to be begun.
    Begin {
        /// The member's place, from 0.
        index: usize,
        /// What is done to it.
        kind: Kind,
        /// The operation's number.
        op: u64,
        /// Who has aborted the set since: such a line repeats the one before it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        aborted_by: Option<String>,
    },
    /// The operation that was begun last is over.
    End {
        /// How, for the machine.
        came: Came,
        /// How, for people.
        member: Member,
    },
    /// No further member is begun: those that were committed go back.
    Back {
        /// Why.
        #[serde(rename = "flat:")]
        turn: Turn,
    },
    /// The set is over.
    Done {
        /// How.
        outcome: Box<Outcome>,
    },
}

/// What is done to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Its release.
    Release,
    /// Back to what served before.
    Rollback,
}

/// Twin of the machine's [`Event`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "they are the machine's")]
pub enum Came {
    Committed,
    Unchanged,
    Back,
    Stuck,
}

/// Why a set goes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The member that is the reason; none when it was an abort or a crash between members.
    pub service: Option<String>,
    /// The outcome when nothing had been flipped.
    pub outcome: OutcomeWord,
    /// Its exit code.
    pub exit: u8,
    /// For people.
    pub why: String,
}

impl Kind {
    /// The name in output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Rollback => "rollback",
        }
    }

    /// As the machine's stage.
    #[must_use]
    pub fn stage(self, index: usize) -> Stage {
        match self {
            Self::Release => Stage::Release(index),
            Self::Rollback => Stage::Rollback(index),
        }
    }
}

impl Came {
    /// As the machine's event.
    #[must_use]
    pub fn event(self) -> Event {
        match self {
            Self::Committed => Event::Committed,
            Self::Unchanged => Event::Unchanged,
            Self::Back => Event::Back,
            Self::Stuck => Event::Stuck,
        }
    }
}

impl Intent {
    /// An intent of this version.
    #[must_use]
    pub fn new(set: SetId, actor: &str, members: Vec<Planned>) -> Self {
        let (actor, at) = (actor.to_owned(), clock::now_rfc3339());
        Self { version: VERSION, set: set.0, actor, at, members }
    }

    /// What each member can go back to, for the machine.
    #[must_use]
    pub fn before(&self) -> Vec<Before> {
        let before = |member: &Planned| match member.before {
            Some(_) => Before::Something,
            None => Before::Nothing,
        };
        self.members.iter().map(before).collect()
    }
}

impl Record {
    /// A line of this moment.
    #[must_use]
    pub fn new(step: Step) -> Self {
        Self { at: clock::now_rfc3339(), step }
    }

    /// The state machine's entry for the step.
    #[must_use]
    pub fn entry(&self) -> Option<Entry> {
        match &self.step {
            Step::Begin { index, kind, .. } => Some(Entry::Begun(kind.stage(*index))),
            Step::End { came, .. } => Some(Entry::Ended(came.event())),
            Step::Back { .. } => Some(Entry::Turned),
            Step::Done { .. } => None,
        }
    }
}

/// Why a set's journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// It cannot be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A newer Halley wrote it.
    #[error("{path} has version {found}, this halley-sup reads {VERSION}", path = path.display())]
    Version {
        /// The directory.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
    /// The system's own reason.
    #[error("{path}: {source}", path = path.display())]
    System {
        /// The directory.
        path: PathBuf,
        /// The error.
        #[source]
        source: std::io::Error,
    },
}

/// Begins a set's journal with its intent; it is on the disk after the first announcement.
///
/// # Errors
/// The system's.
pub fn create(layout: &Layout, intent: &Intent) -> Result<Journal, SetError> {
    let dir = layout.sets();
    let made = fs::create_dir(&dir, 0o700).and_then(|()| fs::sync_dir(layout.root()));
    made.map_err(|source| SetError::System { path: dir.clone(), source })?;
    reserve::fill(&reserve_of(layout));
    Ok(Journal::create_in(&layout.set(SetId(intent.set)), reserve_of(layout), intent)?)
}

/// Goes on with a set's journal.
///
/// # Errors
/// The system's.
pub fn reopen(layout: &Layout, set: SetId) -> Result<Journal, SetError> {
    Ok(Journal::reopen_in(&layout.set(set), reserve_of(layout))?)
}

/// Reads a set's journal. `None` when it was torn before its intent was whole: nothing was done.
///
/// # Errors
/// [`SetError`]; the journal is left as it is.
pub fn read(layout: &Layout, set: SetId) -> Result<Option<(Intent, Vec<Record>)>, SetError> {
    let path = layout.set(set);
    let Some((intent, records)) = journal::read_in::<Intent, Record>(&path)? else {
        return Ok(None);
    };
    match intent.version {
        VERSION => Ok(Some((intent, records))),
        found => Err(SetError::Version { path, found }),
    }
}

/// The newest set, if it has no result: there is one at a time.
///
/// # Errors
/// As [`read`].
pub fn open(layout: &Layout) -> Result<Option<(Intent, Vec<Record>)>, SetError> {
    let Some(newest) = ServiceLayout::numbers(&layout.sets()).pop() else { return Ok(None) };
    let is_done = |record: &Record| matches!(record.step, Step::Done { .. });
    Ok(read(layout, SetId(newest))?.filter(|(_, records)| !records.iter().any(is_done)))
}

/// The number of the next set.
#[must_use]
pub fn next(layout: &Layout) -> SetId {
    SetId(ServiceLayout::numbers(&layout.sets()).pop().unwrap_or(0) + 1)
}

fn reserve_of(layout: &Layout) -> PathBuf {
    layout.sets().join("reserve")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::core::operation::outcome::Word;

    fn planned(service: &str, before: Option<u64>) -> Planned {
        Planned { service: service.to_owned(), source: "build".to_owned(), before }
    }

    fn written(steps: &[Step]) -> (tempfile::TempDir, Layout, Intent) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let members = vec![planned("api", Some(1)), planned("web", None)];
        let intent = Intent::new(next(&layout), "ci", members);
        let mut journal = create(&layout, &intent).unwrap();
        for step in steps {
            journal.announce(&Record::new(step.clone())).unwrap();
        }
        (dir, layout, intent)
    }

    fn begin(kind: Kind) -> Step {
        Step::Begin { index: 0, kind, op: 7, aborted_by: None }
    }

    #[test]
    fn a_set_is_open_until_its_result_is_written() {
        let (_dir, layout, intent) = written(&[begin(Kind::Release)]);
        let (read_intent, records) = open(&layout).unwrap().unwrap();
        assert_eq!(
            (&read_intent, records[0].entry()),
            (&intent, Some(Entry::Begun(Stage::Release(0))))
        );
        assert_eq!(intent.before(), [Before::Something, Before::Nothing]);
        let outcome = Outcome::new(Word::Committed.into(), "api,web", 1);
        let done = Step::Done { outcome: Box::new(outcome) };
        reopen(&layout, SetId(1)).unwrap().announce(&Record::new(done)).unwrap();
        assert!(open(&layout).unwrap().is_none());
        assert_eq!(next(&layout), SetId(2));
    }

    #[test]
    fn what_was_not_whole_was_not_begun_and_damage_is_named() {
        let (_dir, layout, _) = written(&[begin(Kind::Release), begin(Kind::Rollback)]);
        let path = layout.set(SetId(1)).join("journal.ndjson");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..40]).unwrap();
        assert!(open(&layout).unwrap().is_none());
        std::fs::write(&path, text.replacen("\"op\":7", "\"op\":8", 1)).unwrap();
        let error = open(&layout).unwrap_err().to_string();
        assert!(error.ends_with("0000001/journal.ndjson: line 2 is damaged"), "{error}");
    }

    #[test]
    fn a_journal_of_version_1_loads_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        std::fs::create_dir_all(layout.set(SetId(3))).unwrap();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/set-v1.ndjson");
        std::fs::copy(fixture, layout.set(SetId(3)).join("journal.ndjson")).unwrap();
        let (intent, records) = read(&layout, SetId(3)).unwrap().unwrap();
        let names: Vec<_> = intent.members.iter().map(|m| (m.service.as_str(), m.before)).collect();
        assert_eq!(names, [("api", Some(4)), ("web", None)]);
        let entries: Vec<_> = records.iter().filter_map(Record::entry).collect();
        let expected = [
            Entry::Begun(Stage::Release(0)),
            Entry::Ended(Event::Committed),
            Entry::Begun(Stage::Release(1)),
            Entry::Ended(Event::Unchanged),
            Entry::Turned,
            Entry::Begun(Stage::Rollback(0)),
            Entry::Ended(Event::Back),
        ];
        assert_eq!(entries, expected);
        assert!(matches!(&records[7].step, Step::Done { outcome } if outcome.exit == 21));
        assert!(open(&layout).unwrap().is_none());
    }
}
