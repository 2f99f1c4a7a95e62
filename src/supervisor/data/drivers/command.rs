//! Anything else, by commands: `take` fills `HALLEY_BACKUP_DIR`, `restore` brings it to
//! `HALLEY_SHARED`, which is a scratch directory in a rehearsal, and `check` reports whether the
//! data there is whole.

use std::path::Path;

use crate::config::backup::command::Command;
use crate::supervisor::data::context::{Context, Env};
use crate::supervisor::data::driver::{Counts, Done, Driver};
use crate::supervisor::data::site::Site;

const DIR: &str = "HALLEY_BACKUP_DIR";

impl Driver for Command {
    async fn take(&self, context: &Context<'_>, dir: &Path) -> Done {
        run(context, "backup.take", &self.take, vec![variable(dir)]).await
    }

    async fn restore(&self, context: &Context<'_>, from: &Path, site: &Site) -> Done {
        let mut env = context.env(site, &context.settings, None, Env::new());
        env.push(variable(from));
        run(context, "backup.restore", &self.restore, env).await
    }

    async fn inspect(&self, context: &Context<'_>, site: &Site) -> Done<Counts> {
        if let Some(words) = &self.check {
            let env = context.env(site, &context.settings, None, Env::new());
            run(context, "backup.check", words, env).await?;
        }
        Ok(Counts::new())
    }
}

async fn run(context: &Context<'_>, name: &str, words: &[String], env: Env) -> Done {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    context.run(name, &words, env, None).await.map(drop)
}

fn variable(dir: &Path) -> (String, String) {
    (DIR.to_owned(), dir.to_string_lossy().into_owned())
}
