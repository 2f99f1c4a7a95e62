//! PostgreSQL's own tools, as the driver and its parts call them.

use crate::supervisor::data::context::Context;
use crate::supervisor::data::driver::Done;
use crate::supervisor::data::drivers::postgres_url::Url;

/// A backup's file with the dump.
pub(super) const DUMP: &str = "dump.pgc";
/// One row a line, and the first error ends it.
const PSQL: [&str; 7] = ["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"];

/// What a script prints.
pub(super) async fn psql(
    context: &Context<'_>,
    url: &Url,
    database: &str,
    name: &str,
    script: &str,
) -> Done<String> {
    let ended = context.run(name, &PSQL, url.env(database), Some(script.to_owned())).await?;
    Ok(ended.output)
}

/// The same; its answer is in no log.
pub(super) async fn psql_quiet(
    context: &Context<'_>,
    url: &Url,
    database: &str,
    name: &str,
    script: &str,
) -> Done<String> {
    let script = Some(script.to_owned());
    Ok(context.run_quietly(name, &PSQL, url.env(database), script).await?.output)
}

/// Removes what no database is dropped with: prepared transactions, subscriptions, replication slots.
const CLEAR: &str = r"\set ON_ERROR_STOP 0
SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts WHERE database = current_database() \gexec
SELECT format('ALTER SUBSCRIPTION %1$I DISABLE; ALTER SUBSCRIPTION %1$I SET (slot_name = NONE); DROP SUBSCRIPTION %1$I',
 subname) FROM pg_subscription JOIN pg_database d ON d.oid = subdbid WHERE datname = current_database() \gexec
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database();
";

/// Removes the database of a copy; also when it is not there. A template cannot be dropped.
pub(super) async fn discard(context: &Context<'_>, url: &Url, database: &str) -> Done {
    let script = format!(
        "SELECT format('ALTER DATABASE %I IS_TEMPLATE false', datname) FROM pg_database WHERE datname \
         = {} AND datistemplate \\gexec\nDROP DATABASE IF EXISTS {} WITH (FORCE);\n",
        text(database),
        name(database)
    );
    let what = "removing a database";
    if psql(context, url, url.maintenance(), what, &script).await.is_ok() {
        return Ok(());
    }
    // What fails here is told by the second try.
    drop(psql(context, url, database, "clearing a database", CLEAR).await);
    psql(context, url, url.maintenance(), what, &script).await.map(drop)
}

pub(super) fn name(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

pub(super) fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
