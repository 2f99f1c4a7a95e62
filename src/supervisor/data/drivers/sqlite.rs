//! SQLite, with its own `sqlite3`: a copy through the backup API, within one read transaction, so
//! that it is of one moment and comes to an end however much is written meanwhile (without the
//! transaction every write by another process begins the copy again).

use std::path::{Path, PathBuf};

use crate::config::backup::sqlite::Sqlite;
use crate::config::model::Settings;
use crate::os::fs;
use crate::supervisor::data::context::{Context, Env, on_thread};
use crate::supervisor::data::driver::{Counts, Driver, Work};
use crate::supervisor::data::drivers::sql_answer;
use crate::supervisor::data::site::Site;

/// How long its commands wait for a writer's lock.
const BUSY_MS: u32 = 30_000;
/// What every database file begins with (SQLite file format, 1.3).
const MAGIC: &[u8] = b"SQLite format 3\0";
const COPY: &str = "copy.db";

impl Driver for Sqlite {
    fn tools(&self) -> &'static [&'static str] {
        &["sqlite3"]
    }

    fn live_bytes(&self, shared: &Path) -> Option<u64> {
        Some(shared.join(&self.path).metadata().ok()?.len())
    }

    fn take<'a>(&'a self, context: &'a Context<'_>, dir: &'a Path) -> Work<'a, ()> {
        Box::pin(take(context, &self.path, dir))
    }

    fn restore<'a>(
        &'a self,
        context: &'a Context<'_>,
        from: &'a Path,
        site: &'a Site,
    ) -> Work<'a, ()> {
        Box::pin(restore(context, &self.path, from, site))
    }

    fn inspect<'a>(&'a self, context: &'a Context<'_>, site: &'a Site) -> Work<'a, Counts> {
        Box::pin(inspect(context, &self.path, self.query.as_deref(), site))
    }

    fn env(&self, context: &Context<'_>, site: &Site, settings: &Settings) -> Env {
        context.env(site, settings, Some(&self.path), Env::new())
    }
}

async fn take(context: &Context<'_>, path: &Path, dir: &Path) -> Result<(), String> {
    let live = context.path(&Site::Live, path);
    if !live.is_file() {
        return Err(format!("{}: there is no database (backup.path)", live.display()));
    }
    let copy = dir.join(COPY);
    let script = format!(
        ".timeout {BUSY_MS}\nBEGIN;\nSELECT count(*) FROM sqlite_schema;\n.backup main '{}'\nCOMMIT;\n",
        copy.display()
    );
    sqlite(context, "backup", &live, script).await?;
    let mut start = [0; MAGIC.len()];
    let read = std::fs::File::open(&copy)
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut start));
    match read {
        Ok(()) if start == MAGIC => Ok(()),
        _ => Err("sqlite3 reported success, but wrote no database".to_owned()),
    }
}

async fn restore(
    context: &Context<'_>,
    path: &Path,
    from: &Path,
    site: &Site,
) -> Result<(), String> {
    let to = context.path(site, path);
    let from = from.join(COPY);
    let system = |error: std::io::Error| format!("{}: {error}", to.display());
    if let Some(parent) = to.parent() {
        own_dirs(context, site, parent).map_err(system)?;
    }
    let beside = named(&to, ".restored");
    let (copy, live) = (beside.clone(), to.clone());
    on_thread(move || {
        std::fs::copy(&from, &copy)?;
        if let Ok(meta) = live.metadata() {
            std::fs::set_permissions(&copy, meta.permissions())?;
        }
        std::fs::File::open(&copy)?.sync_all()
    })
    .await?;
    context.give(&beside).map_err(system)?;
    // A journal that belongs to the database before would be played into this one.
    for suffix in ["-wal", "-shm", "-journal"] {
        match std::fs::remove_file(named(&to, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(system(error));
            }
            _ => {}
        }
    }
    std::fs::rename(&beside, &to).map_err(system)?;
    to.parent().map_or(Ok(()), fs::sync_dir).map_err(system)
}

/// Directories of a copy belong to the service's user.
fn own_dirs(context: &Context<'_>, site: &Site, dir: &Path) -> std::io::Result<()> {
    let Site::Scratch { dir: top } = site else { return Ok(()) };
    std::fs::create_dir_all(dir)?;
    let mut below = dir.ancestors().take_while(|above| above.starts_with(top));
    below.try_for_each(|above| context.give(above))
}

fn named(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

async fn inspect(
    context: &Context<'_>,
    path: &Path,
    query: Option<&str>,
    site: &Site,
) -> Result<Counts, String> {
    let file = context.path(site, path);
    let list = "SELECT 'SELECT ' || quote(name || '|') || ' || count(*) FROM \"' || \
                replace(name, '\"', '\"\"') || '\";' FROM sqlite_schema WHERE type = 'table' \
                AND name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY name;\n";
    let script = format!(".timeout {BUSY_MS}\nPRAGMA integrity_check;\n{list}");
    let said = sqlite(context, "integrity_check", &file, script).await?;
    let Some(rest) = said.trim_start().strip_prefix("ok\n").or((said.trim() == "ok").then_some(""))
    else {
        return Err(format!("integrity_check: {}", said.lines().next().unwrap_or("nothing")));
    };
    let counted = sqlite(context, "counting rows", &file, rest.to_owned()).await?;
    let counts = counted.lines().filter_map(sql_answer::count).collect();
    if let Some(query) = query {
        sql_answer::answered(&sqlite(context, "backup.query", &file, query.to_owned()).await?)?;
    }
    Ok(counts)
}

async fn sqlite(
    context: &Context<'_>,
    name: &str,
    file: &Path,
    script: String,
) -> Result<String, String> {
    let file = file.to_string_lossy();
    let words = ["sqlite3", "-batch", "-bail", "-noheader", "-list", file.as_ref()];
    context.run(name, &words, Vec::new(), Some(script)).await.map(|ended| ended.output)
}
