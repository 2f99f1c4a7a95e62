//! SQLite, with its own `sqlite3`: a copy through the backup API, within one read transaction, so
//! that it is of one moment and comes to an end however much is written meanwhile (without the
//! transaction every write by another process begins the copy again).

use std::path::{Path, PathBuf};

use crate::config::backup::sqlite::Sqlite;
use crate::os::fs;
use crate::supervisor::data::context::{Context, on_thread};
use crate::supervisor::data::driver::{Counts, Done, Driver, Place};
use crate::supervisor::data::drivers::sql_answer;
use crate::supervisor::data::error::DataError;
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

    async fn take(&self, context: &Context<'_>, dir: &Path) -> Done {
        let live = context.path(&Site::Live, &self.path);
        if !live.is_file() {
            return Err(DataError::Missing { path: live });
        }
        let copy = dir.join(COPY);
        let script = format!(
            ".timeout {BUSY_MS}\nBEGIN;\nSELECT count(*) FROM sqlite_schema;\n.backup main '{}'\n\
             COMMIT;\n",
            copy.display()
        );
        let n_tables = sqlite(context, "backup", &live, script).await?;
        if n_tables.trim() == "0" {
            return Err(DataError::NoTables { path: live });
        }
        let mut start = [0; MAGIC.len()];
        let read = std::fs::File::open(&copy)
            .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut start));
        match read {
            Ok(()) if start == MAGIC => Ok(()),
            _ => Err(DataError::Empty { tool: "sqlite3".to_owned(), wrote: "no database" }),
        }
    }

    async fn restore(&self, context: &Context<'_>, from: &Path, site: &Site) -> Done {
        let to = context.path(site, &self.path);
        let from = from.join(COPY);
        let system = DataError::at(&to);
        if let Some(parent) = to.parent() {
            own_dirs(context, site, parent).map_err(&system)?;
        }
        let beside = named(&to, ".restored");
        let (copy, live) = (beside.clone(), to.clone());
        let copied = on_thread(move || {
            std::fs::copy(&from, &copy)?;
            if let Ok(meta) = live.metadata() {
                std::fs::set_permissions(&copy, meta.permissions())?;
            }
            std::fs::File::open(&copy)?.sync_all()
        });
        copied.await.map_err(&system)?;
        context.give(&beside).map_err(&system)?;
        // A journal that belongs to the database before would be played into this one.
        for suffix in ["-wal", "-shm", "-journal"] {
            match std::fs::remove_file(named(&to, suffix)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(system(error));
                }
                _ => {}
            }
        }
        std::fs::rename(&beside, &to).map_err(&system)?;
        to.parent().map_or(Ok(()), fs::sync_dir).map_err(&system)
    }

    async fn inspect(&self, context: &Context<'_>, site: &Site) -> Done<Counts> {
        let file = context.path(site, &self.path);
        let list = "SELECT 'SELECT ' || quote(name || '|') || ' || count(*) FROM \"' || \
                    replace(name, '\"', '\"\"') || '\";' FROM sqlite_schema WHERE type = 'table' \
                    AND name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY name;\n";
        let script = format!(".timeout {BUSY_MS}\nPRAGMA integrity_check;\n{list}");
        let said = sqlite(context, "integrity_check", &file, script).await?;
        let rest = said.trim_start().strip_prefix("ok\n").or((said.trim() == "ok").then_some(""));
        let Some(rest) = rest else {
            let said = said.lines().next().unwrap_or("nothing").to_owned();
            return Err(DataError::NotWhole { said });
        };
        let counted = sqlite(context, "counting rows", &file, rest.to_owned()).await?;
        let counts = counted.lines().filter_map(sql_answer::count).collect();
        if let Some(query) = &self.query {
            sql_answer::answered(&sqlite(context, "backup.query", &file, query.clone()).await?)?;
        }
        Ok(counts)
    }

    fn place(&self) -> Option<Place<'_>> {
        Some(Place::File(&self.path))
    }
}

/// Directories of a copy belong to the service's user.
fn own_dirs(context: &Context<'_>, site: &Site, dir: &Path) -> std::io::Result<()> {
    let Site::Scratch { dir: top, .. } = site else { return Ok(()) };
    std::fs::create_dir_all(dir)?;
    let mut below = dir.ancestors().take_while(|above| above.starts_with(top));
    below.try_for_each(|above| context.give(above))
}

fn named(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

async fn sqlite(context: &Context<'_>, name: &str, file: &Path, script: String) -> Done<String> {
    let file = file.to_string_lossy();
    let words = ["sqlite3", "-batch", "-bail", "-noheader", "-list", file.as_ref()];
    context.run(name, &words, Vec::new(), Some(script)).await.map(|ended| ended.output)
}
