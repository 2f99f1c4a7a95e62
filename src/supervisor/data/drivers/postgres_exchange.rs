//! One database takes the place of another by renames. Both renames are one transaction, so after a
//! crash either none of them is done or both. What was there before stays as it was, lets nobody in,
//! and is never dropped before what is in its place has proven itself. Neither is what an earlier
//! restore has left under its name: that makes room by a rename in the same transaction.

use crate::supervisor::data::context::Context;
use crate::supervisor::data::driver::{Done, Undone};
use crate::supervisor::data::drivers::postgres_tools::{discard, name, psql, text};
use crate::supervisor::data::drivers::postgres_url::Url;
use crate::supervisor::data::error::DataError;

/// Names that PostgreSQL does not cut.
pub(super) const NAME_BYTES_MAX: usize = 63;
const BEFORE: &str = "_before_restore";
const EARLIER: &str = "_earlier_restore";
/// With this the comment begins of a database that a restore has left, and that the next may drop.
const MARK: &str = "halley-sup: ";

/// Databases whose places are exchanged.
pub(super) struct Exchange<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) url: &'a Url,
    /// What is to come.
    pub(super) staged: String,
}

/// Which databases there are of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    live: bool,
    before: bool,
    earlier: bool,
    staged: bool,
}

impl Exchange<'_> {
    /// One that an earlier restore has left makes room when the present one is renamed.
    pub(super) async fn make_ready(&self) -> Done {
        self.check().await?;
        // A restore that was proven could not drop it.
        let found = self.found().await?;
        if found.earlier && found.before {
            discard(self.context, self.url, &self.earlier()).await?;
        }
        Ok(())
    }

    /// Whether the present database can be renamed, and gets a name that is free.
    pub(super) async fn check(&self) -> Done {
        let live = text(&self.url.database);
        let owns = format!(
            "SELECT pg_has_role(current_user, datdba, 'USAGE') FROM pg_database WHERE datname = \
             {live}"
        );
        if self.query("the owner of the database", &owns).await?.trim() == "f" {
            return Err(DataError::MayNotRename { database: self.url.database.clone() });
        }
        let prepared = format!(
            "SELECT string_agg(quote_literal(gid), ', ') FROM pg_prepared_xacts WHERE database = {live}"
        );
        let transactions = self.query("prepared transactions", &prepared).await?.trim().to_owned();
        if !transactions.is_empty() {
            return Err(DataError::Prepared { database: self.url.database.clone(), transactions });
        }
        let foreign = format!(
            "SELECT datname FROM pg_database WHERE datname IN ({}, {}) AND \
             coalesce(shobj_description(oid, 'pg_database'), '') NOT LIKE '{MARK}%' LIMIT 1",
            text(&self.before()),
            text(&self.earlier())
        );
        let foreign = self.query("an earlier database", &foreign).await?;
        if !foreign.trim().is_empty() {
            return Err(DataError::NameTaken { database: foreign.trim().to_owned() });
        }
        Ok(())
    }

    /// Renames the present one away and the staged one to its name.
    pub(super) async fn put(&self) -> Done {
        let (live, before) = (&self.url.database, self.before());
        let found = self.found().await?;
        let room = renamed(found.before, &before, &self.earlier());
        let away = renamed(found.live, live, &before);
        let put = renamed(true, &self.staged, live);
        let script = format!("{}BEGIN;\n{room}{away}{put}COMMIT;\n", self.close(live));
        self.query("replacing the live database", &script).await.map(drop)
    }

    /// Renames what was there before to its name; what was put there is staged again.
    pub(super) async fn take_back(&self) -> Done<Undone> {
        let (live, before) = (&self.url.database, self.before());
        let open = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true;\n", name(live));
        let found = self.found().await?;
        // As long as something is staged, a database before is that of an earlier restore.
        if !found.before || (found.live && found.staged) {
            if found.live {
                self.query("letting connections in", &open).await?;
            }
            let is_put = found.live && !found.staged;
            return Ok(if is_put { Undone::NothingBefore } else { Undone::Untouched });
        }
        let away = renamed(found.live, live, &self.staged);
        let back = renamed(true, &before, live);
        let room = renamed(found.earlier, &self.earlier(), &before);
        let close = if found.live { self.close(live) } else { String::new() };
        let script = format!("{close}BEGIN;\n{away}{back}{room}COMMIT;\n{open}");
        self.query("bringing the live database back", &script).await?;
        Ok(Undone::Back)
    }

    /// The one that was there before, if one was.
    pub(super) async fn displaced(&self) -> Done<Option<String>> {
        Ok(self.found().await?.before.then(|| self.before()))
    }

    /// Whether a database lets clients in.
    pub(super) async fn let_in(&self, database: &str, lets: bool) -> Done {
        let script = format!("ALTER DATABASE {} ALLOW_CONNECTIONS {lets};\n", name(database));
        self.query("letting connections in", &script).await.map(drop)
    }

    /// From here on the one before is only kept: it can be looked at, and the next restore drops it. That
    /// of the restore before this one goes.
    pub(super) async fn let_go(&self) -> Done {
        let before = self.before();
        let found = self.found().await?;
        if found.earlier {
            discard(self.context, self.url, &self.earlier()).await?;
        }
        if !found.before {
            return Ok(());
        }
        let comment = format!("{MARK}{} as it was before its restore", self.url.database);
        let script = format!(
            "COMMENT ON DATABASE {before} IS {};\nALTER DATABASE {before} ALLOW_CONNECTIONS true;\n",
            text(&comment),
            before = name(&before)
        );
        self.query("keeping the database before", &script).await.map(drop)
    }

    /// Nobody comes in any more, and who is in is sent away: other clients connect again at once.
    fn close(&self, live: &str) -> String {
        format!(
            "SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS false', datname) FROM pg_database \
             WHERE datname = {live} \\gexec\n\
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {live} AND pid \
             <> pg_backend_pid();\n",
            live = text(live)
        )
    }

    async fn found(&self) -> Done<Found> {
        let is_there = |name: &str| {
            format!("EXISTS (SELECT 1 FROM pg_database WHERE datname = {})", text(name))
        };
        let all = [&self.url.database, &self.before(), &self.earlier(), &self.staged]
            .map(|name| is_there(name));
        let said = self.query("the databases", &format!("SELECT {}", all.join(", "))).await?;
        let mut found = said.trim().split('|').map(|word| word == "t");
        let mut next = || found.next().unwrap_or_default();
        Ok(Found { live: next(), before: next(), earlier: next(), staged: next() })
    }

    async fn query(&self, what: &str, script: &str) -> Done<String> {
        psql(self.context, self.url, self.url.maintenance(), what, script).await
    }

    /// Where the present one stays.
    fn before(&self) -> String {
        beside(&self.url.database, BEFORE)
    }

    /// Where the one of an earlier restore is until this one is proven.
    fn earlier(&self) -> String {
        beside(&self.url.database, EARLIER)
    }
}

/// A statement, where the database is there.
fn renamed(is_there: bool, from: &str, to: &str) -> String {
    if !is_there {
        return String::new();
    }
    format!("ALTER DATABASE {} RENAME TO {};\n", name(from), name(to))
}

/// The name under which a database stays that is replaced: never so long that it would be cut.
fn beside(live: &str, ending: &str) -> String {
    let name = format!("{live}{ending}");
    if name.len() <= NAME_BYTES_MAX {
        return name;
    }
    let mut crc = flate2::Crc::new();
    crc.update(live.as_bytes());
    let ending = format!("_{:08x}{ending}", crc.sum());
    let mut length = NAME_BYTES_MAX - ending.len();
    while !live.is_char_boundary(length) {
        length -= 1;
    }
    format!("{}{ending}", &live[..length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_stays_under_a_name_that_is_not_cut() {
        assert_eq!(beside("app", BEFORE), "app_before_restore");
        let long = |end: &str| beside(&("é".repeat(26) + end), BEFORE);
        assert!(long("aaaaaaaaaaa").len() <= NAME_BYTES_MAX);
        assert_ne!(long("aaaaaaaaaaa"), long("aaaaaaaaaab"));
        assert!(long("aaaaaaaaaaa").ends_with(BEFORE));
    }
}
