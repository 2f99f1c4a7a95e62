//! PostgreSQL's own tools, as the driver and its parts call them.

use crate::supervisor::data::context::Context;
use crate::supervisor::data::driver::Done;
use crate::supervisor::data::drivers::postgres_url::Url;

/// What a script prints.
pub(super) async fn psql(
    context: &Context<'_>,
    url: &Url,
    database: &str,
    name: &str,
    script: &str,
) -> Done<String> {
    let words = ["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"];
    let ended = context.run(name, &words, url.env(database), Some(script.to_owned())).await?;
    Ok(ended.output)
}

/// Removes the database of a copy; also when it is not there.
pub(super) async fn discard(context: &Context<'_>, url: &Url, database: &str) -> Done {
    let words = ["dropdb", "--if-exists", "--force", database];
    context.run("dropdb", &words, url.env(url.maintenance()), None).await.map(drop)
}
