//! SQLite, with its own `sqlite3`: a copy through the backup API, within one read transaction, so
//! that it is of one moment and comes to an end however much is written meanwhile (without the
//! transaction every write by another process begins the copy again).

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::config::backup::sqlite::Sqlite;
use crate::os::beneath::{self, Dir};
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
        let read = Dir::open(dir)
            .and_then(|dir| dir.file(COPY))
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
        if let (Site::Scratch { dir, .. }, Some(parent)) = (site, to.parent()) {
            context.own_below(dir, parent).map_err(&system)?;
        }
        let owner = context.owner();
        let live = to.clone();
        on_thread(move || put(&from, &live, owner)).await.map_err(&system)
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

/// Puts a copy of a file in the place of another, durably, with that one's mode. It is written to a
/// name that is new and cannot be guessed, and given away before it has the name that is known.
fn put(from: &Path, to: &Path, owner: Option<(u32, u32)>) -> std::io::Result<()> {
    let (backup, copy) = Dir::parent(from)?;
    let (dir, name) = Dir::holder(to)?;
    let (made, file) = dir.create_unguessable(&joined(&joined(".".as_ref(), &name), "."), 0o600)?;
    let filled = || {
        beneath::fill(&file, &backup.file(&copy)?)?;
        if let Ok(live) = dir.file(&name) {
            file.set_permissions(live.metadata()?.permissions())?;
        }
        if let Some((user, group)) = owner {
            beneath::give(&file, (Some(user), Some(group)))?;
        }
        file.sync_all()?;
        // A journal that belongs to the database before would be played into this one.
        for suffix in ["-wal", "-shm", "-journal"] {
            dir.remove_file(&joined(&name, suffix))?;
        }
        dir.rename(&made, &dir, &name)?;
        dir.sync()
    };
    filled().inspect_err(|_| drop(dir.remove_file(&made)))
}

fn joined(name: &OsStr, ending: impl AsRef<OsStr>) -> OsString {
    let mut name = name.to_owned();
    name.push(ending);
    name
}

async fn sqlite(context: &Context<'_>, name: &str, file: &Path, script: String) -> Done<String> {
    let file = file.to_string_lossy();
    let words = ["sqlite3", "-batch", "-bail", "-noheader", "-list", file.as_ref()];
    context.run(name, &words, Vec::new(), Some(script)).await.map(|ended| ended.output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::beneath::tests::{UID, World};

    #[test]
    fn a_restore_writes_through_nothing_that_its_user_planted() {
        let Some(world) = World::new() else { return };
        let secret = world.roots.join("secret");
        for name in [COPY, "app.db", "app.db.restored", ".app.db.restored", "app.db-wal"] {
            world.link(name, &secret);
        }
        world.link("moved", &world.roots);
        std::fs::write(world.roots.join(COPY), "data").unwrap();
        let (from, owner) = (world.roots.join(COPY), Some((UID, UID)));
        // The name is a link to root's file; the directory is one to root's directory; and the
        // backup itself was exchanged.
        for (from, to) in [
            (&from, world.users.join("app.db")),
            (&from, world.users.join("moved/app.db")),
            (&world.users.join(COPY), world.users.join("new.db")),
        ] {
            assert!(put(from, &to, owner).is_err(), "{}", to.display());
        }
        let to = world.users.join("live.db");
        for suffix in [".restored", "-wal", "-journal"] {
            world.link(&format!("live.db{suffix}"), &secret);
        }
        put(&from, &to, owner).unwrap();
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "data");
        assert!(std::fs::symlink_metadata(world.users.join("live.db-wal")).is_err());
        assert!(world.is_untouched() && !world.roots.join("app.db").exists());
        let left = std::fs::read_dir(&world.users).unwrap().flatten();
        assert_eq!(left.filter(|e| e.file_name().len() > 18).count(), 0, "no copy is left");
    }
}
