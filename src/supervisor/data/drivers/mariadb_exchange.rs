//! A backup takes the place of a live MariaDB database. A database cannot be renamed, tables can, all
//! of them in one statement: the backup is restored beside, then the tables change places. What is no
//! table stays where it is made: it is removed before, and made again after.
//!
//! After a crash the tables say how far it came: what is staged is beside, or what was there is in
//! the database before.

use std::path::{Path, PathBuf};

use crate::supervisor::data::context::Context;
use crate::supervisor::data::driver::{Done, Undone};
use crate::supervisor::data::drivers::mariadb_dump::{
    DATA, DATABASE, PROGRAMS, ask, charset, creating, dump_programs, exists, name, read, replacing,
    source, text, unhex, unreplaced,
};
use crate::supervisor::data::drivers::mariadb_url::Url;
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::replacement;

/// Longer names are refused (MariaDB, "Identifier Names").
const NAME_CHARS_MAX: usize = 64;
const BESIDE: &str = "_restored";
const BEFORE: &str = "_before_restore";
/// A table that says that a database is Halley's, which may remove it.
pub(super) const MARK: &str = "halley_sup_made_this";
/// A table that somebody else uses holds the exchange up no longer.
const LOCK_WAIT_S: u32 = 30;

/// Statements that remove triggers: a table with one cannot be moved to another database.
const UNMAKE_TRIGGERS: &str = "SELECT CONCAT('DROP TRIGGER `', REPLACE(trigger_name, '`', '``'), '`;') \
                               FROM information_schema.triggers WHERE trigger_schema = DATABASE();\n";
/// Statements that remove whatever else is no table.
const UNMAKE_OTHERS: &str = "SELECT CONCAT('DROP EVENT `', REPLACE(event_name, '`', '``'), '`;') FROM \
                             information_schema.events WHERE event_schema = DATABASE();\n\
                             SELECT CONCAT('DROP ', routine_type, ' `', REPLACE(routine_name, '`', \
                             '``'), '`;') FROM information_schema.routines WHERE routine_schema = \
                             DATABASE() AND routine_type IN ('PROCEDURE', 'FUNCTION');\n\
                             SELECT CONCAT('DROP VIEW `', REPLACE(table_name, '`', '``'), '`;') FROM \
                             information_schema.views WHERE table_schema = DATABASE();\n";

/// Databases whose tables change places.
pub(super) struct Exchange<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) live: &'a Url,
    /// The backup that is to come.
    pub(super) from: &'a Path,
}

impl Exchange<'_> {
    /// Whether the names beside are free, or of databases that an earlier restore has left.
    pub(super) async fn check(&self) -> Done {
        for database in [self.beside(), self.before()] {
            self.check_is_ours(&database).await?;
        }
        Ok(())
    }

    /// Restores the backup beside. Nothing that is live is touched.
    pub(super) async fn stage(&self) -> Done {
        self.check().await?;
        for database in [self.beside(), self.before()] {
            self.make(&database).await?;
        }
        let beside = self.beside();
        source(self.context, self.live, &beside, &self.from.join(DATA)).await?;
        // Whoever may not make these fails here. Events would run there.
        let [programs, views, _] = PROGRAMS;
        for path in [programs, views].map(|file| self.from.join(file)) {
            self.source(&beside, &path).await?;
        }
        let unmake = self.ask(&beside, "listing triggers", UNMAKE_TRIGGERS).await?;
        self.ask(&beside, "removing triggers", &unmake).await.map(drop)
    }

    /// Exchanges the tables, and makes the rest again.
    pub(super) async fn put(&self) -> Done {
        let (live, before, beside) = (&self.live.database, self.before(), self.beside());
        let made = read(&self.from.join(DATABASE))?.and_then(|script| creating(&script, live));
        let script = format!("CREATE DATABASE IF NOT EXISTS {};\n", name(live));
        let script = made.unwrap_or_default() + &script;
        self.ask("", "creating a database", &script).await?;
        dump_programs(self.context, self.live, &self.kept()).await?;
        let moves = [self.moves(live, &before).await?, self.moves(&beside, live).await?].concat();
        self.exchange(&moves, self.from, "replacing the live database").await?;
        self.make_again(self.from).await?;
        self.unstage().await
    }

    /// Brings back what was there before, whatever step [`Self::put`] came to.
    pub(super) async fn take_back(&self) -> Done<Undone> {
        let (live, before, beside) = (&self.live.database, self.before(), self.beside());
        let staged = self.moves(&beside, live).await?;
        let mut moves = self.moves(&before, live).await?;
        if moves.is_empty() && staged.is_empty() {
            return Ok(Undone::NothingBefore);
        }
        let is_put = !moves.is_empty();
        if is_put {
            self.make(&beside).await?;
            moves = [self.moves(live, &beside).await?, moves].concat();
        }
        if is_put || exists(&self.kept().join(PROGRAMS[2]))? {
            let kept = self.kept();
            self.exchange(&moves, &kept, "bringing the live database back").await?;
            self.make_again(&kept).await?;
        }
        Ok(if is_put { Undone::Back } else { Undone::Untouched })
    }

    /// The database that was there before, if its tables are moved.
    pub(super) async fn displaced(&self) -> Done<Option<String>> {
        let before = self.before();
        let is_moved = self.tables(&before).await?.iter().any(|table| table != MARK);
        Ok(is_moved.then_some(before))
    }

    /// Removes what is beside; what was there before stays where it has been moved.
    pub(super) async fn unstage(&self) -> Done {
        let (beside, before) = (self.beside(), self.before());
        let mut script = String::new();
        if self.tables(&beside).await?.iter().any(|table| table == MARK) {
            script.push_str(&format!("DROP DATABASE {};\n", name(&beside)));
        }
        if matches!(&self.tables(&before).await?[..], [table] if table == MARK) {
            script.push_str(&format!("DROP DATABASE {};\n", name(&before)));
        }
        self.ask("", "removing a database", &script).await.map(drop)
    }

    /// Removes what is no table, and moves the tables. Routines that come from `coming` again are
    /// replaced then: with one that is dropped, the rights on it are.
    async fn exchange(&self, moves: &[String], coming: &Path, what: &str) -> Done {
        let live = &self.live.database;
        let unmake = format!("{UNMAKE_TRIGGERS}{UNMAKE_OTHERS}");
        let unmake = self.ask(live, "listing what is no table", &unmake).await?;
        let unmake = unreplaced(&unmake, &read(&coming.join(PROGRAMS[0]))?.unwrap_or_default());
        let mut script = format!("SET SESSION lock_wait_timeout = {LOCK_WAIT_S};\n{unmake}");
        if !moves.is_empty() {
            script.push_str(&format!("RENAME TABLE {};\n", moves.join(", ")));
        }
        self.ask(live, what, &script).await.map(drop)
    }

    async fn make_again(&self, dir: &Path) -> Done {
        let [programs, others @ ..] = PROGRAMS;
        let live = &self.live.database;
        if let Some(script) = read(&dir.join(programs))? {
            self.ask(live, programs, &replacing(&script)).await?;
        }
        for file in others {
            self.source(live, &dir.join(file)).await?;
        }
        Ok(())
    }

    /// A new database of ours.
    async fn make(&self, database: &str) -> Done {
        let charset = charset(self.context, self.live).await;
        let script = format!(
            "DROP DATABASE IF EXISTS {name};\nCREATE DATABASE {name}{charset};\n\
             CREATE TABLE {name}.{MARK} (nothing INT);\n",
            name = name(database)
        );
        self.ask("", "creating a database", &script).await.map(drop)
    }

    async fn check_is_ours(&self, database: &str) -> Done {
        let tables = self.tables(database).await?;
        if tables.is_empty() || tables.iter().any(|table| table == MARK) {
            return Ok(());
        }
        Err(DataError::NameTaken { database: database.to_owned() })
    }

    /// Parts of the statement that moves all tables from one database to the other.
    async fn moves(&self, from: &str, to: &str) -> Done<Vec<String>> {
        let tables = self.tables(from).await?.into_iter().filter(|table| table != MARK);
        let part = |table: String| {
            let table = name(&table);
            format!("{}.{table} TO {}.{table}", name(from), name(to))
        };
        Ok(tables.map(part).collect())
    }

    async fn tables(&self, database: &str) -> Done<Vec<String>> {
        let query = format!(
            "SELECT HEX(table_name) FROM information_schema.tables WHERE table_schema = {} AND table_type \
             <> 'VIEW';\n",
            text(database)
        );
        let said = self.ask("", "listing tables", &query).await?;
        Ok(said.lines().filter_map(unhex).collect())
    }

    async fn source(&self, database: &str, path: &Path) -> Done {
        if exists(path)? { source(self.context, self.live, database, path).await } else { Ok(()) }
    }

    async fn ask(&self, database: &str, what: &str, script: &str) -> Done<String> {
        ask(self.context, self.live, database, what, script).await
    }

    /// Where that is which is no table, of the live database before.
    fn kept(&self) -> PathBuf {
        let id = self.from.parent().and_then(Path::file_name).unwrap_or_default();
        replacement::mark(self.context.service, &id.to_string_lossy())
    }

    fn beside(&self) -> String {
        named(&self.live.database, BESIDE)
    }

    fn before(&self) -> String {
        named(&self.live.database, BEFORE)
    }
}

/// The name of a database beside this one; long names with the same beginning stay apart.
fn named(database: &str, suffix: &str) -> String {
    let n_chars = database.chars().count() + suffix.len();
    if n_chars <= NAME_CHARS_MAX {
        return format!("{database}{suffix}");
    }
    let mut crc = flate2::Crc::new();
    crc.update(database.as_bytes());
    let kept: String = database.chars().take(NAME_CHARS_MAX - suffix.len() - 9).collect();
    format!("{kept}_{:08x}{suffix}", crc.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_beside_has_a_name_of_its_own() {
        assert_eq!(named("app", BEFORE), "app_before_restore");
        let long = |end: &str| named(&format!("{}{end}", "x".repeat(63)), BEFORE);
        assert!(long("a").len() <= NAME_CHARS_MAX && long("a") != long("b"));
    }
}
