//! Anything else, by commands: `take` fills `HALLEY_BACKUP_DIR`, `restore` brings it to
//! `HALLEY_SHARED`, which is a scratch directory in a rehearsal, and `check` reports whether the
//! data there is whole.

use std::path::Path;

use crate::config::backup::command::Command;
use crate::supervisor::data::context::{Context, Env};
use crate::supervisor::data::driver::{Counts, Driver, Work};
use crate::supervisor::data::site::Site;

const DIR: &str = "HALLEY_BACKUP_DIR";

impl Driver for Command {
    fn take<'a>(&'a self, context: &'a Context<'_>, dir: &'a Path) -> Work<'a, ()> {
        Box::pin(take(context, &self.take, dir))
    }

    fn restore<'a>(
        &'a self,
        context: &'a Context<'_>,
        from: &'a Path,
        site: &'a Site,
    ) -> Work<'a, ()> {
        Box::pin(restore(context, &self.restore, from, site))
    }

    fn inspect<'a>(&'a self, context: &'a Context<'_>, site: &'a Site) -> Work<'a, Counts> {
        Box::pin(inspect(context, self.check.as_deref(), site))
    }
}

async fn take(context: &Context<'_>, words: &[String], dir: &Path) -> Result<(), String> {
    run(context, "backup.take", words, vec![variable(dir)]).await
}

async fn restore(
    context: &Context<'_>,
    words: &[String],
    from: &Path,
    site: &Site,
) -> Result<(), String> {
    let mut env = context.env(site, &context.settings, None, Env::new());
    env.push(variable(from));
    run(context, "backup.restore", words, env).await
}

async fn inspect(
    context: &Context<'_>,
    words: Option<&[String]>,
    site: &Site,
) -> Result<Counts, String> {
    if let Some(words) = words {
        let env = context.env(site, &context.settings, None, Env::new());
        run(context, "backup.check", words, env).await?;
    }
    Ok(Counts::new())
}

async fn run(context: &Context<'_>, name: &str, words: &[String], env: Env) -> Result<(), String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    context.run(name, &words, env, None).await.map(drop)
}

fn variable(dir: &Path) -> (String, String) {
    (DIR.to_owned(), dir.to_string_lossy().into_owned())
}
