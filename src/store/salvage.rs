//! What is left of a damaged journal: its whole lines, and a journal that is made of them.

use std::fs;
use std::io;
use std::path::Path;

use crate::api::Outcome;
use crate::core::ids::OpId;
use crate::core::ordered::Ordered as _;
use crate::os::fs as durable;
use crate::store::journal::{self, Intent, Record};
use crate::store::layout::ServiceLayout;
use crate::store::line;

/// The phase that stands where lines were lost. No version knows it: an operation is not resumed on a
/// guess of what they had.
pub const LOST: &str = "lost";

/// The whole lines of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salvage {
    /// What the operation set out to do, when that line is whole.
    pub intent: Option<Intent>,
    /// The others that are whole.
    pub records: Vec<Record>,
    /// How many are not.
    pub n_lost: usize,
}

impl Salvage {
    /// The result that the operation has ended with.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.records.iter().find_map(|record| record.outcome.as_ref())
    }
}

/// Reads what can be read of an operation's journal.
#[must_use]
pub fn read(paths: &ServiceLayout, op: OpId) -> Salvage {
    let bytes = fs::read(journal::path(paths, op)).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let intent: Option<Intent> = lines.next().and_then(line::parse);
    // A stranger's journal tells of another operation.
    let intent = intent.filter(|intent| intent.op == op.0);
    let rest: Vec<&str> = lines.collect();
    let records: Vec<Record> = rest.iter().filter_map(|text| line::parse(text)).collect();
    let n_lost = rest.len() - records.len() + usize::from(intent.is_none());
    Salvage { intent, records, n_lost }
}

/// Every operation whose intent can be read, the newest first.
#[must_use]
pub fn all(paths: &ServiceLayout) -> Vec<(Intent, Option<Outcome>)> {
    let numbers = ServiceLayout::numbers(&paths.ops()).into_iter().rev();
    let found = numbers.filter_map(|number| {
        let salvage = read(paths, OpId(number));
        let outcome = salvage.outcome().cloned();
        Some((salvage.intent?, outcome))
    });
    found.collect()
}

/// Writes a journal of what is left, which is damaged no more. One that has no result stays open, and is
/// not resumed.
///
/// # Errors
/// The system's.
pub fn write(paths: &ServiceLayout, op: OpId, salvage: &Salvage) -> io::Result<()> {
    let Some(intent) = &salvage.intent else { return Ok(()) };
    let mut text = line::print(intent)?;
    for record in &salvage.records {
        text.extend(line::print(record)?);
    }
    if salvage.outcome().is_none() {
        text.extend(line::print(&Record::start(LOST, "", None))?);
    }
    durable::replace(&journal::path(paths, op), &text, 0o600)
}

/// Whether an operation's directory has something, and no journal.
#[must_use]
pub fn is_missing(paths: &ServiceLayout, op: OpId) -> bool {
    let names = |dir: &Path| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name()).into_set()
    };
    let path = journal::path(paths, op);
    !path.exists() && !names(&paths.op(op)).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::operation::outcome::Word;
    use crate::store::journal::Journal;
    use crate::store::layout::Layout;

    fn journal() -> (tempfile::TempDir, ServiceLayout) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Layout::new(dir.path()).service(&"web".parse().unwrap());
        paths.create().unwrap();
        let intent = serde_json::json!({
            "version": 1, "op": 7, "kind": "release", "actor": "", "source": "", "at": "x",
            "boot_id": "", "release": 4, "generation": 2, "old": 1, "warm": null, "ladder": [],
            "inconclusive": "hold", "succession": "overlap",
        });
        let intent: Intent = serde_json::from_value(intent).unwrap();
        let mut journal = Journal::create(&paths, &intent).unwrap();
        for phase in ["receive", "stage", "gate"] {
            journal.announce(&Record::start(phase, "refused", None)).unwrap();
        }
        (dir, paths)
    }

    #[test]
    fn whole_lines_are_kept_and_what_is_made_of_them_is_open_and_not_resumed() {
        let (_dir, paths) = journal();
        let path = journal::path(&paths, OpId(7));
        let text = fs::read_to_string(&path).unwrap().replace("\"stage\"", "\"stagx\"");
        fs::write(&path, text).unwrap();
        assert!(journal::read(&paths, OpId(7)).is_err());
        let salvage = read(&paths, OpId(7));
        assert_eq!((salvage.records.len(), salvage.n_lost), (2, 1));
        write(&paths, OpId(7), &salvage).unwrap();
        let (intent, records) = journal::open_operation(&paths).unwrap().unwrap();
        let phases: Vec<_> = records.iter().map(|record| record.phase.as_str()).collect();
        assert_eq!((intent.release, phases), (4, vec!["receive", "gate", LOST]));
    }

    #[test]
    fn what_has_a_result_is_closed_whatever_else_was_lost() {
        let (_dir, paths) = journal();
        let outcome = Outcome::new(Word::Committed.into(), "web", 7);
        let mut journal = Journal::reopen(&paths, OpId(7)).unwrap();
        journal.announce(&Record::result(outcome)).unwrap();
        let path = journal::path(&paths, OpId(7));
        let text = fs::read_to_string(&path).unwrap().replace("\"stage\"", "\"stagx\"");
        fs::write(&path, text).unwrap();
        write(&paths, OpId(7), &read(&paths, OpId(7))).unwrap();
        assert!(journal::open_operation(&paths).unwrap().is_none());
        assert!(all(&paths)[0].1.is_some());
    }

    #[test]
    fn the_journal_of_another_operation_has_no_intent() {
        let (_dir, paths) = journal();
        fs::create_dir(paths.op(OpId(8))).unwrap();
        fs::copy(journal::path(&paths, OpId(7)), journal::path(&paths, OpId(8))).unwrap();
        assert_eq!(read(&paths, OpId(8)).intent, None);
        fs::write(paths.op(OpId(8)).join("output.log"), "").unwrap();
        assert!(!is_missing(&paths, OpId(8)));
        fs::remove_file(journal::path(&paths, OpId(8))).unwrap();
        assert!(is_missing(&paths, OpId(8)));
    }
}
