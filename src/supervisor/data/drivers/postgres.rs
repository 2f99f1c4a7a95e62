//! PostgreSQL, with its own `pg_dump` and `pg_restore`. The server's address and the credentials
//! come from the service's URL, and go to the tools by environment: nothing of them is in `ps` or
//! in a log.

use std::path::Path;

use crate::config::backup::postgres::Postgres;
use crate::config::model::Settings;
use crate::core::ordered::Ordered as _;
use crate::keeper::protocol::To;
use crate::store::seal::Hashes;
use crate::supervisor::data::context::{Context, Env};
use crate::supervisor::data::driver::{Counts, Done, Driver, Session, Taken, Trait, Undone};
use crate::supervisor::data::drivers::postgres_exchange::{Exchange, NAME_BYTES_MAX};
use crate::supervisor::data::drivers::postgres_make::Maker;
use crate::supervisor::data::drivers::postgres_tools::{DUMP, discard, psql};
use crate::supervisor::data::drivers::postgres_url::{Url, with_database};
use crate::supervisor::data::drivers::sql_answer::{answered, count};
use crate::supervisor::data::drivers::{
    postgres_backends, postgres_guard, postgres_live, postgres_make, postgres_restore,
};
use crate::supervisor::data::error::DataError;
use crate::supervisor::data::relay::Guard;
use crate::supervisor::data::site::Site;

/// Tables that are not the server's.
const OWN_TABLES: &str = "schemaname NOT IN ('pg_catalog', 'information_schema')";

impl Driver for Postgres {
    fn tools(&self) -> &'static [&'static str] {
        &["pg_dump", "pg_restore", "psql"]
    }

    /// Whether the server is there, and lets the service's role make databases.
    async fn ready(&self, context: &Context<'_>) -> Done {
        let url = Url::of(context, &self.url_env)?;
        let query = "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user";
        match psql(context, &url, &url.database, "querying PostgreSQL", query).await?.trim() {
            "t" => Ok(()),
            _ => Err(DataError::MayNotCopy),
        }
    }

    fn source(&self, context: &Context<'_>) -> Vec<String> {
        context.settings.env.get(&self.url_env).cloned().into_iter().collect()
    }

    async fn take(&self, context: &Context<'_>, dir: &Path) -> Done<Taken> {
        let url = Url::of(context, &self.url_env)?;
        let tables = format!("SELECT count(*) FROM pg_tables WHERE {OWN_TABLES}");
        if psql(context, &url, &url.database, "counting tables", &tables).await?.trim() == "0" {
            return Err(DataError::NoTablesIn { database: url.database });
        }
        let file = format!("--file={}", dir.join(DUMP).display());
        let words = ["pg_dump", "--format=custom", &file];
        context.run("pg_dump", &words, url.env(&url.database), None).await.map_err(told)?;
        Maker { context, url: &url, driver: self, from: dir }.take().await?;
        Ok(Taken::default())
    }

    async fn restore(&self, context: &Context<'_>, from: &Path, site: &Site) -> Done<Hashes> {
        let url = Url::of(context, &self.url_env)?;
        let database = scratch_database(context, site).unwrap_or_else(|| staged(context, from));
        fill(self, context, &url, from, &database).await?;
        Ok(Hashes::default())
    }

    async fn replaceable(&self, context: &Context<'_>) -> Done {
        let url = Url::of(context, &self.url_env)?;
        Exchange { context, url: &url, staged: String::new() }.check().await
    }

    async fn stage(&self, context: &Context<'_>, from: &Path) -> Done {
        let url = Url::of(context, &self.url_env)?;
        let exchange = Exchange { context, url: &url, staged: staged(context, from) };
        exchange.make_ready().await?;
        discard(context, &url, &exchange.staged).await?;
        fill(self, context, &url, from, &exchange.staged).await
    }

    async fn put(&self, context: &Context<'_>, from: &Path) -> Done {
        let url = Url::of(context, &self.url_env)?;
        Exchange { context, url: &url, staged: staged(context, from) }.put().await
    }

    async fn take_back(&self, context: &Context<'_>, from: &Path) -> Done<Undone> {
        let url = Url::of(context, &self.url_env)?;
        Exchange { context, url: &url, staged: staged(context, from) }.take_back().await
    }

    async fn let_go(&self, context: &Context<'_>) -> Done {
        let url = Url::of(context, &self.url_env)?;
        Exchange { context, url: &url, staged: String::new() }.let_go().await
    }

    async fn unstage(&self, context: &Context<'_>, from: &Path) -> Done {
        discard(context, &Url::of(context, &self.url_env)?, &staged(context, from)).await
    }

    async fn inspect(&self, context: &Context<'_>, site: &Site) -> Done<Counts> {
        let url = Url::of(context, &self.url_env)?;
        let database = scratch_database(context, site).unwrap_or_else(|| url.database.clone());
        self.count_in(context, &url, &database).await
    }

    /// It lets nobody in before and after.
    async fn displaced(&self, context: &Context<'_>, _from: &Path) -> Done<(Counts, Vec<String>)> {
        let url = Url::of(context, &self.url_env)?;
        let exchange = Exchange { context, url: &url, staged: String::new() };
        let Some(database) = exchange.displaced().await? else { return Ok(Default::default()) };
        exchange.let_in(&database, true).await?;
        let counted = self.count_in(context, &url, &database).await;
        exchange.let_in(&database, false).await?;
        Ok((counted?, Vec::new()))
    }

    async fn sessions(&self, context: &Context<'_>) -> Done<Option<Vec<Session>>> {
        postgres_backends::sessions(context, &Url::of(context, &self.url_env)?).await.map(Some)
    }

    async fn end_sessions(&self, context: &Context<'_>, ends: &str) -> Done {
        let url = Url::of(context, &self.url_env)?;
        psql(context, &url, url.maintenance(), "ending sessions", ends).await.map(drop)
    }

    async fn lost(&self, context: &Context<'_>, site: &Site) -> Done<Vec<String>> {
        let Some(copy) = scratch_database(context, site) else { return Ok(Vec::new()) };
        postgres_make::lost(context, &Url::of(context, &self.url_env)?, &copy).await
    }

    fn variables(&self, context: &Context<'_>, site: &Site, settings: &Settings) -> Env {
        env(context, settings, &self.url_env, site)
    }

    async fn addresses(&self, context: &Context<'_>) -> Done<Vec<To>> {
        postgres_guard::addresses(context, &self.url_env).await
    }

    async fn guard(&self, context: &Context<'_>, site: &Site, dir: &Path) -> Done<Option<Guard>> {
        let Some(scratch) = scratch_database(context, site) else { return Ok(None) };
        postgres_guard::guard(context, &self.url_env, scratch, dir).await.map(Some)
    }

    async fn traits(&self, context: &Context<'_>) -> Done<Vec<Trait>> {
        postgres_live::traits(context, &Url::of(context, &self.url_env)?).await
    }

    async fn put_back(&self, context: &Context<'_>, before: &[Trait]) -> Done {
        postgres_live::put_back(context, &Url::of(context, &self.url_env)?, before).await
    }

    fn signature(&self, name: &str) -> Env {
        vec![("PGAPPNAME".to_owned(), name.to_owned())]
    }

    async fn settle(&self, context: &Context<'_>, name: &str) -> Done {
        postgres_backends::settle(context, &Url::of(context, &self.url_env)?, name).await
    }

    async fn discard(&self, context: &Context<'_>, site: &Site) -> Done {
        let Some(database) = scratch_database(context, site) else { return Ok(()) };
        discard(context, &Url::of(context, &self.url_env)?, &database).await
    }
}

impl Postgres {
    /// Counts rows, and asks the configured query.
    async fn count_in(&self, context: &Context<'_>, url: &Url, database: &str) -> Done<Counts> {
        let list = format!(
            "SELECT format('SELECT %L || ''|'' || count(*) FROM %I.%I', schemaname || '.' || \
             tablename, schemaname, tablename) FROM pg_tables WHERE {OWN_TABLES} ORDER BY 1 \
             \\gexec\nSELECT 'large objects|' || count(*) FROM pg_largeobject_metadata HAVING count(*) \
             > 0;\n"
        );
        let counted = psql(context, url, database, "counting rows", &list).await?;
        if let Some(query) = &self.query {
            answered(&psql(context, url, database, "backup.query", query).await?)?;
        }
        Ok(counted.lines().filter_map(count).into_map())
    }
}

/// The database of a copy.
fn scratch_name(service: &str, id: &str) -> String {
    let plain = |text: &str| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
    };
    let name = format!("halley_scratch_{}_{}", plain(service), plain(id));
    if name.len() <= NAME_BYTES_MAX {
        return name;
    }
    // Long names with the same beginning stay apart.
    let mut crc = flate2::Crc::new();
    crc.update(service.as_bytes());
    crc.update(id.as_bytes());
    format!("halley_scratch_{:08x}_{}", crc.sum(), &plain(id)[..plain(id).len().min(32)])
}

/// The database that is to take the place of the live one.
fn staged(context: &Context<'_>, from: &Path) -> String {
    let id = from.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    scratch_name(context.service.name.as_str(), &format!("staged{id}"))
}

/// A new database with what a dump holds, otherwise like the live one.
async fn fill(
    driver: &Postgres,
    context: &Context<'_>,
    url: &Url,
    from: &Path,
    database: &str,
) -> Done {
    let maker = Maker { context, url, driver, from };
    let choice = postgres_restore::choose(context, url, from).await?;
    maker.create(database).await?;
    postgres_restore::load(context, url, from, &choice, database).await?;
    maker.furnish(database).await
}

/// Variables that name the live database, with the copy in its place.
fn env(context: &Context<'_>, settings: &Settings, url_env: &str, site: &Site) -> Env {
    let Some(database) = scratch_database(context, site) else { return Vec::new() };
    let Some(live) = settings.env.get(url_env).and_then(|text| Url::parse(text)) else {
        return Vec::new();
    };
    let copied = |(name, value): (&String, &String)| {
        if name == "PGDATABASE" && *value == live.database {
            return Some((name.clone(), database.clone()));
        }
        let is_live = Url::parse(value).is_some_and(|url| url.is_same_database(&live));
        is_live.then(|| Some((name.clone(), with_database(value, &database)?))).flatten()
    };
    settings.env.iter().filter_map(copied).collect()
}

/// The database of a copy, by the name of the copy's directory.
pub(super) fn scratch_database(context: &Context<'_>, site: &Site) -> Option<String> {
    let Site::Scratch { dir, .. } = site else { return None };
    let id = dir.file_name().unwrap_or_default().to_string_lossy();
    Some(scratch_name(context.service.name.as_str(), &id))
}

/// What the server says of rows that it hides is no way out.
fn told(error: DataError) -> DataError {
    match error {
        DataError::Command { ended, .. } if ended.errors.contains("row-level security policy") => {
            DataError::HiddenRows { why: ended.why() }
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::protocol::End;
    use crate::supervisor::tasks::task::Ended;

    #[test]
    fn a_table_whose_rows_are_hidden_has_a_way_out() {
        let errors = "query would be affected by row-level security policy for table \"t\"\n";
        let ended = Ended { end: End::Exited(1), output: String::new(), errors: errors.to_owned() };
        let error = DataError::Command { name: "pg_dump".to_owned(), ended };
        let text = told(error).to_string();
        assert!(text.contains("for table \"t\"\n") && text.contains("BYPASSRLS"), "{text}");
    }

    #[test]
    fn a_copy_has_a_name_of_its_own() {
        let name = scratch_name("my-web", "20261123T191500.123Z-op-0000007");
        assert_eq!(name, "halley_scratch_myweb_20261123t191500123zop0000007");
        let long =
            |end: &str| scratch_name(&("x".repeat(62) + end), "20261123T191500.123Z-by-context");
        assert!(long("a").len() <= 63 && long("a") != long("b"));
    }
}
