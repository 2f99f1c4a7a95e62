//! `[service.NAME.hooks]` and `hooks` in `release.toml`: commands around the points of a release.
//!
//! The host's run first, then the release's own: what the host wants done is not dropped because an
//! artifact wants something done as well. A host that wants none of the release's pins `hooks`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::raw::Section;
use crate::core::operation::point::Point;

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
/// The default deadline: a hook is killed after this.
const DEADLINE: Duration = Duration::from_secs(60);

/// A command at a point of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// When it runs.
    #[serde(with = "point")]
    pub point: Point,
    /// Program and arguments; a program with a `/` is relative to the release.
    pub command: Vec<String>,
    /// It is killed after this.
    #[serde(with = "super::duration")]
    pub deadline: Duration,
}

/// A point in a file is its name.
mod point {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    use crate::core::operation::point::Point;

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's way")]
    pub(super) fn serialize<S: Serializer>(point: &Point, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(point.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Point, D::Error> {
        let name = String::deserialize(from)?;
        Point::parse(&name).ok_or_else(|| D::Error::custom(format!("unknown point `{name}`")))
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
    fn a_point_is_its_name_in_a_file() {
        for hook in check("before_flip = [\"./a\"]\nafter_commit = [\"./b\"]").0 {
            let text = serde_json::to_string(&hook).unwrap();
            assert!(text.contains(&format!("\"point\":\"{}\"", hook.point.name())), "{text}");
            assert_eq!(serde_json::from_str::<Hook>(&text).unwrap(), hook);
            let odd = text.replace(hook.point.name(), "at_noon");
            let error = serde_json::from_str::<Hook>(&odd).unwrap_err().to_string();
            assert!(error.contains("unknown point `at_noon`"), "{error}");
        }
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
