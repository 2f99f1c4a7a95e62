//! A database like the live one: with its owner, locale and tablespace, and with what a dump leaves
//! out, like settings and rights. The statements come from the live database; where that is missing,
//! from the backup. Values of settings may be secrets: none of them is printed.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::backup::postgres::Postgres;
use crate::core::ordered::Ordered as _;
use crate::supervisor::data::context::Context;
use crate::supervisor::data::driver::Done;
use crate::supervisor::data::drivers::mariadb_dump::exists;
use crate::supervisor::data::drivers::postgres_tools::{name, psql, psql_quiet, text};
use crate::supervisor::data::drivers::postgres_url::Url;

/// Statements, made from what the live database is like.
const MAKE: &str = include_str!("postgres_make.sql");
/// What a database is like.
const TRAITS: &str = include_str!("postgres_traits.sql");
/// The template that has nothing of its own, and fits any locale.
const TEMPLATE: &str = "template0";

/// Which statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The one that makes the database.
    Create,
    /// Those that give it what is left.
    Furnish,
}

impl Step {
    /// A backup's file with the statements.
    fn file(self) -> &'static str {
        match self {
            Self::Create => "create.sql",
            Self::Furnish => "furnish.sql",
        }
    }
}

/// What makes databases that are like the live one.
pub(super) struct Maker<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) url: &'a Url,
    pub(super) driver: &'a Postgres,
    /// A backup, for when there is no live database.
    pub(super) from: &'a Path,
}

impl Maker<'_> {
    /// Writes the statements to the backup.
    pub(super) async fn take(&self) -> Done {
        let write = |step: Step| {
            let file = path_text(&self.from.join(step.file()));
            format!("\\o {file}\n{};\n", self.statements(step, "':\"db\"'"))
        };
        let script = [Step::Create, Step::Furnish].map(write).concat();
        self.ask("settings of the database", &script).await
    }

    /// Makes a database that is empty.
    pub(super) async fn create(&self, database: &str) -> Done {
        self.perform(Step::Create, database, "creating a database").await
    }

    /// Gives it what the dump has not brought. What the role may not do is left out: [`lost`] sees it.
    pub(super) async fn furnish(&self, database: &str) -> Done {
        self.perform(Step::Furnish, database, "settings of the database").await
    }

    async fn perform(&self, step: Step, database: &str, what: &str) -> Done {
        let live = text(&self.url.database);
        let look = format!("SELECT count(*) FROM pg_database WHERE datname = {live}");
        let maintenance = self.url.maintenance();
        let found = psql(self.context, self.url, maintenance, "the live database", &look).await?;
        let file = self.from.join(step.file());
        let statements = if found.trim() == "1" {
            let target = format!("quote_ident({})", text(database));
            format!("{} \\gexec\n", self.statements(step, &target))
        } else if exists(&file)? {
            format!("\\set db {database}\n\\i {}\n", path_text(&file))
        } else if step == Step::Create {
            format!("CREATE DATABASE {} TEMPLATE {};\n", name(database), name(self.template()))
        } else {
            return Ok(());
        };
        let rigour = if step == Step::Create { "" } else { "\\set ON_ERROR_STOP 0\n" };
        self.ask(what, &format!("{rigour}{statements}")).await
    }

    fn statements(&self, step: Step, target: &str) -> String {
        let is_made = if step == Step::Create { "false" } else { "true" };
        MAKE.replace("TARGET", target)
            .replace("= LIVE", &format!("= {}", text(&self.url.database)))
            .replace("(TEMPLATE)", &format!("({})", text(self.template())))
            .replace("IS_MADE", is_made)
    }

    fn template(&self) -> &str {
        self.driver.template.as_deref().unwrap_or(TEMPLATE)
    }

    async fn ask(&self, what: &str, script: &str) -> Done {
        psql(self.context, self.url, self.url.maintenance(), what, script).await.map(drop)
    }
}

/// Traits of the live database that another does not have, though it was made from a backup of it.
pub(super) async fn lost(context: &Context<'_>, url: &Url, copy: &str) -> Done<Vec<String>> {
    // Where there is no live one, nothing can be compared with it.
    let Ok(live) = psql_quiet(context, url, &url.database, "the live database", TRAITS).await
    else {
        return Ok(Vec::new());
    };
    let copy = psql_quiet(context, url, copy, "the copy", TRAITS).await?;
    Ok(missing(&live, &copy))
}

/// Names of the traits of one that the other lacks, or has with another value.
fn missing(live: &str, copy: &str) -> Vec<String> {
    let traits = |text: &str| -> BTreeMap<String, String> {
        let pair = |line: &str| line.rsplit_once('\t').map(|(a, b)| (a.to_owned(), b.to_owned()));
        text.lines().filter_map(pair).into_map()
    };
    let copy = traits(copy);
    let is_lost = |(name, value): &(String, String)| copy.get(name) != Some(value);
    traits(live).into_iter().filter(is_lost).map(|(name, _)| name).collect()
}

/// A path for a command of psql.
fn path_text(path: &Path) -> String {
    let text = path.to_string_lossy();
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_copy_lacks_or_has_otherwise_is_lost() {
        let live = "its owner\ta1\nthe setting x\tb2\nthe setting y\tc3\n";
        assert_eq!(missing(live, live), [""; 0]);
        let copy = "its owner\ta1\nthe setting x\tb9\nthe right CREATE of web on it\td4\n";
        assert_eq!(missing(live, copy), ["the setting x", "the setting y"]);
    }
}
