//! `[service.NAME.backup]`: how the data of a service is backed up. The host's alone: a release
//! does not choose how it is saved.

pub mod command;
pub mod files;
pub mod mariadb;
mod path;
pub mod postgres;
pub mod sqlite;
mod variable;

use std::time::Duration;

use super::kinds::{self, Keys, kinds};
use super::raw::Section;

const DEADLINE: Duration = Duration::from_secs(10 * 60);
const KEEP: u32 = 5;
const KEEP_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The drivers, one line each.
macro_rules! drivers {
    ($then:ident!($($with:tt)*)) => {
        $then! {
            ($($with)*)
            /// A SQLite database.
            Sqlite(settings: sqlite::Sqlite) = sqlite,
            /// A PostgreSQL database.
            Postgres(settings: postgres::Postgres) = postgres,
            /// A MariaDB or MySQL database.
            MariaDb(settings: mariadb::MariaDb) = mariadb,
            /// A tree of files.
            Files(settings: files::Files) = files,
            /// Anything else.
            Command(settings: command::Command) = command,
        }
    };
}
pub(crate) use drivers;

drivers!(kinds!(
    /// By what data is backed up. A path is below `shared/`, or absolute.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum Driver {}
));

macro_rules! name_of {
    (
        ($driver:expr)
        $($(#[$doc:meta])* $variant:ident ($settings:ident: $type:ty) = $file:ident,)+
    ) => {
        match $driver {
            $(Self::$variant(_) => $file::KIND.name,)+
        }
    };
}

impl Driver {
    /// Its name, as it is written.
    #[must_use]
    pub fn name(&self) -> &'static str {
        drivers!(name_of!(self))
    }
}

const ALL: &Keys = &Keys::new()
    .and(&["driver"])
    .and_of(Driver::KINDS)
    .and(&["deadline", "keep", "keep_for", "max_age"]);
/// The keys of the section.
pub(super) const KEYS: &[&str] = ALL.list();

/// How data is backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// By what.
    pub driver: Driver,
    /// Each of its commands is killed after this.
    pub deadline: Duration,
    /// How many are kept.
    pub keep: u32,
    /// How long they are kept; the newest always.
    pub keep_for: Duration,
    /// A release uses a backup that is not older instead of taking one; absent: it always takes one.
    pub max_age: Option<Duration>,
}

pub(super) fn backup(section: &Section<'_>) -> Option<Backup> {
    if !section.has("driver") {
        let names: Vec<_> = Driver::KINDS.iter().map(|row| row.kind.name).collect();
        section.problem_with_hint("driver", "is missing", kinds::one_of(&names));
    }
    let row = kinds::named(section, "driver", Driver::KINDS)?;
    for other in Driver::KINDS {
        let is_other = |key: &&&str| section.has(key) && !row.kind.keys.contains(key);
        for key in other.kind.keys.iter().filter(is_other) {
            section.problem(key, format!("has no effect with driver = {:?}", row.kind.name));
        }
    }
    Some(Backup {
        driver: (row.read)(section)?,
        deadline: section.positive_duration("deadline").unwrap_or(DEADLINE),
        keep: section.number("keep", 1, 10_000).unwrap_or(KEEP),
        keep_for: section.positive_duration("keep_for").unwrap_or(KEEP_FOR),
        max_age: section.positive_duration("max_age"),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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
        assert_eq!((backup.keep, backup.keep_for, backup.max_age), (KEEP, KEEP_FOR, None));
        let sqlite = Driver::Sqlite(sqlite::Sqlite { path: "app.db".into(), query: None });
        assert_eq!(backup.driver, sqlite);
        for (text, problem) in [
            ("path = \"a\"", "driver: is missing"),
            ("driver = \"mysql\"", "is not one of sqlite, postgres, mariadb, files, command"),
            ("driver = \"sqlite\"", "path: is missing"),
            ("driver = \"sqlite\"\npath = \"../a\"", "is not a path without .."),
            ("driver = \"files\"\npath = \"/\"", "must not be the root directory"),
            ("driver = \"files\"\npath = \".\"\nquery = \"x\"", "query: has no effect with driver"),
            ("driver = \"postgres\"", "url_env: is missing"),
            (
                "driver = \"postgres\"\nurl_env = \"postgres://u:p@h/d\"",
                "the configuration is not secret",
            ),
            ("driver = \"mariadb\"\nurl_env = \"URL\"", "rehearse_url_env: is missing"),
            ("driver = \"command\"\ntake = [\"./t\"]", "restore: is missing"),
            (
                "driver = \"command\"\ntake = [\"t\"]\nrestore = [\"r\"]\npaths = [\"../a\"]",
                "paths: \"../a\" is not a path without ..",
            ),
            ("driver = \"files\"\npath = \".\"\nkeep = 0", "0 is not between"),
            ("driver = \"files\"\npath = \".\"\nmax_age = \"0s\"", "max_age: must be greater"),
        ] {
            let (_, problems) = check(text);
            assert!(problems.iter().any(|found| found.contains(problem)), "{text}: {problems:?}");
        }
    }
}
