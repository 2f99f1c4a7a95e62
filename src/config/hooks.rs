//! `[service.NAME.hooks]` and `hooks` in `release.toml`: commands around the points of a release.
//!
//! The host's run first, then the release's own: what the host wants done is not dropped because an
//! artifact wants something done as well. A host that wants none of the release's pins `hooks`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::raw::Section;

/// The keys of the section.
pub(super) const KEYS: &[&str] = &[
    "before_migrate",
    "before_start",
    "before_flip",
    "after_flip",
    "after_commit",
    "after_rollback",
    "before_stop",
    "deadline",
];
/// A hook is killed after this, when nothing else is said.
const DEADLINE: Duration = Duration::from_secs(60);

/// A command at a point of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// When it runs.
    pub point: Point,
    /// Program and arguments; a program with a `/` is relative to the release.
    pub command: Vec<String>,
    /// It is killed after this.
    #[serde(with = "super::duration")]
    pub deadline: Duration,
}

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// Before the data is migrated.
    BeforeMigrate,
    /// Before the candidate is started; in turn, before its callers are held.
    BeforeStart,
    /// When the gate is open, before anybody's connection goes to the candidate.
    BeforeFlip,
    /// When all connections go to it, beside the bake.
    AfterFlip,
    /// When it is the last good one.
    AfterCommit,
    /// When an older release serves again: that one's.
    AfterRollback,
    /// Before a release that was replaced is asked to stop: that one's.
    BeforeStop,
}

impl Point {
    /// All of them, in the order of a release.
    pub const ALL: [Self; 7] = [
        Self::BeforeMigrate,
        Self::BeforeStart,
        Self::BeforeFlip,
        Self::AfterFlip,
        Self::AfterCommit,
        Self::AfterRollback,
        Self::BeforeStop,
    ];

    /// The key that it is written under.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeMigrate => "before_migrate",
            Self::BeforeStart => "before_start",
            Self::BeforeFlip => "before_flip",
            Self::AfterFlip => "after_flip",
            Self::AfterCommit => "after_commit",
            Self::AfterRollback => "after_rollback",
            Self::BeforeStop => "before_stop",
        }
    }
}

/// The hooks of the section, in the order of [`Point::ALL`] and in their own.
pub(super) fn read(section: &Section<'_>) -> Vec<Hook> {
    let deadline = section.positive_duration("deadline").unwrap_or(DEADLINE);
    let mut hooks = Vec::new();
    for point in Point::ALL {
        for command in commands(section, point.name()) {
            hooks.push(Hook { point, command, deadline });
        }
    }
    hooks
}

/// One command, or a list of commands.
fn commands(section: &Section<'_>, key: &str) -> Vec<Vec<String>> {
    let Some(lists) = section.text_lists(key) else {
        return section.command(key).into_iter().collect();
    };
    let named = |words: &Vec<String>| words.first().is_some_and(|program| !program.is_empty());
    if !lists.iter().all(named) {
        section.problem_with_hint(key, "names no program", "write [[\"./bin/one\"], [\"two\"]]");
    }
    lists
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use toml::de::DeTable;

    use super::*;
    use crate::config::problem::Report;

    fn check(text: &str) -> (Vec<Hook>, Vec<String>) {
        let table = DeTable::parse(text).unwrap();
        let report = Report::new(Path::new("t.toml"), text);
        let section = Section::of("", &(0..0), table.get_ref(), KEYS, &report);
        let hooks = read(&section);
        drop(section);
        (hooks, report.into_problems().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_point_has_one_command_or_several() {
        let text = "after_commit = [\"./note\", \"-v\"]\nbefore_start = [[\"./a\"], [\"b\", \"c\"]]\n\
                    deadline = \"5s\"";
        let (hooks, problems) = check(text);
        assert_eq!(problems, [""; 0]);
        let said: Vec<String> =
            hooks.iter().map(|h| format!("{} {}", h.point.name(), h.command.join(" "))).collect();
        assert_eq!(said, ["before_start ./a", "before_start b c", "after_commit ./note -v"]);
        assert!(hooks.iter().all(|hook| hook.deadline.as_secs() == 5));
        assert_eq!(check("before_stop = [\"x\"]").0[0].deadline, DEADLINE);
    }

    #[test]
    fn what_is_no_command_is_answered_at_its_line() {
        for (text, problem) in [
            ("before_flip = []", "1: before_flip: names no program"),
            ("before_flip = [[]]", "1: before_flip: names no program"),
            ("\nbefore_flip = \"./a\"", "2: before_flip: it is a text and should be a list"),
            ("before_flip = [[\"a\"], \"b\"]", "1: before_flip: it is a text and should be a list"),
            ("before_flip = [[1]]", "1: before_flip: it is a whole number and should be a text"),
            ("deadline = \"0\"", "1: deadline: must be greater than zero"),
            ("before_flop = [\"a\"]", "1: before_flop: unknown key; did you mean before_flip?"),
        ] {
            let (_, problems) = check(text);
            let wanted = format!("t.toml:{problem}");
            assert!(problems[0].starts_with(&wanted), "{text}: {problems:?}");
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        }
    }

    #[test]
    fn every_point_has_a_key() {
        for point in Point::ALL {
            assert!(KEYS.contains(&point.name()));
        }
        assert_eq!(KEYS.len(), Point::ALL.len() + 1);
    }
}
