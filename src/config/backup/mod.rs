//! `[service.NAME.backup]`: how the data of a service is backed up. The host's alone: a release
//! does not choose how it is saved.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::model::{Backup, Driver};
use super::raw::Section;

pub(super) const KEYS: &[&str] = &[
    "driver", "path", "url_env", "query", "take", "restore", "check", "deadline", "keep",
    "keep_for",
];

const DEADLINE: Duration = Duration::from_secs(10 * 60);
const KEEP: u32 = 5;
const KEEP_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Keys that belong to one driver only.
const OWN: [(&str, &[&str]); 4] = [
    ("sqlite", &["path", "query"]),
    ("postgres", &["url_env", "query"]),
    ("files", &["path"]),
    ("command", &["take", "restore", "check"]),
];

pub(super) fn backup(section: &Section<'_>) -> Option<Backup> {
    let words = [("sqlite", 0), ("postgres", 1), ("files", 2), ("command", 3)];
    if !section.has("driver") {
        section.problem_with_hint("driver", "is missing", "sqlite, postgres, files or command");
    }
    let index: usize = section.word("driver", &words)?;
    let (name, own) = OWN[index];
    for (_, keys) in OWN {
        for key in keys.iter().filter(|key| section.has(key) && !own.contains(key)) {
            section.problem(key, format!("has no effect with driver = {name:?}"));
        }
    }
    let query = section.text("query").map(|found| found.value);
    let driver = match index {
        0 => Driver::Sqlite { path: path(section)?, query },
        1 => Driver::Postgres { url_env: variable(section)?, query },
        2 => Driver::Files { path: path(section)? },
        _ => {
            let words = |key: &str| {
                if !section.has(key) {
                    section.problem(key, "is missing");
                }
                section.command(key)
            };
            let (take, restore) = (words("take"), words("restore"));
            let check = section.command("check");
            Driver::Command { take: take?, restore: restore?, check }
        }
    };
    Some(Backup {
        driver,
        deadline: section.positive_duration("deadline").unwrap_or(DEADLINE),
        keep: section.number("keep", 1, 10_000).unwrap_or(KEEP),
        keep_for: section.positive_duration("keep_for").unwrap_or(KEEP_FOR),
    })
}

/// A path below `shared/`, or an absolute one.
fn path(section: &Section<'_>) -> Option<PathBuf> {
    if !section.has("path") {
        section.problem_with_hint("path", "is missing", "a path below shared/, or an absolute one");
        return None;
    }
    let text = section.text("path")?.value;
    let path = PathBuf::from(&text);
    let climbs = path.components().any(|part| part == Component::ParentDir);
    if text.is_empty() || climbs || text.contains(['\'', '"', '\n']) {
        section.problem("path", format!("{text:?} is not a path without .., quotes and new lines"));
        return None;
    }
    if path == Path::new("/") {
        section.problem("path", "must not be the root directory");
        return None;
    }
    Some(path)
}

fn variable(section: &Section<'_>) -> Option<String> {
    if !section.has("url_env") {
        let hint = "name the variable that holds the URL: \"DATABASE_URL\"";
        section.problem_with_hint("url_env", "is missing", hint);
    }
    let name = section.text("url_env")?.value;
    if name.contains("://") {
        let hint = "write the name of a variable here, and the URL into env_file";
        section.problem_with_hint("url_env", "is a URL, and the configuration is not secret", hint);
        return None;
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;
    use crate::config::problem::Report;

    fn check(text: &str) -> (Option<Backup>, Vec<String>) {
        let table = DeTable::parse(text).unwrap();
        let report = Report::new(Path::new("t.toml"), text);
        let top = Section::of("", &(0..0), table.get_ref(), KEYS, &report);
        let backup = backup(&top);
        drop(top);
        (backup, report.into_problems().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_driver_has_its_own_keys() {
        let (backup, problems) = check("driver = \"sqlite\"\npath = \"app.db\"");
        assert_eq!(problems, [""; 0]);
        let backup = backup.unwrap();
        assert_eq!((backup.keep, backup.keep_for), (KEEP, KEEP_FOR));
        let sqlite = Driver::Sqlite { path: "app.db".into(), query: None };
        assert_eq!(backup.driver, sqlite);
        for (text, problem) in [
            ("path = \"a\"", "driver: is missing"),
            ("driver = \"mysql\"", "is not one of sqlite, postgres, files, command"),
            ("driver = \"sqlite\"", "path: is missing"),
            ("driver = \"sqlite\"\npath = \"../a\"", "is not a path without .."),
            ("driver = \"files\"\npath = \"/\"", "must not be the root directory"),
            ("driver = \"files\"\npath = \".\"\nquery = \"x\"", "query: has no effect with driver"),
            ("driver = \"postgres\"", "url_env: is missing"),
            (
                "driver = \"postgres\"\nurl_env = \"postgres://u:p@h/d\"",
                "the configuration is not secret",
            ),
            ("driver = \"command\"\ntake = [\"./t\"]", "restore: is missing"),
            ("driver = \"files\"\npath = \".\"\nkeep = 0", "0 is not between"),
        ] {
            let (_, problems) = check(text);
            assert!(problems.iter().any(|found| found.contains(problem)), "{text}: {problems:?}");
        }
    }
}
