//! MariaDB and MySQL, with MariaDB's own `mariadb-dump` and `mariadb`. The password goes to the tools
//! by environment.
//!
//! A connection may use every database that its user may: a copy belongs to a user of its own
//! (`rehearse_url_env`), which the server lets work on copies alone. What runs with the rights of
//! whoever made it (views, triggers, routines, events) is made by that user on a copy.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::backup::mariadb::MariaDb;
use crate::config::model::Settings;
use crate::core::ordered::Ordered as _;
use crate::keeper::protocol::To;
use crate::store::seal::Hashes;
use crate::supervisor::data::context::{Context, Env};
use crate::supervisor::data::driver::{Counts, Done, Driver, Session, Taken, Undone};
use crate::supervisor::data::drivers::mariadb_backends;
use crate::supervisor::data::drivers::mariadb_dump::{
    DATA, PROGRAMS, ask, charset, dump_data, dump_programs, name, read, source, text,
    without_definers,
};
use crate::supervisor::data::drivers::mariadb_exchange::{Exchange, MARK};
use crate::supervisor::data::drivers::mariadb_guard;
use crate::supervisor::data::drivers::mariadb_url::{Url, copied};
use crate::supervisor::data::drivers::postgres::scratch_database;
use crate::supervisor::data::drivers::sql_answer::{answered, count};
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::relay::Guard;
use crate::supervisor::data::site::Site;

/// Variables with their values.
type Variables = BTreeMap<String, String>;

/// Statements that remove what was made beside copies by what ran on them: copies have a time in their
/// names.
const OTHERS: &str = r"SELECT CONCAT('DROP DATABASE `', REPLACE(schema_name, '`', '``'), '`;') FROM
 information_schema.schemata WHERE schema_name LIKE 'halley\_scratch\_%' AND schema_name NOT RLIKE
 '[0-9]{8}t[0-9]{6}';
";
/// Tables that hold rows of their own.
const WITH_ROWS: &str = "table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')";

impl Driver for MariaDb {
    fn tools(&self) -> &'static [&'static str] {
        &["mariadb", "mariadb-dump"]
    }

    /// Whether the server is there, and the user of copies can do no harm.
    async fn ready(&self, context: &Context<'_>) -> Done {
        let (live, copies) = self.urls(context)?;
        ask(context, &live, &live.database, "querying MariaDB", "SELECT 1;\n").await?;
        mariadb_guard::check_rights(context, &copies, &self.rehearse_url_env).await
    }

    fn source(&self, context: &Context<'_>) -> Vec<String> {
        context.settings.env.get(&self.url_env).cloned().into_iter().collect()
    }

    async fn take(&self, context: &Context<'_>, dir: &Path) -> Done<Taken> {
        let (live, _) = self.urls(context)?;
        dump_data(context, &live, dir).await?;
        dump_programs(context, &live, dir).await?;
        Ok(Taken::default())
    }

    async fn restore(&self, context: &Context<'_>, from: &Path, site: &Site) -> Done<Hashes> {
        let (live, copies) = self.urls(context)?;
        let Some(database) = scratch_database(context, site) else {
            self.stage(context, from).await?;
            return Ok(Hashes::default());
        };
        create(context, &live, &copies, &database).await?;
        source(context, &copies, &database, &from.join(DATA)).await?;
        for name in PROGRAMS {
            let path = from.join(name);
            let Some(script) = read(&path)? else { continue };
            ask(context, &copies, &database, name, &without_definers(&script)).await?;
        }
        Ok(Hashes::default())
    }

    async fn replaceable(&self, context: &Context<'_>) -> Done {
        let (live, _) = self.urls(context)?;
        Exchange { context, live: &live, from: Path::new("") }.check().await
    }

    async fn stage(&self, context: &Context<'_>, from: &Path) -> Done {
        let (live, _) = self.urls(context)?;
        Exchange { context, live: &live, from }.stage().await
    }

    async fn put(&self, context: &Context<'_>, from: &Path) -> Done {
        let (live, _) = self.urls(context)?;
        Exchange { context, live: &live, from }.put().await
    }

    async fn take_back(&self, context: &Context<'_>, from: &Path) -> Done<Undone> {
        let (live, _) = self.urls(context)?;
        Exchange { context, live: &live, from }.take_back().await
    }

    /// It can be looked at until the next restore.
    async fn let_go(&self, _context: &Context<'_>) -> Done {
        Ok(())
    }

    async fn unstage(&self, context: &Context<'_>, from: &Path) -> Done {
        let (live, _) = self.urls(context)?;
        Exchange { context, live: &live, from }.unstage().await
    }

    async fn inspect(&self, context: &Context<'_>, site: &Site) -> Done<Counts> {
        let (live, copies) = self.urls(context)?;
        let (url, database) = match scratch_database(context, site) {
            Some(database) => (copies, database),
            None => (live.clone(), live.database),
        };
        self.count_in(context, &url, &database).await
    }

    async fn displaced(&self, context: &Context<'_>, from: &Path) -> Done<(Counts, Vec<String>)> {
        let (live, _) = self.urls(context)?;
        let displaced = Exchange { context, live: &live, from }.displaced().await?;
        let Some(database) = displaced else { return Ok(Default::default()) };
        Ok((self.count_in(context, &live, &database).await?, Vec::new()))
    }

    /// Those of other users are shown to a user with the right `PROCESS` alone.
    async fn sessions(&self, context: &Context<'_>) -> Done<Option<Vec<Session>>> {
        let (live, _) = self.urls(context)?;
        let query = format!(
            "SELECT CONCAT(id, '|', user, '|', host) FROM information_schema.processlist WHERE db = \
             {} AND id <> CONNECTION_ID();\n",
            text(&live.database)
        );
        let said = ask(context, &live, "", "looking for clients", &query).await?;
        Ok(Some(said.lines().filter_map(|line| session(line, &live)).collect()))
    }

    async fn end_sessions(&self, context: &Context<'_>, ends: &str) -> Done {
        let (live, _) = self.urls(context)?;
        ask(context, &live, "", "ending sessions", ends).await.map(drop)
    }

    fn variables(&self, context: &Context<'_>, site: &Site, settings: &Settings) -> Env {
        let Some(database) = scratch_database(context, site) else { return Env::new() };
        let url = |name: &str| settings.env.get(name).and_then(|text| Url::parse(text));
        match (url(&self.url_env), url(&self.rehearse_url_env)) {
            (Some(live), Some(copies)) => env(&settings.env, &live, &copies, &database),
            _ => Env::new(),
        }
    }

    async fn addresses(&self, context: &Context<'_>) -> Done<Vec<To>> {
        mariadb_guard::addresses(context, &self.urls(context)?.0).await
    }

    async fn guard(&self, context: &Context<'_>, site: &Site, dir: &Path) -> Done<Option<Guard>> {
        if matches!(site, Site::Live) {
            return Ok(None);
        }
        let (live, copies) = self.urls(context)?;
        mariadb_guard::check_rights(context, &copies, &self.rehearse_url_env).await?;
        mariadb_guard::guard(context, &live, &copies, &self.url_env, dir).await.map(Some)
    }

    async fn settle(&self, context: &Context<'_>, _name: &str) -> Done {
        mariadb_backends::settle(context, &self.urls(context)?.0).await
    }

    async fn discard(&self, context: &Context<'_>, site: &Site) -> Done {
        let Some(database) = scratch_database(context, site) else { return Ok(()) };
        let script = format!("DROP DATABASE IF EXISTS {};\n{OTHERS}", name(&database));
        let (_, copies) = self.urls(context)?;
        match ask(context, &copies, "", "removing a copy", &script).await {
            Ok(others) => ask(context, &copies, "", "removing a copy", &others).await.map(drop),
            Err(DataError::Command { ended, .. }) if ended.errors.contains(" 1045 ") => {
                let variable = self.rehearse_url_env.clone();
                Err(DataError::CopiesLockedOut { variable, database, why: ended.why() })
            }
            Err(error) => Err(error),
        }
    }
}

impl MariaDb {
    /// Counts rows, and asks the configured query.
    async fn count_in(&self, context: &Context<'_>, url: &Url, database: &str) -> Done<Counts> {
        let list = format!(
            "SELECT CONCAT('SELECT CONCAT(', QUOTE(CONCAT(REPLACE(table_name, '\\n', ' '), '|')), \
             ', COUNT(*)) FROM `', REPLACE(table_name, '`', '``'), '`;') FROM information_schema.tables WHERE \
             table_schema = DATABASE() AND {WITH_ROWS} AND table_name <> '{MARK}' ORDER BY table_name;\n"
        );
        let script = ask(context, url, database, "listing tables", &list).await?;
        let counted = ask(context, url, database, "counting rows", &script).await?;
        if let Some(query) = &self.query {
            answered(&ask(context, url, database, "backup.query", query).await?)?;
        }
        Ok(counted.lines().filter_map(count).into_map())
    }

    /// The service's own, and the one for copies.
    fn urls(&self, context: &Context<'_>) -> Done<(Url, Url)> {
        let live = Url::of(context, &self.url_env)?;
        let copies = live.with_login_of(&Url::of(context, &self.rehearse_url_env)?);
        if live.database.is_empty() {
            return Err(DataError::BadMariaDbUrl { variable: self.url_env.clone() });
        }
        Ok((live, copies))
    }
}

/// Variables that lead to the copy: URLs, and what names a part of one.
fn env(all: &Variables, live: &Url, copies: &Url, database: &str) -> Env {
    let parts = [
        (&live.user, &copies.user, ["USER", "LOGIN"].as_slice()),
        (&live.password, &copies.password, &["PASS", "PWD"]),
        (&live.database, &database.to_owned(), &["DATABASE", "DB", "NAME", "SCHEMA"]),
    ]
    .map(|(from, to, words)| (from.clone(), to.clone(), words));
    let leads = |(variable, value): (&String, &String)| {
        let upper = variable.to_ascii_uppercase();
        let part = parts.iter().find(|(from, _, words)| {
            from == value && words.iter().any(|word| upper.contains(word))
        });
        let part = part.map(|(_, to, _)| to.clone());
        Some((variable.clone(), part.or_else(|| copied(value, live, copies, database))?))
    };
    all.iter().filter_map(leads).collect()
}

/// A new database of the user of copies, in the place of one that a crash left.
async fn create(context: &Context<'_>, live: &Url, copies: &Url, database: &str) -> Done {
    let charset = charset(context, live).await;
    let name = name(database);
    let script = format!("DROP DATABASE IF EXISTS {name};\nCREATE DATABASE {name}{charset};\n");
    ask(context, copies, "", "creating a database", &script).await.map(drop)
}

/// A client of the database, by its number, user, and host with port (`localhost` over a path).
fn session(line: &str, live: &Url) -> Option<Session> {
    let mut parts = line.splitn(3, '|');
    let (id, user, host) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Session {
        text: format!(
            "a session of {user} in the database {} (processlist, id {id})",
            live.database
        ),
        port: host.rsplit_once(':').and_then(|(_, port)| port.parse().ok()),
        server_port: live.port,
        backend: None,
        end: format!("KILL {id};\n"),
        by_hand: format!("mariadb -e 'KILL {id}'"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_lead_to_the_copy_also_in_parts() {
        let pairs = [
            ("DATABASE_URL", "mysql://web:pw@db/app"),
            ("DB_USER", "web"),
            ("DB_PASSWORD", "pw"),
            ("MYSQL_DATABASE", "app"),
            ("APP", "app"),
            ("WEB", "web"),
        ];
        let env_of = |pairs: &[(&str, &str)]| -> Variables {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let [live, copies] = ["mysql://web:pw@db/app", "mysql://reh:p2@db"].map(Url::parse);
        let led: Variables =
            env(&env_of(&pairs), &live.unwrap(), &copies.unwrap(), "copy").into_iter().collect();
        let expected = [
            ("DATABASE_URL", "mysql://reh:p2@db/copy"),
            ("DB_USER", "reh"),
            ("DB_PASSWORD", "p2"),
            ("MYSQL_DATABASE", "copy"),
        ];
        assert_eq!(led, env_of(&expected));
    }
}
